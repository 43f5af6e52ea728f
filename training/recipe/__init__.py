"""What a run is before any case is read: presets, run settings, and the card that fixes the model grid."""
