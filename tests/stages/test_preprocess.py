"""A study into the network's buffer: the oracle is PyTorch's interpolation of a clipped z-score."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from model_files import card_entries
from numpy.typing import NDArray

from lnfast.card import ModelCard, ZScore
from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.preprocess import normalization, write_input

CARD = ModelCard.from_json(json.dumps(card_entries()))
LPS = np.diag([-2.0, -2.0, 5.0, 1.0])


def study(dtype: str = "int16", shape: tuple[int, int, int] = (5, 12, 10)) -> NDArray[np.generic]:
    return np.random.default_rng(7).normal(300, 90, shape).astype(dtype)


def expected(array: NDArray[np.generic]) -> NDArray[np.float32]:
    torch = pytest.importorskip("torch")
    values = array.astype(np.float64)
    assert isinstance(CARD.normalization, ZScore)
    lo, hi = np.percentile(values, CARD.normalization.clip_percentiles)
    clipped = np.clip(values, lo, hi)
    normal = (clipped - clipped.mean()) / clipped.std()
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(normal)[None, None], size=CARD.shape_zyx, mode="trilinear", align_corners=False
    )
    return resized[0, 0].numpy().astype(np.float32)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "float64"])
def test_it_is_a_clipped_z_score_resized(dtype: str) -> None:
    array = study(dtype)
    out = np.full(CARD.shape_zyx, np.nan, np.float32)
    write_input(Volume(array, Grid(array.shape, LPS)), CARD, out)
    np.testing.assert_allclose(out, expected(array), atol=2e-5)


def test_it_does_not_matter_how_the_file_stores_its_axes() -> None:
    array = study()
    wanted = expected(array)
    mirrored = np.ascontiguousarray(array[:, ::-1, ::-1])
    affine = LPS @ np.array([[-1, 0, 0, 9], [0, -1, 0, 11], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    out = np.empty(CARD.shape_zyx, np.float32)
    write_input(Volume(mirrored, Grid(array.shape, affine)), CARD, out)
    np.testing.assert_allclose(out, wanted, atol=2e-5)


def test_rescaled_intensities_give_the_same_input() -> None:
    array = study()
    plain, scaled = np.empty(CARD.shape_zyx, np.float32), np.empty(CARD.shape_zyx, np.float32)
    grid = Grid(array.shape, LPS)
    write_input(Volume(array, grid), CARD, plain)
    write_input(Volume(array.astype(np.float32) * 4.0 + 64.0, grid), CARD, scaled)
    np.testing.assert_allclose(scaled, plain, atol=2e-5)


@pytest.mark.parametrize("across", ["coronal", "sagittal"])
def test_slices_that_stand_upright_are_refused(across: str) -> None:
    turned = {
        "coronal": [[-1.6, 0, 0], [0, 0, -7.0], [0, 1.6, 0]],
        "sagittal": [[0, 0, -7.0], [-1.6, 0, 0], [0, 1.6, 0]],
    }
    affine = np.eye(4)
    affine[:3, :3] = turned[across]
    array = study()
    with pytest.raises(StudyError, match=r"not-axial.*7 mm") as refusal:
        write_input(Volume(array, Grid(array.shape, affine)), CARD, np.empty(CARD.shape_zyx, np.float32))
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("spacing", [(1.6, 1.6, 1.0), (2.4, 2.4, 1.5), (1.2, 1.2, 0.8), (2.0, 1.5, 0.5)])
def test_axial_slices_thinner_than_their_pixels_are_axial(spacing: tuple[float, float, float]) -> None:
    array = study()
    grid = Grid(array.shape, np.diag((-spacing[0], -spacing[1], spacing[2] * (1 - 1e-7), 1.0)))
    write_input(Volume(array, grid), CARD, np.empty(CARD.shape_zyx, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_is_refused(bad: float) -> None:
    array = study("float32")
    array[2, 3, 4] = bad
    with pytest.raises(StudyError) as refusal:
        normalization(Volume(array, Grid(array.shape, LPS)), CARD)
    assert refusal.value.code == "non-finite"


def test_a_blank_study_is_refused() -> None:
    array = np.full((5, 12, 10), 7, np.int16)
    with pytest.raises(StudyError) as refusal:
        normalization(Volume(array, Grid(array.shape, LPS)), CARD)
    assert refusal.value.code == "constant"


@pytest.mark.parametrize("stray", [1e6, -3.4e38, 3.4e38])
def test_a_stray_voxel_does_not_blind_the_network(stray: float) -> None:
    array = study("float32", (20, 50, 50))
    grid = Grid(array.shape, LPS)
    wanted, got = np.empty(CARD.shape_zyx, np.float32), np.empty(CARD.shape_zyx, np.float32)
    write_input(Volume(array, grid), CARD, wanted)
    array[0, 0, 0] = stray
    write_input(Volume(array, grid), CARD, got)
    assert np.abs(got - wanted)[1:].max() < 0.01  # the stray voxel itself lies in the first slice
    assert 0.5 < got.std() < 1.5


def test_one_hot_voxel_does_not_make_a_study() -> None:
    array = np.zeros((20, 50, 50), np.int16)
    array[0, 0, 0] = 1000
    card = replace(CARD, normalization=ZScore((0.5, 99.5)))
    with pytest.raises(StudyError) as refusal:
        normalization(Volume(array, Grid(array.shape, LPS)), card)
    assert refusal.value.code == "constant"
