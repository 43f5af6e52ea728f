"""Records that kernels return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class BodyStatistics(NamedTuple):
    """How bright the patient is, in units of the volume; see `body_statistics`.

    Attributes:
        floor: the 2nd percentile of the voxels that are no padding: air, or the darkest tissue.
        tissue: the median of the patient's cells, without those more than three times as bright (above ``floor``).
        level: cells at least this bright belong to the patient.
        spread: the median distance of those cells from ``tissue``.
        low, median, high: percentiles 0.5, 50 and 99.5 of the voxels that are no padding.
        darkest_cells, central_cells: the 5th percentile of all cells and the 30th of those in the middle of the plane,
            between which ``level`` lies.
        body_share, bright_share: of all cells: those of the patient, and those at least four times as far above the
            floor as ``tissue``.
        bright_patch: cells of the largest patch of such bright ones that share edges, in one plane of cells.
        saturated: voxels of values as bright as that which lie in long runs for the most part and are no padding.
        voxels: that are no padding.
        greys: different values among them, counted in at most 65536 bins.
        padding: ``(n,)`` float64, the values that fill what was not acquired.
        padding_voxels: ``(n,)`` int64, how many voxels have each.
        padding_at_rim: ``(n,)`` bool, whether most of them lie in runs that touch the end of a row.
    """

    floor: float
    tissue: float
    level: float
    spread: float
    low: float
    median: float
    high: float
    darkest_cells: float
    central_cells: float
    body_share: float
    bright_share: float
    bright_patch: int
    saturated: int
    voxels: int
    greys: int
    padding: NDArray[np.float64]
    padding_voxels: NDArray[np.int64]
    padding_at_rim: NDArray[np.bool_]
