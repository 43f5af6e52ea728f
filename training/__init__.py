"""Trains the network on a cohort and turns the weights into a model folder; imports lnfast, is never imported by it.

A module imports only from those above it in this list; tests/training/test_training_layers.py proves it.

    console, json_file  a line for a person on standard error; a JSON file, whole or absent
    recipe              presets, run settings, the card that fixes the model grid
    data, readers       cases and batches; several readers' consensus
    model               networks, losses, weights files
    fit                 one training run
    release             validated weights -> model folder
    data_commands, __main__   command line
"""
