"""The networks, their losses, and trained weights as files."""
