"""Grid and Volume: right for every orientation, and refusing what cannot be right."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume, axes_toward

SHAPE = (4, 5, 6)


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


def oblique_affine() -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = rotation(0, 18.5) @ rotation(2, -7.0) @ np.diag([-1.6, -1.5, 6.0])
    affine[:3, 3] = (120.0, 90.0, -70.0)
    return affine


@pytest.mark.parametrize("letters", ["RAS", "LPS", "LAI", "PIR", "SLA"])
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_orientation_is_a_view_that_keeps_every_voxel_in_place(
    order: tuple[int, int, int], flips: tuple[int, int, int], letters: str
) -> None:
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    affine = oblique_affine()
    stored_affine = affine.copy()
    stored_affine[:3, :3] = affine[:3, :3][:, list(order)] * flips
    volume = Volume(array, Grid(SHAPE, stored_affine))

    turned = volume.oriented(letters)

    assert np.shares_memory(turned.array, array)
    index = np.argwhere(turned.array >= 0)
    positions = turned.grid.to_ras_mm(index[:, ::-1])
    values = turned.array[tuple(index.T)]
    home = np.stack(np.unravel_index(values, SHAPE), axis=1)
    np.testing.assert_allclose(positions, volume.grid.to_ras_mm(home[:, ::-1]), atol=1e-9)
    signs = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    for axis, letter in enumerate(letters):
        world, sign = signs[letter]
        column = turned.grid.affine[:3, axis]
        assert column[world] * sign == np.abs(column).max()


def test_going_back_is_writing_into_the_view() -> None:
    volume = Volume(np.zeros(SHAPE), Grid(SHAPE, oblique_affine() @ np.diag([-1, 1, -1, 1.0])))
    volume.oriented("LPS").array[0] = 1.0
    assert volume.array.sum() == SHAPE[1] * SHAPE[2]


def test_a_45_degree_turn_uses_each_axis_once() -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(0, 45.0)
    order, _ = axes_toward(affine, "RAS")
    assert sorted(order) == [0, 1, 2]


@pytest.mark.parametrize("about", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 7.0), (1.6, 1.4, 7.0), (2.0, 2.0, 2.0)])
def test_at_45_degrees_the_storage_order_does_not_choose(about: int, spacing: tuple[float, float, float]) -> None:
    """All 48 ways to store one study give one view."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(about, 45.0) * spacing
    original = Volume(np.arange(np.prod(SHAPE)).reshape(SHAPE), Grid(SHAPE, affine))
    views = []
    for order in permutations(range(3)):
        for flips in product((False, True), repeat=3):
            array = original.array.transpose([2 - order[2 - axis] for axis in range(3)])
            turn = np.eye(4)
            turn[:3, :3] = 0
            for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
                turn[old, new] = -1 if flip else 1
                turn[old, 3] = SHAPE[2 - old] - 1 if flip else 0
            array = array[tuple(slice(None, None, -1) if flips[2 - axis] else slice(None) for axis in range(3))]
            views.append(Volume(array, Grid(array.shape, affine @ turn)).oriented("LPS"))
    for view in views:
        np.testing.assert_array_equal(view.array, views[0].array)
        np.testing.assert_allclose(view.grid.affine, views[0].grid.affine, atol=1e-12)


def test_sizes_in_millimetres() -> None:
    grid = Grid(SHAPE, oblique_affine())
    assert grid.spacing_zyx_mm == pytest.approx((6.0, 1.5, 1.6))
    assert grid.extent_zyx_mm == pytest.approx((24.0, 7.5, 9.6))
    assert grid.voxel_mm3 == pytest.approx(14.4)
    assert Grid(SHAPE, oblique_affine()) == grid
    assert hash(Grid(SHAPE, oblique_affine())) == hash(grid)
    assert Grid((4, 5, 7), oblique_affine()) != grid


def test_a_grid_cannot_be_changed() -> None:
    grid = Grid(SHAPE, oblique_affine())
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2.0
    with pytest.raises(AttributeError):
        grid.shape = (1, 1, 1)  # type: ignore[misc]


def bad_affines() -> dict[str, NDArray[np.float64]]:
    sheared = np.eye(4)
    sheared[0, 1] = 0.01
    nan = np.eye(4)
    nan[0, 3] = np.nan
    row = np.eye(4)
    row[3, 0] = 1.0
    return {
        "sheared": sheared,
        "nan": nan,
        "last row": row,
        "zero": np.diag([0.0, 1, 1, 1]),
        "too fine": np.diag([0.1, 1, 1, 1]),
        "too coarse": np.diag([1.0, 1, 21, 1]),
        "3x3": np.eye(3),
        "complex": np.eye(4) * 1j,
    }


@pytest.mark.parametrize("affine", ["abc", [[1, 0], [0, 1, 0]], None])
def test_what_is_no_matrix_is_refused(affine: Any) -> None:
    with pytest.raises(StudyError, match="bad-geometry"):
        Grid(SHAPE, affine)


@pytest.mark.parametrize("name", bad_affines())
def test_bad_geometry_is_refused(name: str) -> None:
    with pytest.raises(StudyError) as refusal:
        Grid(SHAPE, bad_affines()[name])
    assert refusal.value.code == "bad-geometry"
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("shape", [(4, 5), (1, 2, 3, 4), (0, 4, 4)])
def test_other_than_three_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(StudyError) as refusal:
        Grid(shape, np.eye(4))
    assert refusal.value.code == "not-3d"


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(StudyError):
        Volume(np.zeros((4, 5, 7)), Grid(SHAPE, np.eye(4)))
