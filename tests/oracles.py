"""Slow, obvious reference implementations for kernels and measures: plain Python, numpy, scipy. Nothing is clever."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as label_patches
from scipy.optimize import minimize
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform
from scipy.spatial.transform import Rotation

Array = NDArray[Any]


def weights(size_in: int, size_out: int) -> Array:
    """Linear interpolation with half-pixel centres and clamped edges as an (out, in) matrix."""
    matrix = np.zeros((size_out, size_in))
    for o in range(size_out):
        centre = min(max((o + 0.5) * size_in / size_out - 0.5, 0.0), size_in - 1.0)
        first = int(centre)
        matrix[o, first] += 1.0 - (centre - first)
        matrix[o, min(first + 1, size_in - 1)] += centre - first
    return matrix


def resample(volume: Array, shape: tuple[int, ...]) -> Array:
    """Trilinear resampling in float64."""
    z, y, x = (weights(i, o) for i, o in zip(volume.shape, shape, strict=True))
    return np.einsum("zi,yj,xk,ijk->zyx", z, y, x, volume.astype(np.float64), optimize=True)


def supported(native: tuple[int, ...], grid: tuple[int, ...], start: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Return which native voxels have all of their weights in a part of a grid."""
    covered = []
    for size_out, size_in, first, size in zip(native, grid, start, shape, strict=True):
        outside = weights(size_in, size_out)
        outside[:, first : first + size] = 0.0
        covered.append(~outside.any(axis=1))
    z, y, x = covered
    return z[:, None, None] & y[:, None] & x


def normalize(volume: Array, shape: tuple[int, ...], lo: float, hi: float, shift: float, scale: float) -> Array:
    """Clip, shift and scale each voxel, then resample."""
    return resample((np.clip(volume.astype(np.float64), lo, hi) - shift) * scale, shape)


def label(mask: Array, connectivity: int) -> tuple[Array, int]:
    """Flood fill from each unlabelled voxel in raster order."""
    reach = {6: 1, 18: 2, 26: 3}[connectivity]
    steps = [s for s in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, s)) <= reach]
    labels, count = np.zeros(mask.shape, np.int32), 0
    for seed in zip(*np.nonzero(mask), strict=True):
        if labels[seed]:
            continue
        count += 1
        labels[seed] = count
        queue = deque([seed])
        while queue:
            at = queue.popleft()
            for step in steps:
                to = tuple(int(a) + s for a, s in zip(at, step, strict=True))
                if all(0 <= t < n for t, n in zip(to, mask.shape, strict=True)) and mask[to] and not labels[to]:
                    labels[to] = count
                    queue.append(to)
    return labels, count


def corners_zyx(mask: Array) -> Array:
    """Every corner of every voxel once, (n, 3) in (z, y, x) index space."""
    centres = np.argwhere(mask)[:, None, :]
    return np.unique((centres + np.array(list(product((-0.5, 0.5), repeat=3)))).reshape(-1, 3), axis=0)


def to_mm(zyx: Array, affine: Array) -> Array:
    return zyx[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]


def axial(mask: Array, affine: Array) -> tuple[float, float]:
    """(short, long): the longest distance between pixel corners of a slice, and the least extent across such a one."""
    diameters = []
    for z in np.unique(np.nonzero(mask)[0]):
        pixels = np.argwhere(mask[z])[:, None, :]
        yx = np.unique((pixels + np.array(list(product((-0.5, 0.5), repeat=2)))).reshape(-1, 2), axis=0)
        points = yx[:, ::-1] @ affine[:3, :2].T
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        distances = squareform(pdist(points))
        for a, b in np.argwhere(distances >= distances.max() * (1 - 1e-9)):
            across = np.cross(normal, points[b] - points[a])
            diameters.append((distances[a, b], np.ptp(points @ across) / np.linalg.norm(across)))
    longest = max(d for d, _ in diameters)
    return min(w for d, w in diameters if d >= longest * (1 - 1e-9)), longest


def volume_along(points: Array, axes: Array) -> Array:
    """Volumes of the boxes whose edges are the rows of ``axes`` (..., 3, 3)."""
    return np.ptp(points @ np.swapaxes(axes, -1, -2), axis=-2).prod(-1)


def hull_points(points: Array) -> Array:
    """The extreme points only; all points when there is no solid hull."""
    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        return points


def box_volume(points: Array, *, rotations: int = 10_000, descents: int = 12, seed: int = 0) -> float:
    """The least box volume that random rotations, followed by descent from the best of them, can find."""
    points = hull_points(points - points.mean(axis=0))
    tried = Rotation.random(rotations, rng=seed)
    volumes = volume_along(points, tried.as_matrix())
    best = float(volumes.min())

    def descended(rotation_vector: Array) -> float:
        return float(volume_along(points, Rotation.from_rotvec(rotation_vector).as_matrix()))

    for start in np.argsort(volumes)[:descents]:
        result = minimize(
            descended,
            tried[int(start)].as_rotvec(),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 600},
        )
        best = min(best, float(result.fun))
    return best


def assert_box(points: Array, box: tuple[Array, Array, Array], *, at_most: float | None = None) -> None:
    """A right-handed, ascending box that holds every point and is no larger than ``at_most``."""
    centre, axes, extents = box
    size = max(1.0, float(np.abs(points).max()))
    assert np.abs(axes @ axes.T - np.eye(3)).max() <= 1e-12
    assert np.linalg.det(axes) > 0
    assert (np.diff(extents) >= 0).all() and extents[0] >= 0
    inside = np.abs((points - centre) @ axes.T) - extents / 2
    assert inside.max() <= 1e-12 * size
    assert np.abs(np.ptp(points @ axes.T, axis=0) - extents).max() <= 1e-11 * size
    if at_most is not None:
        assert extents.prod() <= at_most * (1 + 1e-9) + 1e-12 * size**3


def measure(labels: Array, count: int, affine: Array) -> list[dict[str, Any]]:
    """Everything but the box, one dict a node."""
    rows = []
    for node in range(1, count + 1):
        mask = labels == node
        zyx = np.argwhere(mask)
        short, long = axial(mask, affine)
        rows.append(
            {
                "label": node,
                "voxels": len(zyx),
                "slices": len(np.unique(zyx[:, 0])),
                "volume_mm3": len(zyx) * abs(np.linalg.det(affine[:3, :3])),
                "centroid_ras_mm": to_mm(zyx, affine).mean(axis=0),
                "axial_short_mm": short,
                "axial_long_mm": long,
                "bounds_zyx": np.stack([zyx.min(axis=0), zyx.max(axis=0) + 1], axis=1),
            }
        )
    return rows


def tiny_masks() -> Iterator[Array]:
    """All 4096 binary images of 2x2x3 voxels."""
    for bits in range(1 << 12):
        yield np.array([bits >> k & 1 for k in range(12)], np.uint8).reshape(2, 2, 3)


def layouts(array: Array) -> Iterator[Array]:
    """The same values with other strides: C, Fortran, flipped, every second of a larger array; all read-only."""
    spread = np.zeros([2 * n for n in array.shape], array.dtype)
    spread[::2, ::2, ::2] = array
    flipped = array[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    for view in (array.copy(), np.asfortranarray(array), flipped, spread[::2, ::2, ::2]):
        view.flags.writeable = False
        yield view


def orientations(array: Array, affine: Array, *, keep_slices: bool) -> Iterator[tuple[Array, Array]]:
    """The same voxels in the same places in all 48 axis orders and flips, or the 16 that keep the slice axis first."""
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        if keep_slices and order[0] != 0:
            continue
        for flips in product((False, True), repeat=3):
            view, matrix = array.transpose(order), affine.copy()
            columns = [2 - axis for axis in order][::-1]  # of x, y, z of the view
            matrix[:3, :3] = affine[:3, columns]
            for axis, flip in enumerate(flips):
                if flip:
                    matrix[:3, 3] += matrix[:3, 2 - axis] * (view.shape[axis] - 1)
                    matrix[:3, 2 - axis] *= -1
                    view = np.flip(view, axis)
            yield view, matrix


def oblique(spacing_xyz: tuple[float, float, float], seed: int) -> Array:
    """An affine with this spacing, a random rotation and a shift of some 100 mm."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=seed).as_matrix() * spacing_xyz
    affine[:3, 3] = np.random.default_rng(seed).uniform(-100, 100, 3)
    return affine


def directed_distances(source: Array, target: Array, affine: Array) -> tuple[float, float]:
    """(greatest, average) distance in mm from the voxel centres of one mask to the other's nearest, pair by pair."""
    source_mm, target_mm = (to_mm(np.argwhere(mask).astype(float), affine) for mask in (source, target))
    nearest = np.array([min(np.linalg.norm(a - b) for b in target_mm) for a in source_mm])
    return float(nearest.max()), float(nearest.mean())


def mahalanobis(mask_a: Array, mask_b: Array, affine: Array) -> float:
    """The distance of two masks' centres by the pooled covariance (over n) of both, weighted by their voxels, in mm."""
    first, second = (to_mm(np.argwhere(mask).astype(float), affine) for mask in (mask_a, mask_b))
    parts = [np.cov(points.T, bias=True) * len(points) for points in (first, second)]
    pooled = sum(parts) / (len(first) + len(second))
    between = first.mean(axis=0) - second.mean(axis=0)
    return float(np.sqrt(between @ np.linalg.inv(pooled) @ between))


def delong(positives: list[float], negatives: list[float]) -> tuple[float, float]:
    """(AUC, variance), every positive against every negative."""
    psi = np.array([[float(p > n) + 0.5 * float(p == n) for n in negatives] for p in positives])
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    return float(psi.mean()), float(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01))


def most_pairs(allowed: Array) -> int:
    """The most pairs of a row and a column, each in one pair at most, by trying all ways."""
    if not len(allowed):
        return 0
    rest = allowed[1:]
    without = most_pairs(rest)
    return max([without, *(1 + most_pairs(np.delete(rest, c, axis=1)) for c in np.flatnonzero(allowed[0]))])


def body_statistics(volume: np.ndarray) -> dict[str, float]:
    """The fields of `lnfast_ext.body_statistics` by masks of padding, numpy's percentiles and loops over cells."""
    values = volume.astype(np.float64)
    counts = {value: int(count) for value, count in zip(*np.unique(volume, return_counts=True), strict=True)}
    runs = {value: _runs_of(volume == value) for value, count in counts.items() if count >= 64}
    flat = [
        value
        for value, (in_runs, _) in runs.items()
        if in_runs >= max(64, 0.0005 * volume.size) and in_runs >= 0.5 * counts[value]
    ]
    without = values[~np.isin(volume, flat)]
    below = np.percentile(without, 2) if without.size and flat else -np.inf
    padding = [value for value in flat if runs[value][1] >= 0.8 * runs[value][0] or value <= below]
    outside = np.isin(volume, padding)
    rest = values[~outside]
    floor, high = np.percentile(rest, (2, 80))
    clipped = np.clip(values, floor, high + 7 * (high - floor))
    slabs = np.array_split(np.arange(len(volume)), max(len(volume) // 8, 1))
    rows, columns = -(-volume.shape[1] // 4), -(-volume.shape[2] // 4)
    cells = np.full((len(slabs), rows, columns), np.nan)
    for s, slab in enumerate(slabs):
        for y in range(rows):
            for x in range(columns):
                part = np.ix_(
                    slab, range(4 * y, min(4 * y + 4, volume.shape[1])), range(4 * x, min(4 * x + 4, volume.shape[2]))
                )
                inside = ~outside[part]
                if 2 * inside.sum() >= inside.size:
                    cells[s, y, x] = clipped[part][inside].mean()
    known = cells[np.isfinite(cells)]
    middle = cells[:, rows // 5 : rows - rows // 5, columns // 5 : columns - columns // 5]
    darkest, central = np.percentile(known, 5), np.percentile(middle[np.isfinite(middle)], 30)
    level = darkest + 0.5 * (central - darkest)
    body = near = known[known >= level]
    tissue = np.percentile(body, 50)
    for _ in range(8):
        before = tissue
        near = body[body <= floor + 3 * (tissue - floor)]
        tissue = np.percentile(near, 50)
        if tissue == before:
            break
    bright = floor + 4 * (tissue - floor)
    return {
        "floor": floor,
        "tissue": tissue,
        "level": level,
        "spread": np.percentile(np.abs(near - tissue), 50),
        "low": np.percentile(rest, 0.5),
        "median": np.percentile(rest, 50),
        "high": np.percentile(rest, 99.5),
        "darkest_cells": darkest,
        "central_cells": central,
        "body_share": (known >= level).sum() / cells.size,
        "bright_share": (known >= bright).sum() / cells.size,
        "bright_patch": max(_largest_patch(plane >= bright) for plane in cells),
        "saturated": sum(counts[value] for value in flat if value not in padding and value >= bright),
        "voxels": rest.size,
        "greys": np.unique(rest).size,
        "padding": sorted(float(value) for value in padding),
    }


def _runs_of(same: np.ndarray) -> tuple[int, int]:
    """Voxels in runs along x of eight and more, or that touch an end of the row; and those of the latter."""
    in_runs = at_rim = 0
    for row in same.reshape(-1, same.shape[2]):
        for value, run in groupby(enumerate(row), key=lambda item: item[1]):
            places = [place for place, _ in run]
            rim = places[0] == 0 or places[-1] == len(row) - 1
            if value and (rim or len(places) >= 8):
                in_runs += len(places)
                at_rim += len(places) * rim
    return in_runs, at_rim


def _largest_patch(bright: np.ndarray) -> int:
    """Cells of the largest 4-connected patch."""
    return int(np.bincount(label_patches(bright)[0].ravel())[1:].max(initial=0))
