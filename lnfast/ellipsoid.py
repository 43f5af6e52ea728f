"""The short axis by the network's own certainty: of the ellipsoid that has the same second moments.

A mask says of a voxel that is 6 to 8 mm thick only whether the node fills half of it. The network says more: how sure
it is, voxel by voxel of its finer grid. So each of its voxels counts as a solid block of that much tissue, and the
solid ellipsoid whose spread is the same in every direction stands for the node.

Which of the network's voxels are a node's (drawn along one axis, ``o`` its own, ``+`` those that touch one):

    native voxels    |    .     |    #     |    #     |    .     |
    network voxels   | .  | .  +|o   |o   |o   | o  | +  | .  | .  |

A voxel is its own when its centre lies in one of the node's native voxels or when it holds the centre of one. Another
node's own does not count, and what touches two nodes and is neither's own counts half for each.
Beyond the grid, and beyond the window in which the network was asked, nothing counts.

`docs/measurement.md` has what this gains over the corners of voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.window import Window

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# The second moment of a solid ellipsoid along an axis of half length a is a^2 / 5.
MOMENTS_OF_A_SOLID = 5.0
# The network's voxels beside a node's, and beside those the voxels of another node.
AROUND = 2


def ellipsoid_short_mm(
    labels: NDArray[np.integer],
    bounds_zyx: ArrayLike,
    logits: NDArray[np.floating],
    affine: NDArray[np.float64],
    window: Window | None = None,
) -> list[float]:
    """Short axis of each node's ellipsoid.

    Args:
        labels: ``(z, y, x)``, any strides; node ``i + 1`` has a voxel within ``bounds_zyx[i]`` and none outside.
        bounds_zyx: ``(n, 3, 2)``, first voxel and one past the last.
        logits: ``(z, y, x)`` float32 or float16 on the grid with the same outer edges; read about nodes only.
        affine: (4, 4), voxel-centre index ``(x, y, z, 1)`` of ``labels`` to mm.
        window: what part of their grid the logits are; None for all of it.

    Returns:
        Millimetres, in the order of labels; NaN for a node of which the network is nowhere sure enough for float64.
    """
    native, network = np.array(labels.shape), np.array(logits.shape if window is None else window.grid_zyx)
    first = np.array((0, 0, 0) if window is None else window.start_zyx)
    # Of every network voxel along each axis: the native voxel in which its centre lies.
    under = [_holder(np.arange(n), n, m) for n, m in zip(network, native, strict=True)]
    step_mm = affine[:3, :3] * (native / network)[::-1]
    bounds = np.asarray(bounds_zyx, dtype=np.int64).reshape(-1, 3, 2)
    low = (bounds[:, :, 0] * network // native - AROUND).clip(first, first + logits.shape)
    high = (-(-bounds[:, :, 1] * network // native) + AROUND).clip(first, first + logits.shape)
    finer = bool((native > network).any())  # else every native voxel has a centre of the network's in it
    shorts = []
    for label, (start, stop) in enumerate(zip(low, high, strict=True), start=1):
        box = _box(start, stop)
        ids_near = labels[np.ix_(*(nearest[axis] for nearest, axis in zip(under, box, strict=True)))]
        own, theirs = ids_near == label, (ids_near > 0) & (ids_near != label)
        if finer:
            ids, holders = _held(labels, start, stop, native, network)
            own[tuple(holders[ids == label].T)] = True
            theirs[tuple(holders[ids != label].T)] = True
        weights = _weights(own, theirs & ~own, logits[_box(start - first, stop - first)])
        shorts.append(equivalent_short_mm(weights, step_mm))
    return shorts


def equivalent_short_mm(weights: Floats, step_mm: NDArray[np.float64]) -> float:
    """Short axis of the ellipsoid with the second moments of solid voxels.

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
    places = [np.arange(len(line), dtype=np.float64) for line in lines]
    z, y, x = (place - place @ line for place, line in zip(places, lines, strict=True))
    zy, zx, yx = z @ flat[2] @ y, z @ flat[1] @ x, y @ flat[0] @ x
    # A solid voxel has a twelfth of its edge squared of its own.
    xx, yy, zz = (float(line @ (place * place)) + 1 / 12 for place, line in zip((x, y, z), lines[::-1], strict=True))
    moments = step_mm @ np.array(((xx, yx, zx), (yx, yy, zy), (zx, zy, zz))) @ step_mm.T
    return 2 * float(np.sqrt(MOMENTS_OF_A_SOLID * np.linalg.eigvalsh(moments)[0]))


def _weights(own: Mask, theirs: Mask, logits: NDArray[np.floating]) -> Floats:
    """Probability in a node's own voxels and in those that touch one of them and are no other node's."""
    weights = 0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64))  # no logit overflows here
    weights[~_grown(own)] = 0.0
    if theirs.any():
        weights[_grown(theirs) & ~own] *= 0.5
        weights[theirs] = 0.0
    return np.asarray(weights)


def _holder(
    index: NDArray[np.intp], size: NDArray[np.intp] | int, other_size: NDArray[np.intp] | int
) -> NDArray[np.intp]:
    """Which voxel of another grid, with the same outer edges, holds the centre of a voxel; integers, so no rounding."""
    return np.asarray((2 * index + 1) * other_size // (2 * size), dtype=np.intp)


def _box(start: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist(), strict=True))


def _held(
    labels: NDArray[np.integer],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    native: NDArray[np.intp],
    network: NDArray[np.intp],
) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
    """Nodes' native voxels whose centres lie in a box of the network's: ids ``(n,)``, and who holds each ``(n, 3)``.

    Args:
        start, stop: the box, first voxel and one past the last; indices of holders count from its start.
    """
    low, high = start * native // network, -(-stop * native // network)
    inside = labels[_box(low, high)]
    places = np.argwhere(inside > 0)
    ids, holders = inside[tuple(places.T)], _holder(places + low, native, network)
    within = ((holders >= start) & (holders < stop)).all(axis=1)
    return ids[within], holders[within] - start


def _grown(mask: Mask) -> Mask:
    """By one voxel in all 26 directions."""
    for axis in range(3):
        grown = mask.copy()
        towards, away = [slice(None)] * 3, [slice(None)] * 3
        towards[axis], away[axis] = slice(1, None), slice(None, -1)
        grown[tuple(towards)] |= mask[tuple(away)]
        grown[tuple(away)] |= mask[tuple(towards)]
        mask = grown
    return mask
