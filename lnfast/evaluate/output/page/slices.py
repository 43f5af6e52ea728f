"""The slice of a study where the error is greatest, as radiologists hang it: the patient's right to the left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.evaluate.evaluation import Evaluation, read_both
from lnfast.evaluate.output.page.image import Image, image_of
from lnfast.evaluate.output.page.worst import Case
from lnfast.report.page.scene import ORIENTATION

Labels = NDArray[np.integer]
# Of the close-up, at least: a node of 10 mm fills a sixth, and what it lies beside can be told.
CLOSE_MM = 60.0
_ROOM = 1.6  # around a large node


@dataclass(frozen=True, eq=False)
class Slice:
    """What is drawn.

    Attributes:
        number, count: from 1 at the feet, of how many.
        spacing_xy_mm: of its pixels.
        truth, predicted: ``(y, x)``, value = node id.
        grey: ``(y, x)`` uint8; None without an image.
        no_image: why there is none, in words.
        close_mm: left, top and edge of the square that is shown larger, from the outer edge of the first pixel; it may
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


def slice_of(case: Case, evaluation: Evaluation) -> Slice:
    """Read the study's label maps once more, for the comparison kept no voxels, and its image.

    Raises:
        StudyError: ``changed`` where a label map has other nodes than were measured; as `read_both`.
    """
    study = case.study
    predicted, truth = read_both(case.pair, evaluation.read_as)
    if (len(truth.ids), len(predicted.ids)) != (len(study.truth), len(study.predicted)):
        raise StudyError("changed", f"{study.name}: a label map has changed since it was measured; evaluate again")
    ours, theirs = (side.labels.oriented(ORIENTATION) for side in (predicted, truth))
    node, other = _node_in_question(case, theirs.array, ours.array)
    index = _worst_slice(node, node & (other == 0))
    image = image_of(case.pair, evaluation, theirs, ORIENTATION)
    _, dy, dx = theirs.grid.spacing_zyx_mm
    return Slice(
        number=index + 1,
        count=theirs.grid.shape[0],
        spacing_xy_mm=(dx, dy),
        truth=theirs.array[index],
        predicted=ours.array[index],
        grey=None if isinstance(image, str) else _greys(image, index),
        no_image=image if isinstance(image, str) else None,
        close_mm=_close_up(node[index], (dx, dy)),
    )


def _node_in_question(case: Case, truth: Labels, predicted: Labels) -> tuple[NDArray[np.bool_], Labels]:
    """Voxels of the node that the picture is about, and the labels of the other side."""
    if case.culprit is not None:
        side, node = case.culprit
        own, other = (truth, predicted) if side == "truth" else (predicted, truth)
        return own == node.id, other
    wrong = [np.bincount(own[other == 0], minlength=2) for own, other in ((truth, predicted), (predicted, truth))]
    missed, false = (int(counts[1:].max()) for counts in wrong)
    own, other, counts = (truth, predicted, wrong[0]) if missed >= false else (predicted, truth, wrong[1])
    return own == int(counts[1:].argmax()) + 1, other


def _worst_slice(node: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> int:
    """Most wrong voxels; of equals, and where none is wrong, most voxels of the node; of those, nearest the feet."""
    counts = [np.count_nonzero(mask, axis=(1, 2)) for mask in (wrong, node)]
    return int(np.lexsort((-counts[1], -counts[0]))[0])


def _close_up(node: NDArray[np.bool_], spacing_xy_mm: tuple[float, float]) -> tuple[float, float, float]:
    ends, whole = [], []
    for axis, spacing_mm in zip((1, 0), spacing_xy_mm, strict=True):
        places = np.flatnonzero(node.any(axis=1 - axis))
        ends.append((float(places[0]) * spacing_mm, float(places[-1] + 1) * spacing_mm))
        whole.append(node.shape[axis] * spacing_mm)
    edge = min(max(CLOSE_MM, *(_ROOM * (high - low) for low, high in ends)), max(whole))
    left, top = (
        # Within the slice where that is large enough, else around its middle.
        min(max((low + high - edge) / 2, 0.0), size - edge) if size >= edge else (size - edge) / 2
        for (low, high), size in zip(ends, whole, strict=True)
    )
    return left, top, edge


def _greys(image: Image, index: int) -> NDArray[np.uint8]:
    low, high = image.window
    share = (image.volume.array[index].astype(np.float64) - low) / (high - low)
    greys: NDArray[np.uint8] = np.rint(np.clip(share, 0.0, 1.0) * 255).astype(np.uint8)
    return greys
