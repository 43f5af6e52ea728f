"""The slice of a study where the error is greatest, in radiological display: the patient's right is on the left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.evaluate.evaluation import Evaluation, read_both
from lnfast.evaluate.output.page.image import Image, image_of
from lnfast.evaluate.output.page.worst import StudyMistakes
from lnfast.report.page.scene import ORIENTATION

Labels = NDArray[np.integer]
# The least edge of the close-up: a node of 10 mm fills a sixth of it, and its surroundings can be recognised.
CLOSE_MM = 60.0
_MARGIN_FACTOR = 1.6  # of a large node's extent


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice to draw.

    Attributes:
        number, count: the slice's number, from 1 at the feet, and the number of slices.
        spacing_xy_mm: of its pixels.
        truth, predicted: ``(y, x)``, value = node id.
        grey: ``(y, x)`` uint8; None without an image.
        no_image: the reason why there is no image.
        close_mm: left, top and edge of the square of the close-up, from the outer edge of the first pixel; it may
            reach over the slice's edge where the slice is smaller.
    """

    number: int
    count: int
    spacing_xy_mm: tuple[float, float]
    truth: Labels
    predicted: Labels
    grey: NDArray[np.uint8] | None
    no_image: str | None
    close_mm: tuple[float, float, float]


def slice_of(case: StudyMistakes, evaluation: Evaluation) -> Slice:
    """Return the slice to draw; the label maps are read again, because the comparison kept no voxels, and the image.

    Raises:
        StudyError: ``changed`` where a label map has other nodes than were measured; those of `read_both`.
    """
    study = case.study
    predicted, truth = read_both(case.pair, evaluation.read_as)
    if (len(truth.ids), len(predicted.ids)) != (len(study.truth), len(study.predicted)):
        raise StudyError("changed", f"{study.name}: a label map has changed since it was measured; evaluate again")
    predicted_labels, true_labels = (side.labels.oriented(ORIENTATION) for side in (predicted, truth))
    node, opposite = _main_node(case, true_labels.array, predicted_labels.array)
    index = _worst_slice(node, node & (opposite == 0))
    image = image_of(case.pair, evaluation, true_labels, ORIENTATION)
    _, dy, dx = true_labels.grid.spacing_zyx_mm
    return Slice(
        number=index + 1,
        count=true_labels.grid.shape[0],
        spacing_xy_mm=(dx, dy),
        truth=true_labels.array[index],
        predicted=predicted_labels.array[index],
        grey=None if isinstance(image, str) else _greys(image, index),
        no_image=image if isinstance(image, str) else None,
        close_mm=_close_up(node[index], (dx, dy)),
    )


def _main_node(case: StudyMistakes, truth: Labels, predicted: Labels) -> tuple[NDArray[np.bool_], Labels]:
    """Return the voxels of the node that the picture shows, and the labels of the opposite side."""
    if case.main_node is not None:
        side, node = case.main_node
        own, opposite = (truth, predicted) if side == "truth" else (predicted, truth)
        return own == node.id, opposite
    sides = ((truth, predicted), (predicted, truth))
    wrong = [np.bincount(own[opposite == 0], minlength=2) for own, opposite in sides]
    missed, false = (int(counts[1:].max()) for counts in wrong)
    (own, opposite), counts = (sides[0], wrong[0]) if missed >= false else (sides[1], wrong[1])
    return own == int(counts[1:].argmax()) + 1, opposite


def _worst_slice(node: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> int:
    """Return the index of the slice with most wrong voxels, then most voxels of the node, then nearest the feet."""
    counts = [np.count_nonzero(mask, axis=(1, 2)) for mask in (wrong, node)]
    return int(np.lexsort((-counts[1], -counts[0]))[0])


def _close_up(node: NDArray[np.bool_], spacing_xy_mm: tuple[float, float]) -> tuple[float, float, float]:
    spans, sizes = [], []
    for axis, spacing_mm in zip((1, 0), spacing_xy_mm, strict=True):
        indices = np.flatnonzero(node.any(axis=1 - axis))
        spans.append((float(indices[0]) * spacing_mm, float(indices[-1] + 1) * spacing_mm))
        sizes.append(node.shape[axis] * spacing_mm)
    edge = min(max(CLOSE_MM, *(_MARGIN_FACTOR * (high - low) for low, high in spans)), max(sizes))
    left, top = (
        # Within the slice where that is large enough, else around its middle.
        min(max((low + high - edge) / 2, 0.0), size - edge) if size >= edge else (size - edge) / 2
        for (low, high), size in zip(spans, sizes, strict=True)
    )
    return left, top, edge


def _greys(image: Image, index: int) -> NDArray[np.uint8]:
    low, high = image.window
    share = (image.volume.array[index].astype(np.float64) - low) / (high - low)
    greys: NDArray[np.uint8] = np.rint(np.clip(share, 0.0, 1.0) * 255).astype(np.uint8)
    return greys
