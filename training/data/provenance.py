"""What trained weights were learned from, as the header of their file says it."""

from __future__ import annotations

from typing import Any


def sources_of(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """What a snapshot was trained on, in turn; one that does not say so is older than training on studies."""
    old = {"kind": "phantoms", "seeds": meta.get("seeds"), "cases": meta.get("cases"), "version": None}
    sources: list[dict[str, Any]] = meta.get("sources", [old])
    return sources


def learned_from(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """What a snapshot knows: what it was trained on, and what its teacher was."""
    taught: list[dict[str, Any]] = meta.get("taught_by", [])
    return sources_of(meta) + taught
