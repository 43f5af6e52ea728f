"""Admission: which studies are admitted and refused, and that a disturbance never changes a stage without a warning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import disturbances
import numpy as np
import pytest
from blocks import make_card, stored_in_all_ways
from numpy.typing import NDArray

from lnfast.admission import Admission, admit
from lnfast.card import Body, ModelCard, ZScore
from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules, measure_nodes, n_stage
from lnfast.phantom import make_phantom
from lnfast.postprocess import segment
from lnfast.preprocess import without_padding, write_input
from lnfast.study import read_study

BODY = make_card(shape_zyx=(28, 128, 128), normalization=Body(-1.0, 0.6, 11.8), threshold=0.5)
ZSCORE = replace(BODY, normalization=ZScore((0.5, 99.9)))
SCANNERS = ("achieva", "discovery", "ingenia")


@cache
def phantom(seed: int) -> Volume:
    return make_phantom(seed, SCANNERS[seed % 3]).volume


def admitted(array: NDArray[np.generic], grid: Grid, card: ModelCard = BODY) -> Admission:
    return admit(Volume(array, grid), card)


def code_of(array: NDArray[np.generic], grid: Grid, card: ModelCard = BODY) -> str:
    with pytest.raises(StudyError) as refusal:
        admit(Volume(array, grid), card)
    return refusal.value.code


def stage(volume: Volume, card: ModelCard, admission: Admission) -> tuple[str, int]:
    """Return the answer of a network that marks voxels four times as bright as tissue."""
    network_input = np.empty(card.shape_zyx, np.float32)
    write_input(volume, card, network_input, norm=admission.normalization)
    nodes = segment(network_input - np.float32(3.0), volume.grid, card)
    measured = measure_nodes(nodes.labels, nodes.count, Rules(), orientation=card.orientation)
    return n_stage(measured, Rules()), len(measured)


@pytest.mark.parametrize("card", [BODY, ZSCORE], ids=["body", "zscore"])
@pytest.mark.parametrize("seed", range(12))
def test_digital_patients_are_admitted(seed: int, card: ModelCard) -> None:
    admission = admit(phantom(seed), card)
    assert 0.25 < admission.body_share < 0.7
    assert admission.padding_share == 0
    assert admission.floor < admission.tissue


@pytest.mark.parametrize("card", [BODY, ZSCORE], ids=["body", "zscore"])
@pytest.mark.parametrize(
    "name",
    [
        "prostatex-0000/6_ep2d_diff_tra_DYNDIST.nii.gz",
        "prostatex-0000/8_ep2d_diff_tra_DYNDISTCALC_BVAL.nii.gz",
        "prostatex-0218/8_ep2d-advdiff-3Scan-4bval_spair_511b.nii.gz",
        "prostatex-0218-again/13_ep2d-advdiff-MDDW-12dir_spair_511b_TRACEW.nii.gz",
    ],
)
def test_real_studies_are_admitted_without_a_warning(name: str, card: ModelCard, shared_data: Path) -> None:
    assert admit(read_study(shared_data / name).volume, card).warnings == ()


def test_it_does_not_matter_how_the_file_stores_its_axes() -> None:
    volume = phantom(2)
    wanted = admit(volume, BODY)
    for stored in stored_in_all_ways(volume):
        got = admit(stored, BODY)
        assert got.normalization == wanted.normalization
        assert (got.body_share, got.bright_share) == (wanted.body_share, wanted.bright_share)


def test_tissue_and_floor_become_the_card_s_values() -> None:
    volume = phantom(2)
    norm = admit(volume, BODY).normalization
    greys = np.array([norm.lo, norm.hi, admit(volume, BODY).tissue])
    assert (greys - norm.shift) * norm.scale == pytest.approx([-1.0, 11.8, 0.6])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", sorted(disturbances.GREYS))
def test_no_disturbance_changes_a_stage_in_silence(family: str, seed: int) -> None:
    """Each disturbed study has the answer of the undisturbed one, or a refusal, or a warning."""
    volume = phantom(seed)
    silent = 0
    for member in range(12):
        rng = np.random.default_rng([seed, member])
        _, disturbed, reference = disturbances.GREYS[family](volume.array.astype(np.float64), rng)
        wanted = Volume(reference, volume.grid)
        try:
            admission = admitted(disturbed, volume.grid)
        except StudyError:
            continue
        if admission.warnings:
            continue
        got = stage(Volume(disturbed, volume.grid), BODY, admission)
        silent += got[0] != stage(wanted, BODY, admit(wanted, BODY))[0]
    assert silent == 0, f"{family}: {silent} silent wrong answers of 12"


@pytest.mark.parametrize("seed", range(3))
def test_padding_of_any_value_leaves_the_input_as_it_is_with_air_there(seed: int) -> None:
    volume = phantom(seed)
    for member in range(12):
        _, disturbed, reference = disturbances.padded(
            volume.array.astype(np.float64), np.random.default_rng([seed, member])
        )
        try:
            norm = admitted(disturbed, volume.grid).normalization
        except StudyError:
            continue
        wanted = admitted(reference, volume.grid)
        height = wanted.tissue - wanted.floor
        assert norm.lo == pytest.approx(wanted.floor, abs=0.05 * height)
        assert 1.6 / norm.scale == pytest.approx(height, rel=0.05)


@pytest.mark.parametrize("value", [-1024, -2000, -32768, 4095, 65535, -3.4e38, 3.4e38, -1.7e308])
@pytest.mark.parametrize("seed", range(3))
def test_padded_corners_give_the_input_of_corners_of_air(seed: int, value: float) -> None:
    volume = phantom(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.array.shape[1:]), indexing="ij")
    corners = np.hypot(y, x) > 1.25
    inputs = []
    for fill in (0.0, value):
        array = volume.array.astype(np.float64)
        array[:, corners] = fill
        out = np.empty(BODY.shape_zyx, np.float32)
        padded = Volume(array, volume.grid)
        norm = admit(padded, BODY).normalization
        write_input(padded, BODY, out, norm=norm)
        inputs.append(out)
        again = np.empty_like(out)  # as for several slabs: the padding is taken away once, before
        source, without = without_padding(padded, BODY, norm)
        write_input(source, BODY, again, norm=without)
        assert not without.padding
        np.testing.assert_array_equal(again, out)
    np.testing.assert_array_equal(inputs[0], inputs[1])
    assert code_of(array, volume.grid, ZSCORE) == "untrusted-greys"


def test_what_the_network_sees_of_a_patient_does_not_depend_on_how_much_is_air() -> None:
    volume = phantom(2)
    wide = np.pad(volume.array, ((0, 0), (0, 0), (60, 60)), mode="reflect")[:, :, 60:-60]
    assert admitted(wide, volume.grid).tissue == pytest.approx(admit(volume, BODY).tissue)


SMALL: dict[str, tuple[str, Callable[[], tuple[NDArray[np.generic], NDArray[np.float64]]]]] = {
    "three millimetres": ("no-pelvis", lambda: (np.arange(27, dtype=np.int16).reshape(3, 3, 3), np.eye(4))),
    "two slices": ("no-pelvis", lambda: (phantom(2).array[:2], phantom(2).grid.affine)),
    "a long stack": ("no-pelvis", lambda: (np.tile(phantom(2).array, (2, 1, 1)), np.diag([1.5, 1.5, 20.0, 1.0]))),
    "axes the other way round": (
        "no-pelvis",
        lambda: (np.ascontiguousarray(phantom(2).array.T), phantom(2).grid.affine),
    ),
}


@pytest.mark.parametrize("what", SMALL)
def test_what_cannot_hold_a_pelvis_is_refused(what: str) -> None:
    code, make = SMALL[what]
    array, affine = make()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    straight = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    assert code_of(array, Grid(array.shape, straight)) == code


def test_what_is_no_image_of_a_body_is_refused() -> None:
    volume = phantom(2)
    rng = np.random.default_rng(0)
    shape = volume.array.shape
    rician = np.hypot(rng.normal(0, 40, (6, *shape)), rng.normal(0, 40, (6, *shape)))
    smooth = rician[0] + np.roll(rician[0], 1, 1) + np.roll(rician[0], 1, 2) + np.roll(rician[0], (1, 1), (1, 2))
    cases = {
        "no-body": [np.abs(rng.normal(0, 40, shape)).astype(np.int16), rician[0], rician.mean(0), smooth],
        "few-greys": [(volume.array > 100).astype(np.uint8), (volume.array // 20 % 5).astype(np.int16)],
        "constant": [np.full(shape, 7, np.int16), np.zeros(shape, np.float32)],
        "non-finite": [np.where(volume.array > 100, np.nan, volume.array.astype(np.float32))],
        "bad-scaling": [volume.array * 1e300, volume.array * 1e-300, volume.array.astype(np.float64) * 1e31],
    }
    for code, arrays in cases.items():
        for array in arrays:
            assert code_of(array, volume.grid) == code


@pytest.mark.parametrize("seed", range(6))
def test_inverted_greys_are_refused(seed: int) -> None:
    volume = phantom(seed)
    inverted = int(volume.array.max()) - volume.array
    assert code_of(inverted, volume.grid) in ("inverted-greys", "no-body")
    assert code_of(-volume.array.astype(np.float32), volume.grid) in ("inverted-greys", "no-body")


def test_a_model_of_something_else_asks_for_no_check_and_the_report_says_so() -> None:
    volume = phantom(2)
    mask = (volume.array > 100).astype(np.uint8)
    assert admit(volume, BODY).facts()["checked"] is True
    assert admit(Volume(mask, volume.grid), replace(ZSCORE, admission="none")).facts()["checked"] is False


def test_a_label_map_is_refused() -> None:
    phantom = make_phantom(2, "ingenia")
    assert code_of(phantom.labels, phantom.volume.grid) in ("few-greys", "no-body", "constant")


def test_a_flare_of_one_value_is_warned_of() -> None:
    volume = phantom(2)
    y, x = np.ogrid[: volume.array.shape[1], : volume.array.shape[2]]
    array = volume.array.astype(np.int32)
    array[:, np.hypot(y - 120, x - 31) < 12] = array.max()
    assert [code for code, _ in admitted(array, volume.grid).warnings] == ["unusual-greys"]
