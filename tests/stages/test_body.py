"""The patient's box from intensities, and the window that holds it."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of, make_card, stored_in_all_ways
from numpy.typing import NDArray

from lnfast.body import body_extent
from lnfast.geometry import Grid, Volume
from lnfast.phantom import SCANNERS, make_phantom
from lnfast.study import read_study
from lnfast.window import Window, choose_window

GRID = (64, 256, 256)
CARD = make_card(shape_zyx=GRID)
WHOLE = ((0, 0, 0), GRID)
SHAPE = (24, 160, 200)
CELL_VOX = (4 * 256 / 160, 4 * 256 / 200)  # of the network, along y and x


def scan(
    tissue: float, *, centre: tuple[float, float] = (84, 98), radii: tuple[float, float] = (50, 80), lean: float = 0.0
) -> NDArray[np.float64]:
    """Rician noise of deviation 10 everywhere, and a trunk whose axis moves by ``lean`` pixels a slice along y."""
    rng = np.random.default_rng(int(tissue))
    z, y, x = np.indices(SHAPE)
    inside = ((y - centre[0] - lean * (z - 12)) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
    return np.hypot(rng.normal(0, 10, SHAPE) + tissue * inside, rng.normal(0, 10, SHAPE))


def study(array: NDArray[Any]) -> Volume:
    return Volume(array, Grid(array.shape, affine_of((1.8, 1.8, 6.0), 9, 3, -4)))


def assert_holds(extent: tuple[Any, Any], low: tuple[float, float], high: tuple[float, float], slack: float) -> None:
    """Rows and columns ``low`` to ``high`` of the study are in it, and it is no larger by more than ``slack`` cells."""
    (z0, *start), (z1, *stop) = extent
    assert (z0, z1) == (0, GRID[0])
    for axis in range(2):
        first, past = (edge[axis] * 256 / SHAPE[1 + axis] for edge in (low, high))
        assert first - slack * CELL_VOX[axis] <= start[axis] <= first + 1.5 * CELL_VOX[axis]
        assert past - 1.5 * CELL_VOX[axis] <= stop[axis] <= past + slack * CELL_VOX[axis]


@pytest.mark.parametrize("tissue", [12.0, 20.0, 40.0, 400.0])
def test_a_trunk_in_noise(tissue: float) -> None:
    """With muscle at least 1.4 times as bright as air, the extent is right to some cells."""
    assert_holds(body_extent(study(scan(tissue)), CARD), (34, 18), (134, 178), slack=2)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32", "int64", "float32", "float64"])
def test_types_and_layouts(dtype: str) -> None:
    array = scan(40.0).round()
    wanted = body_extent(study(array), CARD)
    for stored in list(stored_in_all_ways(study(array.astype(dtype))))[::7]:
        got = body_extent(stored, CARD)
        # The first cell of a flipped axis begins at its other end.
        assert np.abs(np.array(got) - wanted).max() <= max(CELL_VOX) + 1
    strided = np.zeros([2 * n for n in SHAPE], dtype)[::2, ::2, ::2]
    strided[...] = array
    strided.flags.writeable = False
    assert body_extent(study(strided), CARD) == wanted


def test_it_does_not_depend_on_scale_and_offset() -> None:
    array = scan(40.0).round()
    assert body_extent(study(array * 4.0 - 640.0), CARD) == body_extent(study(array), CARD)


def test_a_trunk_that_leans() -> None:
    """The body reaches its full extent in some slices only."""
    array = scan(40.0, centre=(82, 98), radii=(35, 80), lean=1.5)
    assert_holds(body_extent(study(array), CARD), (82 - 35 - 12, 18), (82 + 35 + 12, 178), slack=2)


def test_what_lies_on_the_patient_and_stray_noise_is_not_the_patient() -> None:
    array = scan(60.0)
    wanted = body_extent(study(array), CARD)
    array[:, 4:10, 60:70] = 900.0
    array[:, 150:153, 100:103] = 900.0
    array[3, 80, 196] = 1e6
    assert body_extent(study(array), CARD) == wanted


def test_a_trunk_beyond_the_field() -> None:
    array = scan(60.0, centre=(84, 98), radii=(50, 140))
    (_, top, left), (_, bottom, right) = body_extent(study(array), CARD)
    assert (left, right) == (0, 256)
    assert 34 <= top <= 58
    assert 212 <= bottom <= 234


@pytest.mark.parametrize("value", [0.0, 7.0, math.nan, math.inf])
def test_where_there_is_no_telling_it_is_the_whole_grid(value: float) -> None:
    for shape in ((24, 160, 200), (1, 1, 1), (3, 5, 2), (2, 13, 40)):
        assert body_extent(study(np.full(shape, value)), CARD) == WHOLE


def test_noise_alone_is_the_whole_grid() -> None:
    (_, *start), (_, *stop) = body_extent(study(scan(0.0)), CARD)
    assert max(start) < 32
    assert min(stop) > 224


def test_a_voxel_that_is_no_number_hides_no_body() -> None:
    array = scan(60.0)
    wanted = body_extent(study(array), CARD)
    array[3, 80, 98] = math.nan
    array[4, 90, 98] = math.inf
    (_, *start), (_, *stop) = body_extent(study(array), CARD)
    assert all(np.array(start) <= wanted[0][1:]) and all(np.array(stop) >= wanted[1][1:])


@pytest.mark.parametrize("scanner", sorted(SCANNERS))
def test_phantoms_have_their_nodes_well_inside(scanner: str) -> None:
    phantom = make_phantom(7000004, scanner)
    extent = body_extent(phantom.volume, CARD)
    window = choose_window(extent, [(64, 192, 224), (64, 224, 240)], GRID, (0, 4, -16))
    nodes = np.argwhere(Volume(phantom.labels, phantom.volume.grid).oriented("LPS").array)
    scale = np.array(GRID) / phantom.volume.oriented("LPS").array.shape
    low, high = nodes.min(axis=0) * scale, (nodes.max(axis=0) + 1) * scale
    assert (low > extent[0])[1:].all() and (high < extent[1])[1:].all()
    for axis, size in enumerate(GRID):
        assert window.start_zyx[axis] == 0 or low[axis] - window.start_zyx[axis] >= 12
        assert window.stop_zyx[axis] == size or window.stop_zyx[axis] - high[axis] >= 12


def test_real_studies_keep_their_patient(shared_data: Path) -> None:
    """Small fields that the patient fills from side to side; in one there is air above the belly."""
    for path in sorted(shared_data.rglob("*.nii.gz")):
        if "ADC" not in path.name:
            (_, top, left), (_, bottom, right) = body_extent(read_study(path).volume, CARD)
            assert (left, right, bottom) == (0, 256, 256)
            assert top <= (28 if "prostatex-0000" in path.parts else 0)


def test_the_smallest_window_that_holds_the_box() -> None:
    shapes = [(64, 224, 240), (64, 160, 224), (64, 192, 224)]
    assert choose_window(((0, 54, 20), (64, 195, 230)), shapes, GRID, (0, 4, 4)) == Window(
        GRID, (0, 48, 16), (64, 160, 224)
    )
    assert choose_window(((0, 54, 20), (64, 205, 230)), shapes, GRID, (0, 4, 4)) == Window(
        GRID, (0, 32, 16), (64, 192, 224)
    )
    # Wide enough, but a window with 4 voxels left on either side would have to begin at 17.
    assert choose_window(((0, 80, 21), (64, 200, 237)), shapes, GRID, (0, 4, 4)).shape_zyx == (64, 224, 240)
    assert choose_window(((0, 1, 1), (64, 255, 255)), shapes, GRID, (0, 4, 4)) == Window.whole(GRID)
    assert choose_window(((0, 1, 30), (64, 200, 220)), [], GRID, (0, 4, 4)) == Window.whole(GRID)
    assert choose_window(((0, 1, 0), (64, 200, 256)), [(64, 224, 224)], GRID, (0, 4, -16)).start_zyx == (0, 0, 16)
    assert choose_window(((0, 1, 0), (64, 200, 220)), [(96, 256, 256)], GRID, (0, 4, 4)) == Window.whole(GRID)


@pytest.mark.parametrize("margin", [-3, 0, 5])
def test_every_box_of_an_axis(margin: int) -> None:
    """The chosen window is the best of all positions."""
    grid, sizes = 80, (16, 32, 48, 65)
    for start, stop in product(range(grid), range(1, grid + 1)):
        if start >= stop:
            continue
        low, high = max(start - margin, 0), min(stop + margin, grid)
        places = [
            (size, abs(2 * begin + size - low - high), begin)
            for size in sizes
            for begin in range(0, grid - size + 1, 16)
            if begin <= low and high <= begin + size
        ]
        size, _, begin = min(places, default=(grid, 0, 0))
        window = choose_window(
            ((0, start, 0), (1, stop, 1)), [(1, size, 1) for size in sizes[::-1]], (1, grid, 1), (0, margin, 0)
        )
        assert window == Window((1, grid, 1), (0, begin, 0), (1, size, 1))
