"""Agreement of readers: Dice as in the paper (mean and standard deviation over cases), and shared nodes."""

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
class ReaderAgreement:
    """Two readers of one case. A node is a 26-connected component of a mask.

    Attributes:
        case: its name.
        first, second: names of the readers.
        dice: of all voxels; None when both masks are empty.
        nodes_first, nodes_second: of each.
        shared_first, shared_second: of these, those that a node of the other reader touches.
    """

    case: str
    first: str
    second: str
    dice: float | None
    nodes_first: int
    nodes_second: int
    shared_first: int
    shared_second: int


@dataclass(frozen=True)
class PairSummary:
    """Two readers over all cases.

    Attributes:
        first, second: names of the readers.
        cases: how many.
        undefined: of these, without any node of either; they are in no mean.
        dice_mean, dice_sd: over the cases with a Dice, None without any; the deviation is that of a sample, None below
            two cases.
        nodes_first, nodes_second, shared_first, shared_second: sums.
    """

    first: str
    second: str
    cases: int
    undefined: int
    dice_mean: float | None
    dice_sd: float | None
    nodes_first: int
    nodes_second: int
    shared_first: int
    shared_second: int


def compare_readers(
    case: str, readers: Sequence[str], masks: Sequence[NDArray[np.bool_]]
) -> tuple[ReaderAgreement, ...]:
    """Compare every two readers of one case, in the order of the readers.

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
        rows.append(ReaderAgreement(case, readers[i], readers[j], overlap, count_i, count_j, shared_i, shared_j))
    return tuple(rows)


def summarize(rows: Sequence[ReaderAgreement]) -> tuple[PairSummary, ...]:
    """Summarize every pair of readers over its cases."""
    pairs: dict[tuple[str, str], list[ReaderAgreement]] = {}
    for row in rows:
        pairs.setdefault((row.first, row.second), []).append(row)
    return tuple(_summary(first, second, group) for (first, second), group in pairs.items())


def _summary(first: str, second: str, group: Sequence[ReaderAgreement]) -> PairSummary:
    known = [row.dice for row in group if row.dice is not None]
    mean = math.fsum(known) / len(known) if known else None
    spread = None
    if mean is not None and len(known) > 1:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    sums = (sum(getattr(row, name) for row in group) for name in _COUNTS)
    return PairSummary(first, second, len(group), len(group) - len(known), mean, spread, *sums)


_COUNTS = ("nodes_first", "nodes_second", "shared_first", "shared_second")


# The names of columns in readers.json and readers.csv, where they are not the attributes' own.
_COLUMN_NAMES = {
    "first": "one",
    "second": "other",
    "nodes_first": "nodes_one",
    "nodes_second": "nodes_other",
    "shared_first": "shared_one",
    "shared_second": "shared_other",
}


def to_dict(rows: Sequence[ReaderAgreement]) -> dict[str, Any]:
    """Return the content of ``readers.json``."""
    return {
        "schema": READERS_SCHEMA,
        "pairs": [_columns(pair) for pair in summarize(rows)],
        "cases": [_columns(row) for row in rows],
    }


def to_csv(rows: Sequence[ReaderAgreement]) -> str:
    """Return the content of ``readers.csv``: a row for each case and pair; a Dice of None is an empty cell."""
    text = io.StringIO()
    names = [_COLUMN_NAMES.get(column.name, column.name) for column in fields(ReaderAgreement)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_columns(row) for row in rows)
    return text.getvalue()


def _columns(row: ReaderAgreement | PairSummary) -> dict[str, Any]:
    return {_COLUMN_NAMES.get(name, name): value for name, value in asdict(row).items()}
