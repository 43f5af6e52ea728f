"""From validated weights to a model folder: validation at a threshold, averaging, export, hold-out."""
