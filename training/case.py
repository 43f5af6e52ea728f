"""What is learned from: one study with its nodes, whether a phantom or a patient's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Volume


@dataclass(frozen=True, eq=False)
class Case:
    """One study on its native grid, turned to the axes of the model card (a view at no cost, `Volume.oriented`).

    Attributes:
        name: one word, unique among the cases of a run; a phantom's is its seed in five digits.
        volume: the study, native grid.
        labels: ``(z, y, x)`` uint16, 0 background, else the node.
        centres: ``(nodes, 3)`` float32, mean voxel index ``(z, y, x)`` of each node.
        voxels: ``(nodes,)`` int64, voxels of each node.
        mimics: ``(n, 3)`` float32, where a network saw nodes that are none; see `training.mine`.
    """

    name: str
    volume: Volume
    labels: NDArray[np.uint16]
    centres: NDArray[np.float32]
    voxels: NDArray[np.int64]
    mimics: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 3), np.float32))


def node_places(labels: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean index ``(z, y, x)`` of each label's voxels, ``(nodes, 3)`` float32, and how many they are, ``(nodes,)``."""
    where = np.nonzero(labels)
    ids = labels[where]
    counts = np.bincount(ids)
    present = np.flatnonzero(counts)
    sums = np.stack([np.bincount(ids, weights=axis) for axis in where], axis=1)
    centres: NDArray[np.float32] = (sums[present] / counts[present, None]).astype(np.float32)
    return centres, counts[present].astype(np.int64)
