"""Logits on the network's grid into lymph nodes on the study's own grid.

The native grid is the one that the PACS shows: nodes are labelled there, so that every number can be derived again
from the written labels by someone else's tool.

A network that has learned from many contrasts knows where nodes are, and is unsure of their edge by a voxel, which is
the difference between 6.7 and 8.4 mm. So a card may ask for outlines at the half maximum, as the full width at half
maximum of a line is measured (`lnfast_ext.outline_nodes`): the edge of a node lies where the image is halfway between
the node and what surrounds it. The network's probability says in which voxels there is any doubt, `JOIN` to `SURE`.
Nodes that touch are taken apart first, where each exceeds the card's peak on its own, and `SURE` somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.card import ModelCard, logit
from lnfast.errors import EngineError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.window import EDGE_VOX, Window
from lnfast_ext import Components, number_nodes, outline_nodes, threshold_resample

NODES_AT_MOST = 65535  # labels are written as uint16
# Probabilities that a voxel beside a node exceeds to join it, and a node's own to stay whatever the image says.
JOIN, SURE = 0.2, 0.9


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Lymph nodes as voxels.

    Attributes:
        labels: uint16, native grid in storage order; 0 outside, 1 to ``count`` in raster order of a node's first voxel.
            Nodes that were taken apart touch: the values tell them from each other.
        count: number of nodes; 0 is a result.
        marks: uint8, 1 where the probability is above the threshold, whatever became of it.
        faint: uint16 likewise: what was dropped because it nowhere reaches the card's peak; None where nothing was.
        faint_count: number of those.
    """

    labels: Volume
    count: int
    marks: Volume
    faint: Volume | None = None
    faint_count: int = 0


def segment(
    logits: NDArray[Any],
    grid: Grid,
    card: ModelCard,
    *,
    image: Volume | None = None,
    floor: float = -np.inf,
    window: Window | None = None,
    threads: int = 0,
) -> Segmentation:
    """Call each native voxel node or not, and number the nodes: 26-connected, so that a shared corner makes one.

    A voxel whose logit cannot be interpolated within the window is none; every other one is as on the whole grid. Where
    the card has a peak, a node that reaches it nowhere is dropped: its outline is drawn where sizes are right, and the
    peak decides whether there is a node at all.

    Args:
        logits: ``(z, y, x)`` float32 or float16 of the window's shape: the network's output buffer, read where it lies.
        grid: of the study as it is stored.
        card: says threshold, peak, outline and axes.
        image: the study, for outlines at the half maximum; `lnfast.preprocess.without_padding` makes padding air.
        floor: of the image; darker values, padding or noise, count as air of this value.
        window: of a grid of `lnfast.slabs.grid_for`; None for all of the card's.
        threads: 0 takes one per core.

    Raises:
        EngineError: ``bad-output`` for logits of another shape, ``non-finite-logits`` for NaN or infinity (such a
            mask would read as N0), ``too-many-nodes``.
        UsageError: ``bad-window`` for a window of a grid with another plane than the card's, or with too few slices;
            ``no-image`` where the card needs one.
    """
    if card.outlines_at_half_maximum and image is None:
        raise UsageError("no-image", "got logits alone, wanted the study too: the model outlines nodes in its image")
    part = Window.whole(card.shape_zyx) if window is None else window
    part.check(part.shape_zyx, card.least_grid_zyx)
    if logits.shape != part.shape_zyx:
        wanted = "as the card says" if window is None else "as the window says"
        raise EngineError("bad-output", f"got logits of shape {logits.shape}, wanted {part.shape_zyx} {wanted}")
    mask = _above(card.level, logits, grid, card, part, threads)
    components = Components(mask.array)
    if components.count > NODES_AT_MOST:
        raise EngineError(
            "too-many-nodes", f"got {components.count} separate nodes, wanted at most {NODES_AT_MOST}: not a pelvis"
        )
    labels = components.label(np.empty(grid.shape, np.uint16))
    found = _drop_faint(Volume(labels, grid), components.count, mask, logits, card, part, threads)
    if image is None or not card.outlines_at_half_maximum or not found.count:
        return found
    return replace(found, count=_outline(found.labels, found.count, image, floor, logits, card, part))


def _drop_faint(
    labels: Volume, count: int, mask: Volume, logits: NDArray[Any], card: ModelCard, part: Window, threads: int
) -> Segmentation:
    """Drop the marks that nowhere exceed the card's peak, in place."""
    if card.peak_level is None or not count:
        return Segmentation(labels, count, mask)
    peaks = _above(card.peak_level, logits, labels.grid, card, part, threads)
    voxels = np.flatnonzero(mask.array.view(np.bool_))  # few of a study's: the rest of it need not be read again
    node = labels.array.ravel()[voxels]
    reached = np.zeros(count + 1, np.uint16)
    reached[node[peaks.array.ravel()[voxels] > 0]] = 1
    kept = int(reached.sum())
    if kept == count:
        return Segmentation(labels, count, mask)
    # Those that stay are numbered in the same order, and so are those that are dropped.
    numbers = np.cumsum(reached, dtype=np.uint16)
    faint = np.zeros(labels.grid.shape, np.uint16)
    faint.ravel()[voxels] = np.where(reached, 0, np.arange(len(reached)) - numbers)[node]
    labels.array.ravel()[voxels] = (numbers * reached)[node]
    return Segmentation(labels, kept, mask, Volume(faint, labels.grid), count - kept)


def _outline(
    labels: Volume, count: int, image: Volume, floor: float, logits: NDArray[Any], card: ModelCard, part: Window
) -> int:
    """Outline nodes at the half maximum, in place, and return how many there are.

    Raises:
        EngineError: ``too-many-nodes``.
    """
    view = labels.oriented(card.orientation)
    try:
        nodes = outline_nodes(
            view.array,
            count,
            image.oriented(card.orientation).array,
            logits,
            join=logit(min(JOIN, card.threshold)),
            seed=card.level if card.peak_level is None else card.peak_level,
            sure=logit(max(SURE, card.threshold)),
            spacing_mm=view.grid.spacing_zyx_mm,
            floor=floor,
            grid=part.grid_zyx,
            start=part.start_zyx,
        )
    except ValueError as error:
        if "65535" not in str(error):
            raise
        raise EngineError("too-many-nodes", f"got {error}: not a pelvis") from error
    number_nodes(labels.array, nodes)
    return nodes


def _above(level: float, logits: NDArray[Any], grid: Grid, card: ModelCard, part: Window, threads: int) -> Volume:
    """Return where the logits, interpolated to the native grid, are above a level: uint8, 0 or 1.

    Raises:
        EngineError: ``non-finite-logits``.
    """
    mask = Volume(np.empty(grid.shape, np.uint8), grid)
    try:
        threshold_resample(
            logits,
            mask.oriented(card.orientation).array,
            level,
            grid=part.grid_zyx,
            start=part.start_zyx,
            threads=threads,
        )
    except ValueError as error:
        if "non-finite" not in str(error):
            raise
        raise EngineError(
            "non-finite-logits",
            "the network answered with NaN or infinity, so there is no result; try another precision or backend",
        ) from error
    return mask


def touches_edge(segmentation: Segmentation, window: Window, card: ModelCard, margin_vox: int = EDGE_VOX) -> bool:
    """Whether a mark comes so near to a face of the window that the network may have missed a part of it or misread it.

    What was dropped or taken away from a node counts too: beyond the face it may go on.

    Faces of the window that are faces of the grid cut nothing off and do not count.

    Args:
        segmentation: what `segment` made of the window's logits.
        window: that window.
        card: says the axes.
        margin_vox: as in `lnfast.window.Window.edge_slabs`.
    """
    view = segmentation.marks.oriented(card.orientation).array
    return any(view[slab].any() for slab in window.edge_slabs(view.shape, margin_vox))
