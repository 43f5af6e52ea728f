"""Real scans without a truth: which of the visible nodes are marked, and what is marked in organs.

No figure of phantoms says whether a network works in people. A folder of scans and a ``visible.json`` beside them do,
as far as eyes go:

    {"<name of a file, without .nii.gz>": {"spots": {"<name>": [[i, j, k], ...]},
                                           "organs": {"<name>": {"low": [i, j, k], "high": [i, j, k]}}}}

Voxels count as in the file. A spot is marked when a labelled voxel lies within 2 voxels in plane and 1 slice of one of
its points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lnfast.card import ModelCard
from lnfast.errors import UsageError
from lnfast.geometry import Volume
from lnfast.matching import NodeMap
from lnfast.study import read_study
from training.fit.validation import find_nodes, predict

THRESHOLDS = (0.5, 0.4, 0.3, 0.2)
SPOTS = "visible.json"
NEAR_XYZ = (2, 2, 1)

Voxel = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class RealScan:
    """A scan and what is visible in it; voxels are ``(i, j, k)`` of the file.

    Attributes:
        volume: the study.
        spots: of each visible node its points.
        organs: of each organ a box, ``(low, high)``, both within it.
    """

    volume: Volume
    spots: tuple[tuple[Voxel, ...], ...]
    organs: tuple[tuple[Voxel, Voxel], ...]


def read_scans(folder: Path, card: ModelCard) -> tuple[RealScan, ...]:
    """Read every scan that ``folder/visible.json`` describes, wherever below the folder it is.

    Raises:
        UsageError: ``bad-spots`` where the file cannot be used, or a scan of it is missing or there twice.
        StudyError: of the first scan that is refused.
    """
    path = folder / SPOTS
    try:
        entries = json.loads(path.read_bytes())
        scans = {name: entry for name, entry in entries.items() if isinstance(entry, dict) and "spots" in entry}
        if not scans:
            raise ValueError("it describes no scan")
        return tuple(_scan(folder, name, entry, card) for name, entry in scans.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError("bad-spots", f"{path} cannot be used ({error}); wanted spots and organs by scan") from error


def count_marks(
    model: nn.Module, scans: Sequence[RealScan], card: ModelCard, precision: str
) -> dict[str, dict[str, int]]:
    """Count what the network marks on real scans, by threshold, summed over the scans.

    Returns:
        By threshold: ``visible`` spots, how many of them are ``marked``, ``other`` marks and ``other_suspicious`` ones
        that belong to no spot, and ``in_organs`` and ``in_organs_suspicious``.
    """
    logits = [predict(model, scan.volume, card, precision) for scan in scans]
    counts: dict[str, dict[str, int]] = {}
    for threshold in THRESHOLDS:
        of_scans = [
            compare_with_visible(scan, find_nodes(array, scan.volume, replace(card, threshold=threshold)))
            for scan, array in zip(scans, logits, strict=True)
        ]
        counts[f"{threshold:g}"] = {name: sum(of[name] for of in of_scans) for name in of_scans[0]}
    return counts


def compare_with_visible(scan: RealScan, marked: NodeMap) -> dict[str, int]:
    """Count the marked nodes of one scan at its visible nodes, in its organs, and elsewhere.

    Args:
        scan: with what is seen.
        marked: nodes on the scan's own grid.
    """
    in_file = marked.labels.array.T
    suspicious = {node.id for node in marked.nodes if node.suspicious}
    at_spots = [set().union(*(_near(in_file, point) for point in points)) for points in scan.spots]
    at_any = set().union(*at_spots)
    in_organs = [_within(in_file, low, high) for low, high in scan.organs]
    return {
        "visible": len(scan.spots),
        "marked": sum(bool(ids) for ids in at_spots),
        "other": len(marked.nodes) - len(at_any),
        "other_suspicious": len(suspicious - at_any),
        "in_organs": sum(map(len, in_organs)),
        "in_organs_suspicious": sum(len(ids & suspicious) for ids in in_organs),
    }


def _scan(folder: Path, name: str, entry: dict[str, Any], card: ModelCard) -> RealScan:
    paths = sorted(folder.rglob(f"{name}.nii.gz"))
    if len(paths) != 1:
        raise ValueError(f"there are {len(paths)} files {name}.nii.gz below the folder, wanted one")
    study = read_study(paths[0], b_targets=card.b_targets, b_range=card.b_range)
    spots = tuple(tuple(_voxel(point) for point in points) for points in entry["spots"].values())
    organs = tuple((_voxel(box["low"]), _voxel(box["high"])) for box in entry.get("organs", {}).values())
    return RealScan(study.volume, spots, organs)


def _voxel(values: Sequence[int]) -> Voxel:
    i, j, k = (int(value) for value in values)
    return i, j, k


def _near(labels: NDArray[np.uint16], point: Voxel) -> set[int]:
    low = tuple(max(at - near, 0) for at, near in zip(point, NEAR_XYZ, strict=True))
    high = tuple(at + near for at, near in zip(point, NEAR_XYZ, strict=True))
    return _within(labels, (low[0], low[1], low[2]), (high[0], high[1], high[2]))


def _within(labels: NDArray[np.uint16], low: Voxel, high: Voxel) -> set[int]:
    box = labels[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    return set(np.unique(box[box > 0]).tolist())
