"""Measure lymph nodes in millimetres, and stage by the size criterion.

Volume, short diameter (the short edge of the minimum-volume bounding box) and the limit of 0.8 cm follow the structured
report of the clinical method. The radiologist's measure, in the axial slice, is always computed too, and where there is
a network also the ellipsoid of its probability (`lnfast_ext.ellipsoid_short_axes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import ModelError, StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.header_noise import without_header_noise
from lnfast.window import Window
from lnfast_ext import ellipsoid_short_axes, measure_components

ShortAxis = Literal["box", "axial", "ellipsoid"]
NStage = Literal["N0", "N1"]
Point = tuple[float, float, float]

# A box of 5 voxels of 1.6 mm is 8 mm on paper and 8.000000000000002 in float64, which is not "greater than 8 mm".
ROUNDING_MM = 1e-6
# Published criteria for a suspicious short axis lie at 5 to 10 mm. A number outside these limits is in centimetres or
# micrometres, and would make all nodes suspicious, or none.
SMALLEST_LIMIT_MM, LARGEST_LIMIT_MM = 2.0, 50.0


@dataclass(frozen=True)
class Rules:
    """The rules of measurement: which short axis decides, and at which limit.

    Attributes:
        short_axis: "box": short edge of the minimum-volume bounding box; "axial": extent perpendicular to the longest
            in-plane diameter, in the slice where that diameter is largest; "ellipsoid": short axis of the ellipsoid
            with the second moments of the network's probability.
        suspicious_mm: a node is suspicious when its short axis is greater.
        connectivity: 26: voxels that share a corner are one node.

    Raises:
        UsageError: ``bad-rules``.
    """

    short_axis: ShortAxis = "box"
    suspicious_mm: float = 8.0
    connectivity: int = 26

    def __post_init__(self) -> None:
        if self.short_axis not in get_args(ShortAxis):
            raise UsageError("bad-rules", f"got short axis {self.short_axis!r}, wanted 'box', 'axial' or 'ellipsoid'")
        if not (math.isfinite(self.suspicious_mm) and self.suspicious_mm > 0):
            raise UsageError("bad-rules", f"got a limit of {self.suspicious_mm} mm, wanted a positive number")
        if not SMALLEST_LIMIT_MM <= self.suspicious_mm <= LARGEST_LIMIT_MM:
            raise UsageError("bad-rules", _no_limit(self.suspicious_mm))
        if self.connectivity != 26:
            raise UsageError("bad-rules", f"got connectivity {self.connectivity}, wanted 26")

    def exceeded(self, short_mm: float) -> bool:
        """Return whether a short axis, unrounded, is greater than the limit."""
        return short_mm > self.suspicious_mm + ROUNDING_MM


def _no_limit(got: float) -> str:
    message = f"got a limit of {got:g} mm, wanted {SMALLEST_LIMIT_MM:g} to {LARGEST_LIMIT_MM:g} mm"
    for factor, unit in ((10.0, "cm"), (1e-3, "micrometres"), (1e3, "m")):
        if 5.0 <= got * factor <= 15.0:
            return f"{message}; did you mean {got * factor:.1f} mm ({got:g} {unit})?"
    return message


@dataclass(frozen=True)
class LymphNode:
    """One node, measured on the voxel corners of the native grid, in RAS+ mm.

    Attributes:
        id: value of its voxels in the label volume.
        volume_mm3, voxels: number of voxels times the volume of one.
        slices: how many slices it touches.
        short_axis_mm: by the chosen rule, ``box_mm[0]``, ``axial_short_mm`` or ``ellipsoid_short_mm``.
        box_mm: edges of the minimum-volume bounding box, short, middle, long.
        box_centre_ras_mm: its centre.
        box_axes_ras: unit vectors of the edges, in the order of ``box_mm``.
        axial_short_mm, axial_long_mm: in the slice where the in-plane diameter is largest.
        ellipsoid_short_mm: of the ellipsoid with the second moments of the network's probability; None for a label map,
            which has no probabilities.
        centroid_ras_mm: mean of its voxel centres.
        suspicious: the short axis is over the limit.
        slice_limited: the box's short edge is only the thickness of slices (within 30 degrees of the slice normal, at
            most two slices long).
        mean_intensity: in the study's own units, rescaled; None where no intensities were given.
        mean_probability: of the network inside the node; None where no logits were given.
    """

    id: int
    volume_mm3: float
    voxels: int
    slices: int
    short_axis_mm: float
    box_mm: Point
    box_centre_ras_mm: Point
    box_axes_ras: tuple[Point, Point, Point]
    axial_short_mm: float
    axial_long_mm: float
    ellipsoid_short_mm: float | None
    centroid_ras_mm: Point
    suspicious: bool
    slice_limited: bool
    mean_intensity: float | None
    mean_probability: float | None

    def short_mm(self, rule: ShortAxis) -> float | None:
        """Return the short axis by a rule; None where the rule has nothing to measure."""
        return {"box": self.box_mm[0], "axial": self.axial_short_mm, "ellipsoid": self.ellipsoid_short_mm}[rule]


class ScaledVolume(Protocol):
    """Stored values with the slope and intercept that rescale them to intensities; a `Study` is one."""

    @property
    def volume(self) -> Volume: ...
    @property
    def slope(self) -> float: ...
    @property
    def inter(self) -> float: ...


def measure_nodes(
    labels: Volume,
    count: int,
    rules: Rules,
    *,
    orientation: str = "LPS",
    intensity: ScaledVolume | None = None,
    logits: NDArray[Any] | None = None,
    window: Window | None = None,
    threads: int = 0,
) -> tuple[LymphNode, ...]:
    """Measure every node.

    Args:
        labels: native grid, integers, 0 outside, each of 1 to ``count`` present.
        count: number of nodes.
        rules: which short axis, which limit.
        orientation: the network's axes, as in `Volume.oriented`; its third letter is S or I, so that slices are axial
            or nearly so.
        intensity: the study on the same grid, for the mean intensity.
        logits: ``(z, y, x)`` of the network in that orientation, for the mean probability and the ellipsoid.
        window: the part of the network's grid that the logits cover and the labels were segmented in; None for all.
        threads: 0 takes one per core.

    Returns:
        In the order of their labels.

    Raises:
        ModelError: ``bad-card`` for an orientation whose slices are not axial.
        UsageError: ``bad-rules`` for the ellipsoid rule without logits; ``bad-window`` for logits of another shape than
            the window's.
        StudyError: ``not-measured`` when a node has no finite measure; no number is ever reported in its place.
    """
    _check_measurable(rules, orientation, logits, window)
    view = labels.oriented(orientation)
    values = None if intensity is None else intensity.volume.oriented(orientation).array
    affine = without_header_noise(view.grid.affine)
    grid, start = (None, (0, 0, 0)) if window is None else (window.grid_zyx, window.start_zyx)
    rows = measure_components(
        view.array, count, affine, intensity=values, logits=logits, grid=grid, start=start, threads=threads
    )
    ellipsoids: list[float | None] = [None] * count
    if logits is not None:
        bounds_zyx = rows["bounds_zyx"]
        ellipsoids[:] = ellipsoid_short_axes(view.array, bounds_zyx, logits, affine, grid=grid, start=start).tolist()
    nodes = []
    for row, ellipsoid_mm in zip(rows, ellipsoids, strict=True):
        mean = None if intensity is None else intensity.slope * float(row["mean_intensity"]) + intensity.inter
        nodes.append(_node(row, rules, ellipsoid_mm, mean, None if logits is None else float(row["mean_probability"])))
    return tuple(nodes)


def _check_measurable(rules: Rules, orientation: str, logits: NDArray[Any] | None, window: Window | None) -> None:
    if orientation[2:] not in ("S", "I"):
        raise ModelError("bad-card", f"got orientation {orientation!r}, wanted S or I third: nodes are read in slices")
    if rules.short_axis == "ellipsoid" and logits is None:
        raise UsageError(
            "bad-rules", "got the ellipsoid rule for a label map, which has no probabilities; take 'box' or 'axial'"
        )
    if logits is not None and window is not None:
        window.check(logits.shape)


def n_stage(nodes: Sequence[LymphNode], rules: Rules) -> NStage:
    """Return N1 when at least one node exceeds the limit by the chosen rule, else N0.

    Raises:
        UsageError: ``bad-rules`` for the ellipsoid rule where a node has no ellipsoid.
    """
    stage = n_stage_by_rule(nodes, rules)[rules.short_axis]
    if stage is None:
        raise UsageError("bad-rules", f"got nodes without a short axis by the rule {rules.short_axis!r}; take 'box'")
    return stage


def n_stage_by_rule(nodes: Sequence[LymphNode], rules: Rules) -> dict[ShortAxis, NStage | None]:
    """Return the stage by each rule; None by a rule that could not measure every node. Without nodes it is N0."""

    def stage_by(rule: ShortAxis) -> NStage | None:
        shorts_mm = [short_mm for node in nodes if (short_mm := node.short_mm(rule)) is not None]
        if len(shorts_mm) < len(nodes):
            return None
        return "N1" if any(map(rules.exceeded, shorts_mm)) else "N0"

    return {rule: stage_by(rule) for rule in get_args(ShortAxis)}


def largest(nodes: Sequence[LymphNode]) -> LymphNode | None:
    """Return the node with the greatest short axis, ties by volume, then by the lower id; None without nodes."""
    return max(nodes, key=lambda node: (node.short_axis_mm, node.volume_mm3, -node.id), default=None)


def _node(
    row: np.void,
    rules: Rules,
    ellipsoid_mm: float | None,
    mean_intensity: float | None,
    mean_probability: float | None,
) -> LymphNode:
    box_mm, axial_short_mm = _point(row["box_mm"]), float(row["axial_short_mm"])
    short_mm = {"box": box_mm[0], "axial": axial_short_mm, "ellipsoid": ellipsoid_mm}[rules.short_axis]
    assert short_mm is not None, "the ellipsoid is the rule only where there are logits"
    x, y, z = (_point(axis) for axis in row["box_axes_ras"])
    node = LymphNode(
        id=int(row["label"]),
        volume_mm3=float(row["volume_mm3"]),
        voxels=int(row["voxels"]),
        slices=int(row["slices"]),
        short_axis_mm=short_mm,
        box_mm=box_mm,
        box_centre_ras_mm=_point(row["box_centre_ras_mm"]),
        box_axes_ras=(x, y, z),
        axial_short_mm=axial_short_mm,
        axial_long_mm=float(row["axial_long_mm"]),
        ellipsoid_short_mm=ellipsoid_mm,
        centroid_ras_mm=_point(row["centroid_ras_mm"]),
        suspicious=rules.exceeded(short_mm),
        slice_limited=bool(row["slice_limited"]),
        mean_intensity=mean_intensity,
        mean_probability=mean_probability,
    )
    _check_measured(node)
    return node


def _check_measured(node: LymphNode) -> None:
    ellipsoid = () if node.ellipsoid_short_mm is None else (node.ellipsoid_short_mm,)
    sizes = (node.volume_mm3, *node.box_mm, node.axial_short_mm, node.axial_long_mm, *ellipsoid)
    positions = (*node.box_centre_ras_mm, *node.centroid_ras_mm, *(part for axis in node.box_axes_ras for part in axis))
    means = tuple(mean for mean in (node.mean_intensity, node.mean_probability) if mean is not None)
    if node.voxels < 1 or not all(math.isfinite(value) for value in (*sizes, *positions, *means)) or min(sizes) <= 0:
        raise StudyError("not-measured", f"node {node.id} has no finite measure; please report this study")


def _point(values: NDArray[np.float64]) -> Point:
    first, second, third = values.tolist()
    return first, second, third
