"""The version of the installed package, read from its own metadata."""

from __future__ import annotations

from importlib import metadata

__version__ = metadata.version("lnfast")
