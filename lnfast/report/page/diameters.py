"""The end points of a node's axial diameters. `lnfast.measure` has their lengths; a picture needs their ends.

+--+---+          long: between the two corners that are farthest apart, in any slice
|  a   +--+       short: the extent of the slice's corners across it, drawn halfway
+--+    b |       between the two outermost corners
   +------+
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Volume
from lnfast.header_noise import without_header_noise

Floats = NDArray[np.float64]
# Diameters that differ by less are equal, as in lnfast_ext: of those the one with the smallest extent across is taken.
_EQUAL = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class AxialDiameters:
    """The diameters of one node.

    Attributes:
        slice: index of the slice of the measurement.
        long_ends_vox, short_ends_vox: (2, 2), two points each ``(x, y)``; voxel corners are whole numbers, so that the
            first voxel of a row reaches from 0 to 1.
        long_mm, short_mm: their lengths.
    """

    slice: int
    long_ends_vox: Floats
    short_ends_vox: Floats
    long_mm: float
    short_mm: float


def axial_diameters(labels: Volume) -> dict[int, AxialDiameters]:
    """Return the diameters of every node, by its label.

    Args:
        labels: ``(z, y, x)`` integers in the orientation of the measurement, 0 outside.
    """
    to_mm = _plane(without_header_noise(labels.grid.affine))
    by_node: dict[int, list[tuple[int, Floats]]] = {}
    for label, z, corners in _slices(labels.array):
        by_node.setdefault(label, []).append((z, corners))
    return {label: _measure(slices, to_mm) for label, slices in by_node.items()}


def _plane(affine: Floats) -> Floats:
    """(2, 2): index ``(x, y)`` to millimetres in the plane, the first axis along x, as lnfast_ext lays it."""
    x, y = affine[:3, 0], affine[:3, 1]
    along = float(x @ y) / float(np.linalg.norm(x))
    return np.array([[np.linalg.norm(x), along], [0.0, np.linalg.norm(y - along * x / np.linalg.norm(x))]])


def _slices(array: NDArray[np.integer]) -> Iterator[tuple[int, int, Floats]]:
    """``(label, z, corners)`` of each slice of each node; corners are (n, 2), of its rows' first and last voxels."""
    flat = np.ascontiguousarray(array).ravel()
    places = np.flatnonzero(flat)
    if not places.size:
        return
    places = places[np.argsort(flat[places], kind="stable")]
    keys = np.stack((flat[places], *np.unravel_index(places, array.shape))).astype(np.int64)
    begins = np.flatnonzero(np.r_[True, np.diff(keys[:3]).any(axis=0)])
    label, z, y, first = keys[:, begins]
    past = keys[3, np.r_[begins[1:], places.size] - 1] + 1
    corners = np.array([(first, y), (past, y), (first, y + 1), (past, y + 1)], np.float64).transpose(2, 0, 1)
    bounds = np.r_[np.flatnonzero(np.r_[True, (np.diff(label) != 0) | (np.diff(z) != 0)]), len(label)]
    for begin, end in pairwise(bounds.tolist()):
        yield int(label[begin]), int(z[begin]), np.unique(corners[begin:end].reshape(-1, 2), axis=0)


def _measure(slices: list[tuple[int, Floats]], to_mm: Floats) -> AxialDiameters:
    distances = [_distances(corners @ to_mm.T) for _, corners in slices]
    longest = max(float(lengths.max()) for lengths in distances)
    best: tuple[float, int, Floats, Floats] | None = None
    for (z, corners), lengths in zip(slices, distances, strict=True):
        points = corners @ to_mm.T
        for a, b in np.argwhere(np.triu(lengths >= longest * _EQUAL)):
            along = (points[b] - points[a]) / lengths[a, b]
            reach = points @ (-along[1], along[0])
            low, high = int(reach.argmin()), int(reach.argmax())
            across = float(reach[high] - reach[low])
            if best is None or across < best[0]:
                halfway = (points[low] + points[high]) @ along / 2
                ends = halfway * along + np.outer((reach[low], reach[high]), (-along[1], along[0]))
                best = across, z, corners[[a, b]], np.linalg.solve(to_mm, ends.T).T
    assert best is not None, "the longest of all is among them"
    return AxialDiameters(best[1], best[2], best[3], longest, best[0])


def _distances(points: Floats) -> Floats:
    apart = points[:, None] - points
    return np.hypot(apart[..., 0], apart[..., 1])
