"""The ellipsoid rule: the short axis of the ellipsoid with the second moments of the network's probability.

A mask says of a voxel that is 6 to 8 mm thick only whether the node fills half of it. The network says more: a
probability for each voxel of its finer grid. So each of these voxels counts as a solid block, weighted with its
probability, and the node is measured as the solid ellipsoid with the same second moments.

The network voxels of a node (drawn along one axis, ``o`` its own, ``+`` those that touch one):

    native voxels    |    .     |    #     |    #     |    .     |
    network voxels   | .  | .  +|o   |o   |o   | o  | +  | .  | .  |

A voxel is the node's own when its centre lies in one of the node's native voxels, or when it contains the centre of
one. Another node's own voxels do not count, and a voxel that touches two nodes and belongs to neither counts half for
each. Voxels outside the grid, or outside the window on which the network ran, do not count.

`docs/measurement.md` compares this rule with those on the corners of voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.window import Window

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# The second moment of a solid ellipsoid along an axis of half length a is a^2 / 5.
MOMENTS_OF_A_SOLID = 5.0
# A margin of two network voxels: those that touch a node, and beyond them the voxels of another node.
AROUND = 2


def ellipsoid_short_mm(
    labels: NDArray[np.integer],
    bounds_zyx: ArrayLike,
    logits: NDArray[np.floating],
    affine: NDArray[np.float64],
    window: Window | None = None,
) -> list[float]:
    """Return the short axis of each node's ellipsoid.

    Args:
        labels: ``(z, y, x)``, any strides; node ``i + 1`` has a voxel within ``bounds_zyx[i]`` and none outside.
        bounds_zyx: ``(n, 3, 2)``, first voxel and one past the last.
        logits: ``(z, y, x)`` float32 or float16 on the grid with the same outer edges; read around nodes only.
        affine: (4, 4), voxel-centre index ``(x, y, z, 1)`` of ``labels`` to mm.
        window: the part of their grid that the logits cover; None for all of it.

    Returns:
        Millimetres, in the order of labels; NaN for a node whose probabilities are all 0 in float64.
    """
    native, network = np.array(labels.shape), np.array(logits.shape if window is None else window.grid_zyx)
    first = np.array((0, 0, 0) if window is None else window.start_zyx)
    # For every network voxel along each axis: the native voxel that contains its centre.
    native_index = [_containing_voxel(np.arange(n), n, m) for n, m in zip(network, native, strict=True)]
    step_mm = affine[:3, :3] * (native / network)[::-1]
    bounds = np.asarray(bounds_zyx, dtype=np.int64).reshape(-1, 3, 2)
    low = (bounds[:, :, 0] * network // native - AROUND).clip(first, first + logits.shape)
    high = (-(-bounds[:, :, 1] * network // native) + AROUND).clip(first, first + logits.shape)
    finer = bool((native > network).any())  # else every native voxel contains the centre of a network voxel
    shorts = []
    for label, (start, stop) in enumerate(zip(low, high, strict=True), start=1):
        box = _box(start, stop)
        ids_near = labels[np.ix_(*(nearest[axis] for nearest, axis in zip(native_index, box, strict=True)))]
        own, others_own = ids_near == label, (ids_near > 0) & (ids_near != label)
        if finer:
            ids, containing = _native_centres(labels, start, stop, native, network)
            own[tuple(containing[ids == label].T)] = True
            others_own[tuple(containing[ids != label].T)] = True
        weights = _weights(own, others_own & ~own, logits[_box(start - first, stop - first)])
        shorts.append(equivalent_short_mm(weights, step_mm))
    return shorts


def equivalent_short_mm(weights: Floats, step_mm: NDArray[np.float64]) -> float:
    """Return the short axis of the ellipsoid with the second moments of solid voxels.

    Args:
        weights: ``(z, y, x)``, not negative: how much of a voxel counts.
        step_mm: (3, 3), the columns are the voxel's edges x, y, z.

    Returns:
        Millimetres; NaN where all weights are 0.
    """
    total = float(weights.sum())
    if not total > 0:
        return float("nan")
    flat = [weights.sum(axis=axis) / total for axis in range(3)]  # over z: (y, x); over y: (z, x); over x: (z, y)
    lines = (flat[1].sum(axis=1), flat[0].sum(axis=1), flat[0].sum(axis=0))
    positions = [np.arange(len(line), dtype=np.float64) for line in lines]
    z, y, x = (position - position @ line for position, line in zip(positions, lines, strict=True))
    zy, zx, yx = z @ flat[2] @ y, z @ flat[1] @ x, y @ flat[0] @ x
    # A solid voxel adds its own second moment, a twelfth of its edge squared.
    xx, yy, zz = (
        float(line @ (position * position)) + 1 / 12 for position, line in zip((x, y, z), lines[::-1], strict=True)
    )
    moments = step_mm @ np.array(((xx, yx, zx), (yx, yy, zy), (zx, zy, zz))) @ step_mm.T
    return 2 * float(np.sqrt(MOMENTS_OF_A_SOLID * np.linalg.eigvalsh(moments)[0]))


def _weights(own: Mask, others_own: Mask, logits: NDArray[np.floating]) -> Floats:
    """Return the probability in a node's own voxels and in those that touch one and are no other node's; else 0."""
    weights = 0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64))  # no logit overflows here
    weights[~_dilated(own)] = 0.0
    if others_own.any():
        weights[_dilated(others_own) & ~own] *= 0.5
        weights[others_own] = 0.0
    return np.asarray(weights)


def _containing_voxel(
    index: NDArray[np.intp], size: NDArray[np.intp] | int, other_size: NDArray[np.intp] | int
) -> NDArray[np.intp]:
    """Return the voxel of another grid with the same outer edges that contains a voxel's centre, in exact integers."""
    return np.asarray((2 * index + 1) * other_size // (2 * size), dtype=np.intp)


def _box(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))


def _native_centres(
    labels: NDArray[np.integer],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    native: NDArray[np.intp],
    network: NDArray[np.intp],
) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
    """Return the native node voxels with centres in a box of network voxels: ids ``(n,)``, network voxels ``(n, 3)``.

    Args:
        start, stop: the box, first voxel and one past the last; indices of network voxels count from its start.
    """
    low, high = start * native // network, -(-stop * native // network)
    inside = labels[_box(low, high)]
    positions = np.argwhere(inside > 0)
    ids, containing = inside[tuple(positions.T)], _containing_voxel(positions + low, native, network)
    within = ((containing >= start) & (containing < stop)).all(axis=1)
    return ids[within], containing[within] - start


def _dilated(mask: Mask) -> Mask:
    """Dilate a mask by one voxel in all 26 directions."""
    for axis in range(3):
        dilated = mask.copy()
        towards, away = [slice(None)] * 3, [slice(None)] * 3
        towards[axis], away[axis] = slice(1, None), slice(None, -1)
        dilated[tuple(towards)] |= mask[tuple(away)]
        dilated[tuple(away)] |= mask[tuple(towards)]
        mask = dilated
    return mask
