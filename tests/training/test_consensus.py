"""Several readers: STAPLE against a plain EM, the table of the paper, and a folder that is complete or absent."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of, stored_in_all_ways
from click.testing import CliRunner
from raw_folders import GRID, ONE, SHAPE_ZYX, TWO, describe, image_of, labels_of, put, put_map

pytest.importorskip("SimpleITK")

from lnfast.errors import BackendError, StudyError, UsageError
from lnfast.geometry import Grid, Volume
from training.data.labels import read_labels
from training.data.load import load_case
from training.data.nnunet_raw import open_cases
from training.data_commands import consensus as command
from training.readers import consensus, staple
from training.readers.agreement import compare_readers, summarize
from training.readers.consensus import make_consensus, open_readers
from training.recipe.card import draft_card

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def em(masks: Sequence[Mask]) -> tuple[np.ndarray, list[float], list[float]]:
    """Warfield's equations written down, about the box of the union and one voxel more."""
    marked = np.argwhere(np.logical_or.reduce(masks))
    low, high = np.maximum(marked.min(axis=0) - 1, 0), marked.max(axis=0) + 2
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    votes = np.array([mask[box].ravel() for mask in masks])
    prior = votes.mean()
    p, q = np.full(len(masks), 0.99999), np.full(len(masks), 0.99999)
    for _ in range(20_000):
        yes, no = np.full(votes.shape[1], prior), np.full(votes.shape[1], 1 - prior)
        for vote, sensitivity, specificity in zip(votes, p, q, strict=True):
            yes *= np.where(vote, sensitivity, 1 - sensitivity)
            no *= np.where(vote, 1 - specificity, specificity)
        weight = yes / (yes + no)
        p_new = (votes * weight).sum(axis=1) / weight.sum()
        q_new = (~votes * (1 - weight)).sum(axis=1) / (1 - weight).sum()
        moved = max(np.abs(p_new - p).max(), np.abs(q_new - q).max())
        p, q = p_new, q_new
        if moved < 1e-12:
            break
    whole = np.zeros(masks[0].shape)
    whole[box] = weight.reshape(masks[0][box].shape)
    return whole, p.tolist(), q.tolist()


def mask_of(*boxes: tuple[slice, slice, slice]) -> Mask:
    return labels_of(*boxes).array > 0


def shaky(mask: Mask, seed: int, share: float = 0.1) -> Mask:
    """A reader for tests: some voxels of every node are gone, and some beside it are there."""
    rng = np.random.default_rng(seed)
    beside = np.roll(mask, 1, axis=2) | np.roll(mask, -1, axis=1)
    drawn = mask | (beside & (rng.random(mask.shape) < share))
    return drawn & (rng.random(mask.shape) >= share)


@pytest.mark.parametrize("readers", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_staple_is_warfields_em(readers: int, seed: int) -> None:
    masks = [shaky(mask_of(ONE, TWO), 10 * seed + index, 0.05 + 0.1 * index) for index in range(readers)]
    weight, sensitivity, specificity = em(masks)
    estimate = staple.staple(masks)
    # Two readers leave one direction in which nothing changes: SimpleITK stops earlier on it.
    near = 2e-3 if readers == 2 else 1e-5
    np.testing.assert_allclose(estimate.sensitivity, sensitivity, atol=near)
    np.testing.assert_allclose(estimate.specificity, specificity, atol=near)
    clear = np.abs(weight - 0.5) > 0.01
    np.testing.assert_array_equal(estimate.mask[clear], weight[clear] > 0.5)
    assert estimate.converged and estimate.iterations > 0


def test_the_field_about_the_nodes_has_no_say() -> None:
    masks = [shaky(mask_of(ONE, TWO), seed) for seed in range(3)]
    small = staple.staple(masks)
    wide = staple.staple([np.pad(mask, 9) for mask in masks])
    np.testing.assert_array_equal(wide.mask[9:-9, 9:-9, 9:-9], small.mask)
    assert (wide.sensitivity, wide.specificity) == (small.sensitivity, small.specificity)


@pytest.mark.parametrize(
    ("mask", "sensitivity", "specificity"),
    [
        (np.zeros((3, 4, 5), bool), None, 1.0),
        (np.ones((3, 4, 5), bool), 1.0, None),
        (mask_of(ONE), 1.0, 1.0),
    ],
)
def test_readers_who_agree_leave_nothing_to_estimate(
    mask: Mask, sensitivity: float | None, specificity: float | None
) -> None:
    """SimpleITK answers the first two with NaN."""
    estimate = staple.staple([mask, mask.copy(), mask.copy()])
    np.testing.assert_array_equal(estimate.mask, mask)
    assert estimate.sensitivity == (sensitivity,) * 3 and estimate.specificity == (specificity,) * 3


def test_of_three_readers_two_outvote_one() -> None:
    both, alone = mask_of(ONE), mask_of(ONE, TWO)
    np.testing.assert_array_equal(staple.staple([both, both, alone]).mask, both)
    np.testing.assert_array_equal(staple.staple([alone, alone, np.zeros_like(both)]).mask, alone)


def test_a_voxel_at_one_half_is_node() -> None:
    np.testing.assert_array_equal(staple.staple([mask_of(ONE), np.zeros(SHAPE_ZYX, bool)]).mask, mask_of(ONE))


def test_exhaustive_tiny_masks_never_give_a_nan() -> None:
    every = [np.array([bits >> i & 1 for i in range(4)], bool).reshape(1, 2, 2) for bits in range(16)]
    for first in every:
        for second in every:
            estimate = staple.staple([first, second])
            assert all(value is None or 0 <= value <= 1 for value in estimate.sensitivity + estimate.specificity)
            assert not estimate.mask[~(first | second)].any() and estimate.mask[first & second].all()


def test_agreement_is_dice_and_nodes_that_touch() -> None:
    first, second = mask_of(ONE, TWO), mask_of(ONE)
    second[5, 7, 9] = True
    (row,) = compare_readers("a", ("x", "y"), (first, second))
    assert row.dice == pytest.approx(2 * 60 / (60 + 18 + 61))
    assert (row.nodes_first, row.nodes_second, row.shared_first, row.shared_second) == (2, 1, 1, 1)


def test_the_summary_is_mean_and_sample_deviation_by_pair() -> None:
    truth, empty = mask_of(ONE, TWO), np.zeros(SHAPE_ZYX, bool)
    names = ("x", "y", "z")
    rows = []
    for index in range(4):
        masks = [shaky(truth, 3 * index + reader) for reader in range(3)]
        rows += compare_readers(str(index), names, masks)
    rows += compare_readers("empty", names, (empty, empty, empty))
    pairs = summarize(rows)
    assert [(pair.first, pair.second) for pair in pairs] == [("x", "y"), ("x", "z"), ("y", "z")]
    known = [row.dice for row in rows if (row.first, row.second) == ("x", "z") and row.dice is not None]
    assert pairs[1].dice_mean == pytest.approx(statistics.mean(known))
    assert pairs[1].dice_sd == pytest.approx(statistics.stdev(known))
    assert (pairs[1].cases, pairs[1].undefined) == (5, 1)
    (none,) = summarize(compare_readers("empty", names[:2], (empty, empty)))
    assert none.dice_mean is None and none.dice_sd is None


def write_readers(folder: Path, count: int = 3, cases: int = 3) -> list[Path]:
    """The last case is empty for everybody."""
    for case in range(cases):
        truth = mask_of(ONE, TWO)
        for reader in range(count):
            drawn = shaky(truth, 10 * case + reader) if case < cases - 1 else np.zeros_like(truth)
            put_map(folder / f"r{reader + 1}" / f"c{case}.nii.gz", Volume(drawn.astype(np.uint8), GRID))
    return [folder / f"r{reader + 1}" for reader in range(count)]


def test_the_folder_holds_maps_estimates_and_the_table(tmp_path: Path) -> None:
    folders = write_readers(tmp_path)
    result = CliRunner().invoke(command, [*map(str, folders), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "labelsTr/c0.nii.gz",
        "labelsTr/c1.nii.gz",
        "labelsTr/c2.nii.gz",
        "consensus.json",
        "readers.json",
        "readers.csv",
    }
    record = json.loads((out / "consensus.json").read_text())
    masks = [read_labels(folder / "c0.nii.gz").array > 0 for folder in folders]
    estimate = staple.staple(masks)
    assert record["cases"]["c0"]["sensitivity"] == dict(zip(("r1", "r2", "r3"), estimate.sensitivity, strict=True))
    assert record["cases"]["c2"] == {
        "voxels": 0,
        "nodes": 0,
        "iterations": 0,
        "sensitivity": {"r1": None, "r2": None, "r3": None},
        "specificity": {"r1": 1.0, "r2": 1.0, "r3": 1.0},
    }
    assert record["versions"]["SimpleITK"] and record["warnings"] == []
    stored = read_labels(out / "labelsTr" / "c0.nii.gz")
    np.testing.assert_array_equal(stored.array > 0, estimate.mask)
    np.testing.assert_allclose(stored.grid.affine, GRID.affine, atol=1e-4)
    readers = json.loads((out / "readers.json").read_text())
    with (out / "readers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(readers["cases"]) == 9 and rows[-1]["dice"] == ""
    assert [pair["undefined"] for pair in readers["pairs"]] == [1, 1, 1]
    assert "r1 vs. r2" in result.stdout and f"{readers['pairs'][0]['dice_mean']:.2f} +- " in result.stdout


def test_a_consensus_is_learned_from(tmp_path: Path) -> None:
    folders = write_readers(tmp_path, cases=2)
    make_consensus(open_readers(folders), tmp_path / "data")
    for case in range(2):
        put(tmp_path / "data", f"c{case}", image_of(case), None)
    first, second = open_cases(describe(tmp_path / "data"))
    assert int(load_case(first, draft_card()).labels.max()) >= 2
    assert not load_case(second, draft_card()).labels.any()


def test_axes_of_readers_may_differ_and_the_firsts_are_kept(tmp_path: Path) -> None:
    masks = [shaky(mask_of(ONE, TWO), seed) for seed in range(3)]
    every = [list(stored_in_all_ways(Volume(mask.astype(np.uint8), GRID))) for mask in masks]
    ways = [every[0][17], every[1][0], every[2][40]]
    folders = [tmp_path / name / "labelsTr" for name in ("anna", "ben", "cleo")]
    for folder, way in zip(folders, ways, strict=True):
        put_map(folder / "c.nii.gz", way)
    readers = open_readers(folders)
    assert [reader.name for reader in readers] == ["anna/labelsTr", "ben/labelsTr", "cleo/labelsTr"]
    make_consensus(readers, tmp_path / "out")
    written = read_labels(tmp_path / "out" / "labelsTr" / "c.nii.gz")
    assert written.grid.shape == ways[0].grid.shape
    np.testing.assert_allclose(written.grid.affine, ways[0].grid.affine, atol=1e-4)
    np.testing.assert_array_equal(written.oriented("LPS").array > 0, staple.staple(masks).mask)


def test_two_readers_are_warned_of_and_done(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [*map(str, write_readers(tmp_path, 2)), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0 and "two-readers: " in result.stderr
    record = json.loads((tmp_path / "out" / "consensus.json").read_text())
    assert [warning["code"] for warning in record["warnings"]] == ["two-readers"]


def test_readers_who_mark_different_things_are_pointed_at(tmp_path: Path) -> None:
    for name, box in (("x", ONE), ("y", TWO), ("z", ONE)):
        put_map(tmp_path / name / "c.nii.gz", labels_of(box))
    written = make_consensus(open_readers([tmp_path / name for name in "xyz"]), tmp_path / "out")
    assert [code for code, _ in written.warnings] == ["readers-apart"]


def test_every_missing_case_is_named(tmp_path: Path) -> None:
    folders = write_readers(tmp_path)
    (folders[0] / "c1.nii.gz").unlink()
    (folders[2] / "c0.nii.gz").unlink()
    with pytest.raises(StudyError, match="missing-case: r1 lacks c1; r3 lacks c0"):
        open_readers(folders)


def test_every_bad_map_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    folders = write_readers(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    moved = Grid(SHAPE_ZYX, affine_of((1.5, 1.6, 5.0), origin=(0.0, 0.0, 0.0)))
    put_map(folders[1] / "c0.nii.gz", Volume(labels_of(ONE).array, moved))
    put_map(folders[2] / "c1.nii.gz", Volume(np.full(SHAPE_ZYX, 0.5, np.float32), GRID))
    with pytest.raises(StudyError, match=r"bad-cases: c0: grid-mismatch: r1 and r2: .*; c1: bad-labels"):
        make_consensus(open_readers(folders), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    folders = write_readers(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    def stop(name: str, cases: int) -> None:
        if name == "c2":
            raise error

    with pytest.raises(error):
        make_consensus(open_readers(folders), tmp_path / "out", progress=stop)
    monkeypatch.setattr(consensus.agreement, "to_csv", lambda rows: (_ for _ in ()).throw(error))
    with pytest.raises(error):
        make_consensus(open_readers(folders), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_existing_output_is_not_overwritten(tmp_path: Path) -> None:
    folders = write_readers(tmp_path, 2)
    (tmp_path / "out").mkdir()
    make_consensus(open_readers(folders), tmp_path / "out")
    before = (tmp_path / "out" / "consensus.json").read_bytes()
    with pytest.raises(UsageError, match="output-exists"):
        make_consensus(open_readers(folders), tmp_path / "out")
    assert (tmp_path / "out" / "consensus.json").read_bytes() == before


def test_readers_must_be_two_folders_of_maps(tmp_path: Path) -> None:
    folders = write_readers(tmp_path, 2)
    (tmp_path / "empty").mkdir()
    for folders_given, code in (
        ([folders[0]], "too-few-readers"),
        ([folders[0], folders[0]], "too-few-readers"),
        ([folders[0], tmp_path / "empty"], "no-labels"),
        ([folders[0], tmp_path / "nowhere"], "no-labels"),
    ):
        with pytest.raises(UsageError, match=code):
            open_readers(folders_given)


def test_without_simpleitk_the_error_names_the_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(BackendError, match=r"pip install 'lnfast\[train\]'"):
        make_consensus(open_readers(write_readers(tmp_path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_nan_is_refused_and_never_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    class Filter:
        SetForegroundValue = SetMaximumIterations = staticmethod(lambda value: None)
        Execute = staticmethod(lambda images: np.full(images[0].shape, np.nan))
        GetSensitivity = GetSpecificity = staticmethod(lambda: (np.nan, np.nan))

    class Itk:
        STAPLEImageFilter = Filter
        GetImageFromArray = GetArrayFromImage = staticmethod(lambda image: image)

    monkeypatch.setattr(staple, "_simple_itk", lambda: Itk)
    with pytest.raises(StudyError, match="staple-undefined"):
        staple.staple([mask_of(ONE), mask_of(TWO)])
