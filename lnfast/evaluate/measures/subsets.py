"""The subsets of nodes that the paper reports on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lnfast.measure import LymphNode, largest

Subset = Literal["all", "suspicious", "largest"]
SUBSETS: tuple[Subset, ...] = ("all", "suspicious", "largest")


def select(nodes: Sequence[LymphNode], subset: Subset) -> list[LymphNode]:
    """Return the nodes of a subset; ``largest`` is one node, the greatest short axis, ties by volume; or none."""
    if subset == "all":
        return list(nodes)
    if subset == "suspicious":
        return [node for node in nodes if node.suspicious]
    node = largest(nodes)
    return [] if node is None else [node]
