"""Trains the network on a cohort and turns the weights into a model folder; imports lnfast, is never imported by it."""
