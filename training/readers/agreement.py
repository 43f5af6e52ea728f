"""Reader against reader: Dice as in the paper (mean and standard deviation over cases), and nodes that both have."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.matching import dice
from lnfast_ext import label_components

READERS_SCHEMA = "lnfast.readers/1"


@dataclass(frozen=True)
class Agreement:
    """Two readers of one case. A node is a 26-connected component of a mask.

    Attributes:
        case: its name.
        one, other: names of the readers.
        dice: of all voxels; None when both masks are empty.
        nodes_one, nodes_other: of each.
        shared_one, shared_other: of these, those that a node of the other touches.
    """

    case: str
    one: str
    other: str
    dice: float | None
    nodes_one: int
    nodes_other: int
    shared_one: int
    shared_other: int


@dataclass(frozen=True)
class PairSummary:
    """Two readers over all cases.

    Attributes:
        one, other: names of the readers.
        cases: how many.
        undefined: of these, without any node of either; they are in no mean.
        dice_mean, dice_sd: over the cases with a Dice, None without any; the deviation is that of a sample, None below
            two cases.
        nodes_one, nodes_other, shared_one, shared_other: sums.
    """

    one: str
    other: str
    cases: int
    undefined: int
    dice_mean: float | None
    dice_sd: float | None
    nodes_one: int
    nodes_other: int
    shared_one: int
    shared_other: int


def compare_readers(case: str, readers: Sequence[str], masks: Sequence[NDArray[np.bool_]]) -> tuple[Agreement, ...]:
    """Every two readers of one case, in the order in which the readers were given.

    Args:
        case: its name.
        readers: their names.
        masks: one a reader, ``(z, y, x)`` of one shape.
    """
    nodes = [label_components(mask) for mask in masks]
    rows = []
    for i, j in combinations(range(len(readers)), 2):
        both = masks[i] & masks[j]
        (labels_i, count_i), (labels_j, count_j) = nodes[i], nodes[j]
        shared_i, shared_j = len(np.unique(labels_i[both])), len(np.unique(labels_j[both]))
        overlap = dice(masks[i], masks[j])
        rows.append(Agreement(case, readers[i], readers[j], overlap, count_i, count_j, shared_i, shared_j))
    return tuple(rows)


def summarize(rows: Sequence[Agreement]) -> tuple[PairSummary, ...]:
    """Every pair over its cases."""
    pairs: dict[tuple[str, str], list[Agreement]] = {}
    for row in rows:
        pairs.setdefault((row.one, row.other), []).append(row)
    return tuple(_summary(one, other, group) for (one, other), group in pairs.items())


def _summary(one: str, other: str, group: Sequence[Agreement]) -> PairSummary:
    known = [row.dice for row in group if row.dice is not None]
    mean = math.fsum(known) / len(known) if known else None
    spread = None
    if mean is not None and len(known) > 1:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    sums = (sum(getattr(row, name) for row in group) for name in _COUNTS)
    return PairSummary(one, other, len(group), len(group) - len(known), mean, spread, *sums)


_COUNTS = ("nodes_one", "nodes_other", "shared_one", "shared_other")


def to_dict(rows: Sequence[Agreement]) -> dict[str, Any]:
    """As ``readers.json`` has it."""
    return {
        "schema": READERS_SCHEMA,
        "pairs": [asdict(pair) for pair in summarize(rows)],
        "cases": [asdict(row) for row in rows],
    }


def to_csv(rows: Sequence[Agreement]) -> str:
    """As ``readers.csv`` has it: a row a case and pair; no Dice is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.name for column in fields(Agreement)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
