"""The minimum-volume box against random rotations with descent, trimesh, and shapes whose box is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations, product
from typing import Any

import numpy as np
import oracles
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lnfast_ext import min_volume_box

CUBE = np.array(list(product((0.0, 1.0), repeat=3)))
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float64)
ROUNDING = 1e-9


def lattice_cloud(rng: np.random.Generator) -> NDArray[np.float64]:
    shape = rng.integers(1, 6, 3)
    mask = rng.random(shape) < rng.uniform(0.1, 0.9)
    mask.flat[rng.integers(mask.size)] = True
    return oracles.corners_zyx(mask) * rng.uniform(0.5, 4.0, 3)


@pytest.mark.parametrize("seed", range(12))
def test_no_rotation_of_a_random_cloud_is_smaller(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(rng.integers(4, 20), 3)) * rng.uniform(0.2, 3.0, 3)
    if seed % 3 == 0:
        points = np.round(2 * points)
    oracles.assert_box(points, min_volume_box(points), at_most=oracles.box_volume(points, seed=seed))


@pytest.mark.parametrize("seed", range(12))
def test_no_rotation_of_voxel_corners_is_smaller(seed: int) -> None:
    points = lattice_cloud(np.random.default_rng(seed))
    oracles.assert_box(points, min_volume_box(points), at_most=oracles.box_volume(points, seed=seed))


@pytest.mark.parametrize("size", [1e-165, 1e-70, 1e-3, 1e90, 1e99])
def test_any_size_that_float64_holds(size: float) -> None:
    points = np.random.default_rng(5).standard_normal((9, 3))
    _, axes, extents = min_volume_box(points * size)
    wanted = min_volume_box(points)
    np.testing.assert_allclose(extents / size, wanted[2], rtol=1e-9)
    np.testing.assert_allclose(axes, wanted[1], atol=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_never_larger_than_trimesh(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    points = lattice_cloud(rng) if seed % 2 else rng.normal(size=(rng.integers(5, 400), 3)) * rng.uniform(0.2, 3.0, 3)
    _, extents = trimesh.bounds.oriented_bounds(points)
    oracles.assert_box(points, min_volume_box(points), at_most=float(np.prod(extents)))


def test_the_box_of_a_regular_tetrahedron_is_a_cube_although_no_face_is_flush() -> None:
    for seed in range(20):
        points = Rotation.random(rng=seed).apply(TETRAHEDRON) + 50
        _, _, extents = box = min_volume_box(points)
        oracles.assert_box(points, box)
        np.testing.assert_allclose(extents, 2.0, rtol=1e-9)


@pytest.mark.parametrize("sides", [(1, 1, 1), (1, 2, 3), (1e-3, 1, 40), (8, 8, 30), (1e-6, 1, 1)])
def test_a_turned_box_is_found_again(sides: tuple[float, float, float]) -> None:
    for seed in range(10):
        points = Rotation.random(rng=seed).apply(CUBE * sides) + np.array([10, -200, 30])
        _, _, extents = box = min_volume_box(points)
        oracles.assert_box(points, box)
        np.testing.assert_allclose(extents, sorted(sides), rtol=1e-9, atol=2e-12 * 200)


def test_the_minimum_may_be_smooth_and_between_all_faces() -> None:
    """Forty descents over all rotations must not go below it."""
    points = np.array([[0, 0, 0], [4, 1, 0], [1, 3, 1], [2, 1, 5], [-1, 2, 3]], dtype=np.float64)
    oracles.assert_box(points, min_volume_box(points), at_most=oracles.box_volume(points, descents=40))


def test_points_lines_and_planes_are_ordinary() -> None:
    rng = np.random.default_rng(5)
    for seed in range(20):
        turn, shift = Rotation.random(rng=seed), rng.uniform(-100, 100, 3)
        for flat, wanted in (
            (np.zeros((1, 3)), (0, 0, 0)),
            (np.zeros((7, 3)), (0, 0, 0)),
            (np.array([[0, 0, 0], [3, 0, 0]]), (0, 0, 3)),
            (np.outer(np.arange(6), [1, 0, 0]), (0, 0, 5)),
            (np.array([[0, 0, 0], [4, 0, 0], [4, 2, 0], [0, 2, 0], [1, 1, 0]]), (0, 2, 4)),
            (np.array([[0, 0, 0], [2, 0, 0], [1, 2, 0]]), (0, 2, 2)),
        ):
            points = turn.apply(flat.astype(np.float64)) + shift
            _, _, extents = box = min_volume_box(points)
            oracles.assert_box(points, box)
            assert (extents == 0).sum() == wanted.count(0)
            assert extents.prod() == 0
            np.testing.assert_allclose(extents[1] * extents[2], wanted[1] * wanted[2], atol=1e-9)


def test_a_flat_set_gets_its_least_rectangle() -> None:
    rng = np.random.default_rng(8)
    angles = np.linspace(0, np.pi, 20_001)
    for seed in range(20):
        plane = rng.normal(size=(8, 2))
        turned = np.stack([np.cos(angles), np.sin(angles)]), np.stack([-np.sin(angles), np.cos(angles)])
        least = (np.ptp(plane @ turned[0], axis=0) * np.ptp(plane @ turned[1], axis=0)).min()
        points = Rotation.random(rng=seed).apply(np.c_[plane, np.zeros(8)])
        _, _, extents = box = min_volume_box(points)
        oracles.assert_box(points, box)
        assert extents[0] == 0
        assert extents[1] * extents[2] <= least * (1 + ROUNDING)


@pytest.mark.parametrize("seed", range(6))
def test_millimetres_do_not_depend_on_the_frame(seed: int) -> None:
    """48 signed permutations and random rotations: the same extents, although equal boxes are many on lattices."""
    points = lattice_cloud(np.random.default_rng(seed))
    extents = min_volume_box(points)[2]
    for order in permutations(range(3)):
        for signs in product((-1, 1), repeat=3):
            np.testing.assert_allclose(min_volume_box(points[:, order] * signs)[2], extents, rtol=1e-7)
    for turn in Rotation.random(10, rng=seed):
        np.testing.assert_allclose(min_volume_box(turn.apply(points) + 30)[2], extents, rtol=1e-7)


def test_many_points_on_a_ball() -> None:
    points = np.random.default_rng(3).normal(size=(600, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    oracles.assert_box(points, min_volume_box(points), at_most=oracles.box_volume(points, rotations=500, descents=2))


def test_near_duplicates_and_needles() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=(12, 3))
    for noise in (1e-15, 1e-13, 1e-11, 1e-9, 1e-6):
        points = np.concatenate([base, base + noise * rng.normal(size=base.shape)])
        near = min_volume_box(base)[2].prod()
        oracles.assert_box(points, min_volume_box(points), at_most=near * (1 + 100 * noise))
    for thin in (1e-3, 1e-6, 1e-9):
        points = Rotation.random(rng=1).apply(base * (1, thin, 1000))
        oracles.assert_box(points, min_volume_box(points), at_most=oracles.box_volume(points, rotations=2000))


def test_vertices_that_are_double_but_for_rounding() -> None:
    """Where two ellipses cross their points coincide, and after a turn nearly: long slivers lie on every true edge."""
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 12, endpoint=False))
    x, y, o = circle.real, circle.imag, 0 * circle.real
    rings = np.concatenate([np.c_[x, y, o], np.c_[o, x, y], np.c_[y, o, x]])
    for sides in ((1, 2, 3), (1, 1, 10), (1, 1, 1)):
        least = min_volume_box(rings * sides)[2].prod()
        for seed in range(40):
            volume = min_volume_box(Rotation.random(rng=seed).apply(rings * sides))[2].prod()
            np.testing.assert_allclose(volume, least, rtol=1e-9)


@pytest.mark.parametrize("noise", [1e-13, 1e-12, 5e-12, 1e-11, 5e-11, 1e-10, 1e-9])
def test_near_copies_of_a_tetrahedron_change_no_more_than_they_must(noise: float) -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base = rng.normal(size=(4 + seed % 2, 3)) * (1, 3, 1)
        copies = np.concatenate([base, base + noise * rng.normal(size=base.shape)])
        least = np.ptp(copies @ min_volume_box(base)[1].T, axis=0).prod()
        oracles.assert_box(copies, min_volume_box(copies), at_most=least)


def test_thin_frusta_end() -> None:
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 12, endpoint=False))
    ring = np.c_[circle.real, circle.imag, 0 * circle.real]
    for thin in (1e-3, 1e-4, 1e-5, 1e-6):
        points = np.concatenate([ring, 0.27 * ring + (0, 0, 1)]) * (thin, thin, 1)
        for seed in range(12):
            turned = Rotation.random(rng=seed).apply(points)
            oracles.assert_box(turned, min_volume_box(turned))


def test_layouts_types_and_threads_give_the_same_answer() -> None:
    points = lattice_cloud(np.random.default_rng(4))
    wanted = min_volume_box(points)
    points.flags.writeable = False
    spread = np.zeros((2 * len(points), 6))
    spread[::2, ::2] = points
    for same in (points, np.asfortranarray(points), spread[::2, ::2], points.tolist()):
        for got, expected in zip(min_volume_box(same), wanted, strict=True):
            np.testing.assert_array_equal(got, expected)
    with ThreadPoolExecutor(8) as pool:
        for box in pool.map(min_volume_box, [points] * 32):
            np.testing.assert_array_equal(np.concatenate([box[1], box[2:]]), np.concatenate([wanted[1], wanted[2:]]))
    np.testing.assert_allclose(min_volume_box(TETRAHEDRON.astype(np.int8))[2], 2.0)


@pytest.mark.parametrize(
    ("points", "error"),
    [
        (np.zeros((0, 3)), ValueError),
        (np.zeros(3), ValueError),
        (np.zeros((4, 2)), ValueError),
        (np.array([[0, 0, np.nan]]), ValueError),
        (np.array([[0, 0, np.inf]]), ValueError),
        (np.array([[0, 0, 1e300]]), ValueError),
        (np.zeros((4, 3), complex), TypeError),
        (np.array([["a", "b", "c"]]), TypeError),
    ],
)
def test_refusals(points: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="points_mm"):
        min_volume_box(points)
