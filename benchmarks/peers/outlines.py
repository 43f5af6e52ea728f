"""Outlines at the half maximum, as a researcher writes them with SciPy.

`lnfast.postprocess` says what the rule is. The tests compare the kernel with this, voxel by voxel.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint16]
CORNERS = np.ones((3, 3, 3), bool)
FACES = ndimage.generate_binary_structure(3, 1)
IN_PLANE = CORNERS & (np.arange(3) == 1)[:, None, None]
BESIDE = IN_PLANE & (np.arange(9).reshape(3, 3) != 4)
NEAR, FAR = 2, 4
SEED_VOXELS, PART_VOXELS, RING_VOXELS, JOIN_BESIDE = 3, 3, 6, 3
# About a node: the ring, and the other nodes that are near it or near a voxel that may join.
MARGIN = (2, FAR + NEAR, FAR + NEAR)


def outline_at_half_maximum(
    labels: Labels, image: NDArray[Any], masks: tuple[Mask, Mask, Mask], spacing_mm: Sequence[float]
) -> Labels:
    """Return the nodes of marks, taken apart and outlined, numbered in no certain order.

    Args:
        labels: ``(z, y, x)``, the marks 1 to their number; axis 0 counts slices.
        image: of the same shape.
        masks: where a voxel may join, is a seed, and stays in any case.
        spacing_mm: between voxels along z, y, x.
    """
    join, seed, sure = masks
    apart = _take_apart(labels, seed, sure, spacing_mm)
    result = np.zeros_like(apart)
    for label, box in enumerate(ndimage.find_objects(apart), 1):
        around = _widened(box, apart.shape)
        node, others = apart[around] == label, ~np.isin(apart[around], (0, label))
        outlined = _outline(node, others, image[around].astype(np.float64), join[around], sure[around])
        result[around][outlined] = label
    return result


def numbered(labels: Labels) -> Labels:
    """Return labels numbered in the raster order of their first voxels."""
    present, first = np.unique(labels, return_index=True)
    order = np.argsort(first[present > 0])
    numbers = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    numbers[present[present > 0][order]] = np.arange(1, len(order) + 1)
    return numbers[labels]


def _widened(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, size))
        for part, margin, size in zip(box, MARGIN, shape, strict=True)
    )


def _take_apart(labels: Labels, seed: Mask, sure: Mask, spacing_mm: Sequence[float]) -> Labels:
    apart, last = labels.copy(), int(labels.max(initial=0))
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        mark = labels[box] == label
        parts, count = ndimage.label(mark & seed[box], CORNERS)
        each = (parts == index for index in range(1, count + 1))
        seeds = [part for part in each if part.sum() >= SEED_VOXELS and (part & sure[box]).any()]
        if len(seeds) < 2:
            continue
        nearest = _nearest(mark, seeds, spacing_mm)
        for number in range(1, len(seeds)):
            last += 1
            apart[box][nearest == number] = last
    return apart


def _nearest(mark: Mask, seeds: list[Mask], spacing_mm: Sequence[float]) -> NDArray[np.int64]:
    """Return the number of the seed that is nearest within the mark, -1 elsewhere; paths run from voxel to voxel."""
    z_mm, y_mm, x_mm = spacing_mm
    steps = {
        (z, y, x): math.floor(math.sqrt((z * z_mm) ** 2 + (y * y_mm) ** 2 + (x * x_mm) ** 2) * 1000 + 0.5)
        for z, y, x in product((-1, 0, 1), repeat=3)
        if z or y or x
    }
    nearest = np.full(mark.shape, -1)
    waiting = [(0, number, tuple(voxel)) for number, seed in enumerate(seeds) for voxel in np.argwhere(seed).tolist()]
    heapq.heapify(waiting)
    while waiting:
        far, number, voxel = heapq.heappop(waiting)
        if nearest[voxel] >= 0:
            continue
        nearest[voxel] = number
        for step, length in steps.items():
            z, y, x = (a + b for a, b in zip(voxel, step, strict=True))
            if all(0 <= at < size for at, size in zip((z, y, x), mark.shape, strict=True)) and mark[z, y, x]:
                heapq.heappush(waiting, (far + length, number, (z, y, x)))
    return nearest


def _outline(node: Mask, others: Mask, image: NDArray[np.float64], join: Mask, sure: Mask) -> Mask:
    near, far = (ndimage.binary_dilation(node, IN_PLANE, iterations=pixels) for pixels in (NEAR, FAR))
    ring = image[far & ~near & ~ndimage.binary_dilation(others, IN_PLANE, iterations=NEAR)]
    values = np.sort(image[node])
    bright = float(values[int(0.9 * (len(values) - 1) + 0.5)])
    if len(ring) < RING_VOXELS or bright <= (background := float(np.sort(ring)[(len(ring) - 1) // 2])):
        return node
    above = image >= min(background / 2 + bright / 2, values[(len(values) - 1) // 2])
    inner = ndimage.binary_erosion(node, IN_PLANE) & ndimage.binary_erosion(node, FACES)
    stay = node & (above | sure | inner)
    reach = ndimage.binary_dilation(node, IN_PLANE) | ndimage.binary_dilation(node, FACES)
    joined = reach & ~node & ~ndimage.binary_dilation(others, CORNERS) & join & above
    joined &= ndimage.convolve((joined | stay).astype(np.int64), BESIDE, mode="constant") >= JOIN_BESIDE
    kept = joined | stay
    kept |= node & np.stack([ndimage.binary_fill_holes(plane) for plane in kept])
    parts, _ = ndimage.label(kept, CORNERS)
    sizes = np.bincount(parts.ravel())[1:]
    if stay.any() and np.sum(sizes >= PART_VOXELS) <= 1:
        return np.asarray(parts == 1 + np.argmax(sizes))
    return np.asarray(joined | node)
