"""Other implementations of the same work, around the same weights."""
