"""Engines as files: the manifest, the folder, and the cache of this machine."""
