from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import disjoint_base

from lnfast_ext._records import BodyStatistics as BodyStatistics

__all__ = [
    "BodyStatistics",
    "Components",
    "body_statistics",
    "ellipsoid_short_axes",
    "equivalent_short_axis",
    "instruction_set",
    "intensity_statistics",
    "label_components",
    "measure_components",
    "min_volume_box",
    "number_nodes",
    "outline_nodes",
    "resample_normalize",
    "threshold_resample",
]

@disjoint_base
class Components:
    def __init__(self, mask: NDArray[Any], *, connectivity: Literal[6, 18, 26] = 26) -> None: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def count(self) -> int: ...
    def label(self, out: NDArray[Any] | None = None) -> NDArray[Any]: ...

def body_statistics(volume: NDArray[Any], *, threads: int = 0) -> BodyStatistics: ...
def ellipsoid_short_axes(
    labels: NDArray[Any],
    bounds_zyx: ArrayLike,
    logits: NDArray[Any],
    affine: ArrayLike,
    *,
    grid: Sequence[int] | None = None,
    start: Sequence[int] = (0, 0, 0),
) -> NDArray[np.float64]: ...
def equivalent_short_axis(weights: NDArray[np.floating], step_mm: ArrayLike) -> float: ...
def instruction_set() -> str: ...
def intensity_statistics(
    volume: NDArray[Any],
    percentiles: Sequence[float] | NDArray[np.float64] = (0.5, 99.5),
    *,
    clipped: bool = False,
    threads: int = 0,
) -> tuple[float, float, float, float, NDArray[np.float64]]: ...
def label_components(
    mask: NDArray[Any], out: NDArray[Any] | None = None, *, connectivity: Literal[6, 18, 26] = 26
) -> tuple[NDArray[Any], int]: ...
def measure_components(
    labels: NDArray[Any] | Components,
    count: int,
    affine: ArrayLike,
    *,
    intensity: NDArray[Any] | None = None,
    logits: NDArray[Any] | None = None,
    grid: Sequence[int] | None = None,
    start: Sequence[int] = (0, 0, 0),
    threads: int = 0,
) -> NDArray[np.void]: ...
def min_volume_box(points_mm: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def number_nodes(labels: NDArray[np.uint16], count: int) -> None: ...
def outline_nodes(
    labels: NDArray[np.uint16],
    count: int,
    image: NDArray[Any],
    logits: NDArray[Any],
    *,
    join: float,
    seed: float,
    sure: float,
    spacing_mm: Sequence[float],
    floor: float = ...,
    grid: Sequence[int] | None = None,
    start: Sequence[int] = (0, 0, 0),
) -> int: ...
def resample_normalize(
    volume: NDArray[Any],
    out: NDArray[Any],
    *,
    lo: float,
    hi: float,
    shift: float,
    scale: float,
    grid: Sequence[int] | None = None,
    start: Sequence[int] = (0, 0, 0),
    threads: int = 0,
) -> None: ...
def threshold_resample(
    logits: NDArray[Any],
    out: NDArray[Any],
    level: float,
    *,
    grid: Sequence[int] | None = None,
    start: Sequence[int] = (0, 0, 0),
    threads: int = 0,
) -> int: ...
