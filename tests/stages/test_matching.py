"""Which node is which, and one Dice: every user of `lnfast.matching` gets the same answer."""

from __future__ import annotations

import numpy as np
import pytest

from lnfast.errors import UsageError
from lnfast.geometry import Grid, check_same_grid
from lnfast.matching import best_columns, dice, dice_of_counts, shared_voxels


def test_two_empty_masks_have_no_dice() -> None:
    empty, full = np.zeros((2, 3, 4), bool), np.ones((2, 3, 4), bool)
    assert dice(empty, empty) is None and dice_of_counts(0, 0, 0) is None
    assert dice(empty, full) == 0.0 and dice(full, full) == 1.0
    with pytest.raises(UsageError, match="grid-mismatch"):
        dice(empty, full[1:])


def test_dice_of_masks_is_dice_of_their_counts() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        first, second = (rng.random((5, 6, 7)) < share for share in rng.random(2))
        counts = int((first & second).sum()), int(first.sum()), int(second.sum())
        assert dice(first, second) == dice_of_counts(*counts)


def test_shared_voxels_against_counting_each_two() -> None:
    rng = np.random.default_rng(4)
    rows, columns = rng.integers(0, 4, (2, 6, 7, 8)).astype(np.uint16)
    table = shared_voxels(rows, columns, (3, 3))
    wanted = [[int(((rows == i) & (columns == j)).sum()) for j in (1, 2, 3)] for i in (1, 2, 3)]
    assert table.tolist() == wanted
    assert shared_voxels(rows * 0, columns, (0, 3)).shape == (0, 3)


def test_a_match_is_the_node_with_most_shared_voxels_ties_by_the_lower_id() -> None:
    assert best_columns(np.array([[0, 5, 5], [0, 0, 0], [1, 0, 2]])) == (1, -1, 2)
    assert best_columns(np.zeros((2, 0), np.int64)) == (-1, -1)


def test_grids_that_do_not_lie_on_each_other_are_refused() -> None:
    grid = Grid((4, 5, 6), np.diag([2.0, 2.0, 5.0, 1.0]))
    check_same_grid(grid, Grid((4, 5, 6), np.diag([2.0, 2.0, 5.001, 1.0])))
    with pytest.raises(UsageError, match=r"grid-mismatch: the two grids lie 0\.3 mm apart, wanted at most 0\.01 mm"):
        check_same_grid(grid, Grid((4, 5, 6), np.diag([2.0, 2.0, 5.1, 1.0])))
    with pytest.raises(UsageError, match="grid-mismatch: got grids of"):
        check_same_grid(grid, Grid((4, 5, 7), grid.affine))
