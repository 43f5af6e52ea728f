"""The files that an installation begins with, as text: the unit of systemd and a commented node.toml."""

from __future__ import annotations

from importlib.resources import files


def unit_text() -> str:
    """Return the unit ``lnfast-node.service``."""
    return _text("lnfast-node.service")


def example_text() -> str:
    """Return a node.toml with every key, its default and its meaning."""
    return _text("node.toml")


def _text(name: str) -> str:
    return files("lnfast.node.config").joinpath(name).read_text(encoding="utf-8")
