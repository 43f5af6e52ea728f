"""Is a kernel's answer right? Each check takes an input and the answers of two sides, ours first.

There are two verdicts, "same" and "wrong": unlike networks, kernels have no room to differ. Only on a whole
study, where interpolating logits or sigmoids may move a voxel, all four of `benchmarks.harness.agreement` are possible.
The row gets ``verdict`` and what was compared, where ``dice``, ``nodes`` and ``box_excess`` mean what they mean there,
and what is no number is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.agreement import DICE_AT_LEAST, StudyAnswer, Verdict, compare_answers, dice
from benchmarks.kernels.inputs import KernelInputs, KernelScan, Mask
from benchmarks.kernels.peers import Labelled, PeerMeasures, corners_of_nodes, label_scipy, native_probability
from benchmarks.peers.nodes import SUSPICIOUS_MM, Edges

CheckResult = dict[str, Any]
Check = Callable[[Any, Any, Any], CheckResult]
Box = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # centre, axes as rows, ascending edges
MeasuredNodes = tuple[Labelled, NDArray[np.void]]  # ours: labels, count, and the rows of measure_components
PeerMeasuredNodes = tuple[Labelled, PeerMeasures]

# Interpolated intensities, in deviations: sums of float32 in another order.
VALUES_WITHIN = 1e-3
# Sums and products of float64 in another order, relative.
ROUNDING = 1e-9
# A mean of sigmoids of interpolated logits against one of interpolated sigmoids.
PROBABILITIES_WITHIN = 0.05


def same_bits(_item: Any, ours: Any, theirs: Any) -> CheckResult:
    """Check arrays, numbers or tuples of them byte for byte: a kernel against itself on one thread."""
    pairs = zip(_leaves(ours), _leaves(theirs), strict=True)
    return {"verdict": _verdict(all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs))}


def same_components(mask: Mask, ours: Labelled, theirs: Labelled) -> CheckResult:
    """Check that both have the same components, and that ours cover the mask and are numbered in raster order."""
    covered = np.array_equal(ours[0] != 0, mask != 0)
    right = covered and _in_raster_order(ours[0]) and _partners(ours, theirs) is not None
    return {"verdict": _verdict(right), "nodes": [ours[1], theirs[1]]}


def same_values(_item: Any, ours: NDArray[Any], theirs: NDArray[Any]) -> CheckResult:
    """Check that values differ by at most `VALUES_WITHIN` everywhere."""
    difference = float(np.abs(ours - theirs).max())
    return {"verdict": _verdict(difference <= VALUES_WITHIN), "difference": _number(difference)}


def same_masks(_item: Any, ours: Mask, theirs: Mask) -> CheckResult:
    """Check that Dice is at least `DICE_AT_LEAST`.

    Raises:
        WrongAnswerError: both are blank.
    """
    overlap = dice(ours, theirs)
    return {"verdict": _verdict(overlap >= DICE_AT_LEAST), "dice": overlap}


def box_no_larger(points_mm: NDArray[np.float64], ours: Box, theirs: Edges | None) -> CheckResult:
    """Check that our box holds every point and has no more volume than the peer's, where the peer has a box."""
    excess = None if theirs is None else _excess(ours[2], theirs)
    right = _holds(ours, points_mm) and (excess is None or excess <= ROUNDING)
    return {"verdict": _verdict(right), "box_excess": None if excess is None else _number(excess)}


def same_measures(scan: KernelScan, ours: MeasuredNodes, theirs: PeerMeasuredNodes) -> CheckResult:
    """Check `same_components`, the peer's volumes, `box_no_larger` for each node, and numpy's mean intensity."""
    labelled, nodes = ours
    components = same_components(scan.mask, labelled, theirs[0])
    partners = _partners(labelled, theirs[0])
    if partners is None or len(nodes) != len(partners):
        return {**components, "verdict": "wrong"}
    peers = [theirs[1].nodes[partner - 1] for partner in partners]
    corners = corners_of_nodes(labelled[0], scan.grid.affine)
    boxes = least_alike(
        [
            box_no_larger(points, box, peer.box_mm)
            for points, box, peer in zip(corners, _boxes(nodes), peers, strict=True)
        ]
    )
    right = (
        {components["verdict"], boxes["verdict"]} == {"same"}
        and np.allclose(nodes["volume_mm3"], [peer.volume_mm3 for peer in peers], rtol=ROUNDING, atol=0)
        and np.allclose(nodes["mean_intensity"], _means(labelled, scan.image), rtol=ROUNDING, atol=ROUNDING)
    )
    return {**components, "verdict": _verdict(right), "box_excess": boxes["box_excess"]}


def same_study(
    inputs: KernelInputs, ours: tuple[NDArray[Any], MeasuredNodes], theirs: tuple[NDArray[Any], PeerMeasuredNodes]
) -> CheckResult:
    """Check `same_values` of the network's input, our nodes on our own mask, and then as two pipelines are compared.

    Raises:
        WrongAnswerError: neither side has a node.
    """
    values = same_values(inputs, ours[0], theirs[0])
    (labelled, nodes), (labelled_peer, measures) = ours[1], theirs[1]
    mask, native = labelled[0] != 0, inputs.native
    components = same_components(mask, labelled, label_scipy(mask))
    if {values["verdict"], components["verdict"]} != {"same"} or len(nodes) != labelled[1]:
        return {**values, **components, "verdict": "wrong"}
    corners = corners_of_nodes(labelled[0], native.grid.affine)
    probability = native_probability(inputs.logits, mask.shape)
    right = (
        all(_holds(box, points) for box, points in zip(_boxes(nodes), corners, strict=True))
        and np.allclose(nodes["mean_intensity"], _means(labelled, native.image), rtol=ROUNDING, atol=0)
        and np.allclose(nodes["mean_probability"], _means(labelled, probability), rtol=0, atol=PROBABILITIES_WITHIN)
    )
    if not right:
        return {**values, **components, "verdict": "wrong"}
    pipelines = compare_answers(
        _answer(labelled[0], [tuple(node["box_mm"].tolist()) for node in nodes]),
        _answer(labelled_peer[0], [node.box_mm for node in measures.nodes]),
    )
    return {**values, **pipelines.to_dict()}


def least_alike(results: Sequence[CheckResult]) -> CheckResult:
    """Return the result that agrees least: a wrong one, else the one whose box exceeds the peer's most."""

    def distance(result: CheckResult) -> tuple[bool, float]:
        excess = result.get("box_excess")
        return result["verdict"] != "same", -np.inf if excess is None else excess

    return max(results, key=distance)


def _verdict(right: bool | np.bool_) -> Verdict:
    return "same" if right else "wrong"


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if np.isfinite(value) else None


def _leaves(answer: Any) -> Iterator[NDArray[Any]]:
    if isinstance(answer, tuple):
        for part in answer:
            yield from _leaves(part)
    else:
        yield np.asarray(answer)


def _partners(ours: Labelled, theirs: Labelled) -> NDArray[Any] | None:
    """The peer's label of each of our nodes in order; None unless both sides have the same nodes."""
    (labels, count), (peer_labels, peer_count) = ours, theirs
    inside = labels != 0
    if count != peer_count or not np.array_equal(inside, peer_labels != 0):
        return None
    if count and not (labels.min() >= 0 and labels.max() == count):
        return None
    table = np.zeros(count + 1, peer_labels.dtype)
    table[labels[inside]] = peer_labels[inside]
    bijective = len(np.unique(table)) == count + 1 and np.array_equal(table[labels], peer_labels)
    return table[1:] if bijective else None


def _in_raster_order(labels: NDArray[Any]) -> bool:
    """Does a label first appear after all smaller ones, voxel by voxel?"""
    highest = np.maximum.accumulate(labels[labels != 0])
    return bool(np.all(np.diff(highest, prepend=highest.dtype.type(0)) <= 1))


def _boxes(nodes: NDArray[np.void]) -> list[Box]:
    return [(node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]) for node in nodes]


def _excess(ours: NDArray[np.float64], theirs: Edges) -> float:
    return float(np.prod(ours) / np.prod(theirs) - 1)


def _holds(box: Box, points_mm: NDArray[np.float64]) -> bool:
    """Are the axes unit and at right angles, and every point between the faces?"""
    centre, axes, edges = box
    slack = ROUNDING * np.abs(points_mm).max()
    inside = np.abs((points_mm - centre) @ axes.T) <= edges / 2 + slack
    return bool(inside.all() and np.allclose(axes @ axes.T, np.eye(3), rtol=0, atol=ROUNDING))


def _means(labelled: Labelled, image: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of the image over each node."""
    flat = labelled[0].ravel()
    sums = np.bincount(flat, weights=image.ravel(), minlength=labelled[1] + 1)
    means: NDArray[np.float64] = sums[1:] / np.bincount(flat, minlength=labelled[1] + 1)[1:]
    return means


def _answer(labels: NDArray[Any], boxes: Sequence[Edges | None]) -> StudyAnswer:
    suspicious = tuple(index for index, box in enumerate(boxes, start=1) if box and box[0] > SUSPICIOUS_MM)
    return StudyAnswer(labels, tuple(boxes), suspicious, "N1" if suspicious else "N0")
