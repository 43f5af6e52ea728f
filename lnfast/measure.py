"""Lymph nodes as millimetres, and the stage by the size criterion.

Volume, short diameter and the limit of 0.8 cm follow the structured report of the clinical method: the short edge of
the minimum-volume bounding box. The radiologist's own measure, in the slice, always stands beside it, and so does that
of the network's own certainty where there is a network (`lnfast.ellipsoid`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from lnfast.ellipsoid import ellipsoid_short_mm
from lnfast.errors import ModelError, StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.window import Window
from lnfast_ext import measure_components

ShortAxis = Literal["box", "axial", "ellipsoid"]
NStage = Literal["N0", "N1"]
Point = tuple[float, float, float]

# A box of 5 voxels of 1.6 mm is 8 mm on paper and 8.000000000000002 in float64: that is not "greater than 8 mm".
ROUNDING_MM = 1e-6
# No short axis of a lymph node that anybody calls suspicious is beyond these: criteria lie at 5 to 10 mm. A number that
# is beyond them is in centimetres or micrometres, and would make all nodes suspicious, or none.
SMALLEST_LIMIT_MM, LARGEST_LIMIT_MM = 2.0, 50.0
# Of a voxel size and of a cosine: float32 leaves 6e-8 in a number and some times that in a column of an affine.
HEADER_NOISE = 2e-6
# Of a simple ratio of voxel sizes: 7 mm slices of 360 / 240 mm pixels are 14/3.
LARGEST_DENOMINATOR = 64


@dataclass(frozen=True)
class Rules:
    """What is measured and where the limit lies.

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
        """Whether a short axis, unrounded, is over the limit."""
        return short_mm > self.suspicious_mm + ROUNDING_MM


def _no_limit(got: float) -> str:
    message = f"got a limit of {got:g} mm, wanted {SMALLEST_LIMIT_MM:g} to {LARGEST_LIMIT_MM:g} mm"
    for factor, unit in ((10.0, "cm"), (1e-3, "micrometres"), (1e3, "m")):
        if 5.0 <= got * factor <= 15.0:
            return f"{message}; did you mean {got * factor:.1f} mm ({got:g} {unit})?"
    return message


@dataclass(frozen=True)
class LymphNode:
    """One node, in RAS+ mm of its voxel corners on the native grid.

    Attributes:
        id: value of its voxels in the label volume.
        volume_mm3, voxels: number of voxels times the volume of one.
        slices: how many slices it touches.
        short_axis_mm: by the chosen rule, ``box_mm[0]``, ``axial_short_mm`` or ``ellipsoid_short_mm``.
        box_mm: edges of the minimum-volume bounding box, short, middle, long.
        box_centre_ras_mm: its centre.
        box_axes_ras: unit vectors of the edges, in the order of ``box_mm``.
        axial_short_mm, axial_long_mm: in the slice where the in-plane diameter is largest.
        ellipsoid_short_mm: of the ellipsoid that spreads as the network's probability does; None for a label map, which
            says nothing of how sure anybody was.
        centroid_ras_mm: mean of its voxel centres.
        suspicious: the short axis is over the limit.
        slice_limited: the box's short edge only says how thick the slices are (within 30 degrees of the slice normal,
            at most two slices long).
        mean_intensity: in the study's own units, rescaled; None when not asked for.
        mean_probability: of the network inside the node; None when not asked for.
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
        """The short axis by any rule; None where that rule has nothing to measure."""
        return {"box": self.box_mm[0], "axial": self.axial_short_mm, "ellipsoid": self.ellipsoid_short_mm}[rule]


class ScaledVolume(Protocol):
    """Stored values and what makes intensities of them; a `Study` is one."""

    @property
    def volume(self) -> Volume: ...
    @property
    def slope(self) -> float: ...
    @property
    def inter(self) -> float: ...


def without_header_noise(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine that a header means, where it differs by no more than float32 rounding.

    Nodes are lattice shapes, and a lattice shape often has several smallest boxes of one volume but different edges.
    The rounding of a header (1e-7 of a voxel) must not choose between them, or a study would measure differently as a
    file and as an array. So axes that are right-angled but for rounding become right-angled, and voxel sizes whose
    ratio is a simple one but for rounding (1, 2, 7/3) get exactly that ratio; what differs by more is left alone.

    Args:
        affine: (4, 4), index ``(x, y, z, 1)`` to RAS+ mm.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > HEADER_NOISE:
        return affine
    left, _, right = np.linalg.svd(directions)
    meant = affine.copy()
    meant[:3, :3] = (left @ right) * _in_simple_ratios(spacing)
    return meant


def _in_simple_ratios(spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) voxel sizes whose ratios to the smallest are exactly what they nearly are."""
    alike = np.abs(spacing[:, None] - spacing) <= HEADER_NOISE * spacing
    equal = np.array([spacing[row].mean() for row in alike])
    unit = equal.min()
    ratios = [Fraction(size / unit).limit_denominator(LARGEST_DENOMINATOR) for size in equal]
    simple = np.array([float(ratio) for ratio in ratios]) * unit
    return np.where(np.abs(simple - equal) <= HEADER_NOISE * equal, simple, equal)


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
        window: what part of the network's grid the logits are, the one that the labels were found in; None for all.
        threads: 0 takes one per core.

    Returns:
        In the order of their labels.

    Raises:
        ModelError: ``bad-card`` for an orientation whose slices are not axial.
        UsageError: ``bad-rules`` when the ellipsoid shall decide and there are no logits; ``bad-window`` for logits of
            another shape than the window's.
        StudyError: ``not-measured`` when a node has no finite measure; there is never a number in its place.
    """
    if orientation[2:] not in ("S", "I"):
        raise ModelError("bad-card", f"got orientation {orientation!r}, wanted S or I third: nodes are read in slices")
    if rules.short_axis == "ellipsoid" and logits is None:
        raise UsageError(
            "bad-rules", "got the ellipsoid rule for a label map, which has no probabilities; take 'box' or 'axial'"
        )
    if logits is not None and window is not None:
        window.check(logits.shape)
    view = labels.oriented(orientation)
    values = None if intensity is None else intensity.volume.oriented(orientation).array
    affine = without_header_noise(view.grid.affine)
    rows = measure_components(
        view.array,
        count,
        affine,
        intensity=values,
        logits=logits,
        grid=None if window is None else window.grid_zyx,
        start=(0, 0, 0) if window is None else window.start_zyx,
        threads=threads,
    )
    ellipsoids: list[float | None] = [None] * count
    if logits is not None:
        ellipsoids[:] = ellipsoid_short_mm(view.array, rows["bounds_zyx"], logits, affine, window)
    nodes = []
    for row, ellipsoid_mm in zip(rows, ellipsoids, strict=True):
        mean = None if intensity is None else intensity.slope * float(row["mean_intensity"]) + intensity.inter
        nodes.append(_node(row, rules, ellipsoid_mm, mean, None if logits is None else float(row["mean_probability"])))
    return tuple(nodes)


def n_stage(nodes: Sequence[LymphNode], rules: Rules) -> NStage:
    """N1 when at least one node is over the limit by the chosen rule, else N0.

    Raises:
        UsageError: ``bad-rules`` when the ellipsoid shall decide and a node has none.
    """
    stage = n_stage_by_rule(nodes, rules)[rules.short_axis]
    if stage is None:
        raise UsageError("bad-rules", f"got nodes without a short axis by the rule {rules.short_axis!r}; take 'box'")
    return stage


def n_stage_by_rule(nodes: Sequence[LymphNode], rules: Rules) -> dict[ShortAxis, NStage | None]:
    """The stage by each rule, whichever was chosen; None by one that could not measure every node. No nodes are N0."""

    def call(rule: ShortAxis) -> NStage | None:
        shorts_mm = [short_mm for node in nodes if (short_mm := node.short_mm(rule)) is not None]
        if len(shorts_mm) < len(nodes):
            return None
        return "N1" if any(map(rules.exceeded, shorts_mm)) else "N0"

    return {rule: call(rule) for rule in get_args(ShortAxis)}


def largest(nodes: Sequence[LymphNode]) -> LymphNode | None:
    """The node with the greatest short axis, ties by volume, then by the lower id; None without nodes."""
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
    places = (*node.box_centre_ras_mm, *node.centroid_ras_mm, *(part for axis in node.box_axes_ras for part in axis))
    means = tuple(mean for mean in (node.mean_intensity, node.mean_probability) if mean is not None)
    if node.voxels < 1 or not all(math.isfinite(value) for value in (*sizes, *places, *means)) or min(sizes) <= 0:
        raise StudyError("not-measured", f"node {node.id} has no finite measure; please report this study")


def _point(values: NDArray[np.float64]) -> Point:
    first, second, third = values.tolist()
    return first, second, third
