"""What trained weights were learned from, as the header of their file says it."""

from __future__ import annotations

from typing import Any


def sources_of(header: dict[str, Any]) -> list[dict[str, Any]]:
    """What a snapshot was trained on, in turn; one that does not say so is older than training on studies."""
    old = {"kind": "phantoms", "seeds": header.get("seeds"), "cases": header.get("cases"), "version": None}
    sources: list[dict[str, Any]] = header.get("sources", [old])
    return sources


def learned_from(header: dict[str, Any]) -> list[dict[str, Any]]:
    """What a snapshot knows: what it was trained on, and what its teacher was."""
    taught: list[dict[str, Any]] = header.get("taught_by", [])
    return sources_of(header) + taught
