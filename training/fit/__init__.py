"""One training run: Lightning's loop, checkpoints, validation, and everything that a run folder holds."""
