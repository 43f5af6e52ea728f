"""From the native grid to the model grid, by the runtime's own preprocessing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects, maximum_filter
from torch import Tensor

from lnfast.card import ModelCard
from lnfast.geometry import Volume
from lnfast.matching import NodeMap
from lnfast.measure import Rules, measure_nodes
from lnfast.preprocess import write_input
from lnfast.slabs import grid_for
from lnfast.window import Window, Zyx
from lnfast_ext import resample_normalize
from training.data.case import Case

Floats = NDArray[np.float32]
# The runtime's default rules, by which truth and predictions are measured alike.
RULES = Rules()
# A node in here decides the stage by a millimetre either way, or would if it were drawn a little larger.
BORDERLINE_MM = (6.0, 10.0)
# How near two nodes are between which the background counts more: a bridge over it makes one large node of two.
NEAR_ZYX = (1, 2, 2)


@dataclass(frozen=True, eq=False)
class GridCase:
    """A case on its grid: the plane of the model's, and the slices of `lnfast.slabs.grid_for`.

    Attributes:
        channels: ``(4, z, y, x)`` float32: the network's input; the share of a voxel that is node; 1 in voxels of nodes
            of `BORDERLINE_MM`, else 0; 1 in background between two nodes, else 0.
        suspicious: ``(z, y, x)`` bool, voxels of nodes above the limit.
    """

    channels: Tensor
    suspicious: Tensor

    @property
    def image(self) -> Tensor:
        """``(z, y, x)``, the network's input."""
        return self.channels[0]

    @property
    def truth(self) -> Tensor:
        """``(z, y, x)``, 0 to 1."""
        return self.channels[1]


def whole_study(case: Case, card: ModelCard, grid_zyx: Zyx | None = None) -> tuple[Tensor, Tensor]:
    """Return input and soft truth of a whole study, each ``(1, 1, *grid_zyx)``; of the card's grid where it is None."""
    window = Window.whole(grid_zyx or card.shape_zyx)
    out = np.empty((2, *window.shape_zyx), np.float32)
    write_input(case.volume, card, out[0], window=window, threads=1)
    # The same trilinear weights for the truth. Its soft values are kept: their 0.5 is where the surface is, and
    # rounding them on a grid coarser than the native one would move it by up to half a voxel.
    mask = Volume((case.labels > 0).astype(np.uint8), case.volume.grid).oriented(card.orientation)
    resample_normalize(mask.array, out[1], lo=0.0, hi=1.0, shift=0.0, scale=1.0, threads=1)
    full = torch.from_numpy(out)[None]
    return full[:, :1], full[:, 1:]


def to_model_grid(case: Case, card: ModelCard) -> GridCase:
    """Resample a case to the grid on which it is analysed, and mark what crops are placed and weighted by.

    It takes some 50 ms of one core.
    """
    native = case.volume.oriented(card.orientation).grid
    grid_zyx = grid_for(native, card.shape_zyx, kept=card.keeps_slices)
    image, truth = whole_study(case, card, grid_zyx)
    nodes = true_nodes(case, card.orientation).nodes
    low, high = BORDERLINE_MM
    borderline = np.array([False, *(low <= node.box_mm[0] <= high for node in nodes)])
    suspicious = np.array([False, *(node.suspicious for node in nodes)])
    labels = _nearest(Volume(case.labels, case.volume.grid).oriented(card.orientation).array, grid_zyx)
    others = np.stack((borderline[labels], between_nodes(labels))).astype(np.float32)
    channels = torch.cat((image[0], truth[0], torch.from_numpy(others)))
    return GridCase(channels, torch.from_numpy(suspicious[labels]))


def between_nodes(labels: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return the background voxels that are near two different nodes: within `NEAR_ZYX` voxels of each.

    Args:
        labels: ``(z, y, x)``, 0 background, nodes from 1 without a gap.
    """
    between = np.zeros(labels.shape, bool)
    for label, bounds in enumerate(find_objects(labels), start=1):
        if bounds is None:  # the grid is coarser than the native one, and contains no centre of this node
            continue
        around = tuple(slice(max(0, s.start - 2 * n), s.stop + 2 * n) for s, n in zip(bounds, NEAR_ZYX, strict=True))
        near = labels[around]
        own, others = near == label, (near > 0) & (near != label)
        if others.any():
            size = [2 * n + 1 for n in NEAR_ZYX]
            between[around] |= maximum_filter(own, size) & maximum_filter(others, size) & (near == 0)
    return between


def true_nodes(case: Case, orientation: str) -> NodeMap:
    """Measure the nodes of the truth as the runtime measures those that it finds.

    Args:
        case: with its truth.
        orientation: of the card.
    """
    labels = Volume(case.labels, case.volume.grid)
    return NodeMap(labels, measure_nodes(labels, int(case.labels.max()), RULES, orientation=orientation, threads=1))


def _nearest(labels: NDArray[np.uint16], shape_zyx: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Return the label at each voxel of a grid over the same field."""
    axes = [
        (2 * np.arange(size) + 1) * native // (2 * size) for size, native in zip(shape_zyx, labels.shape, strict=True)
    ]
    return labels[np.ix_(*axes)]
