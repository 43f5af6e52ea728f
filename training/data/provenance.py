"""What weights were trained on, as the header of their file says it."""

from __future__ import annotations

from typing import Any


def sources_of(header: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what weights were trained on, in turn; a header that does not say is older than training on studies."""
    old = {"kind": "phantoms", "seeds": header.get("seeds"), "cases": header.get("cases"), "version": None}
    sources: list[dict[str, Any]] = header.get("sources", [old])
    return sources


def learned_from(header: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what weights were trained on, and what their teachers were."""
    taught: list[dict[str, Any]] = header.get("taught_by", [])
    return sources_of(header) + taught
