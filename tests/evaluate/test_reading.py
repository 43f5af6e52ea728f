"""Folders and label maps: every layout, what a map means, and everything that is refused."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of
from nifti_files import write_nifti

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.evaluation import evaluate
from lnfast.evaluate.inputs.labelmap import Meaning, read_label_map
from lnfast.evaluate.inputs.pairing import StudyPair, label_files, pair_up
from lnfast.evaluate.inputs.scanners import scanner_of
from lnfast.evaluate.output.csv_tables import cases_csv
from lnfast.evaluate.output.metrics import metrics
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.study.label_writer import label_map_bytes

SHAPE_ZYX = (4, 8, 8)


def write_map(path: Path, values: Any = 0, spacing_mm: float = 2.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    labels[...] = values
    path.write_bytes(label_map_bytes(Volume(labels, Grid(labels.shape, affine_of((spacing_mm,) * 3)))))
    return path


def two_blocks(first: int, second: int, *, touching: bool = False) -> Any:
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    labels[:2, :2, :2] = first
    labels[:2, :2, slice(2, 4) if touching else slice(5, 7)] = second
    return labels


# --- folders --------------------------------------------------------------------------------------------------------


def test_every_layout(tmp_path: Path) -> None:
    write_map(tmp_path / "maps" / "b_0000.nii.gz")
    (tmp_path / "maps" / "a.nii").write_bytes(b"")
    write_map(tmp_path / "maps" / ".hidden.nii.gz")
    (tmp_path / "maps" / "plans.json").write_text("{}")
    assert {key: file.path.name for key, file in label_files(tmp_path / "maps").files.items()} == {
        "a": "a.nii",
        "b": "b_0000.nii.gz",
    }
    write_map(tmp_path / "runs" / "a" / "labels.nii.gz")
    (tmp_path / "runs" / "not-a-run").mkdir()
    assert list(label_files(tmp_path / "runs").files) == ["a"]
    write_map(tmp_path / "raw" / "labelsTr" / "c.nii.gz")
    write_map(tmp_path / "raw" / "imagesTr" / "c_0000.nii.gz")
    assert [file.path.parent.name for file in label_files(tmp_path / "raw").files.values()] == ["labelsTr"]


def test_a_run_s_folder_finds_its_truth_whatever_the_name(tmp_path: Path) -> None:
    """`lnfast run` writes ``a:b?`` as a_b_; labels of a study with a colon are its truth."""
    write_map(tmp_path / "truth" / "a:b? ü=1.nii.gz")
    write_map(tmp_path / "runs" / "a_b_ ü=1" / "labels.nii.gz")
    (pair,) = pair_up(tmp_path / "runs", tmp_path / "truth").pairs
    assert (pair.name, pair.prediction.parent.name) == ("a:b? ü=1", "a_b_ ü=1")


def test_every_truth_needs_its_prediction(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "e"):
        write_map(tmp_path / "truth" / f"{name}.nii.gz")
    for name in ("b", "d"):
        write_map(tmp_path / "pred" / f"{name}.nii.gz")
    with pytest.raises(
        UsageError, match=r"missing-prediction: 3 of 4 truths have no prediction in .*: a, c, e; "
    ) as no:
        pair_up(tmp_path / "pred", tmp_path / "truth")
    assert no.value.exit_code == 2
    for name in ("a", "c", "e"):
        write_map(tmp_path / "pred" / f"{name}.nii.gz")
    pairing = pair_up(tmp_path / "pred", tmp_path / "truth")
    assert ([pair.name for pair in pairing.pairs], pairing.without_truth) == (["a", "b", "c", "e"], ("d",))
    evaluation = evaluate(pairing, Rules())
    assert ("no-truth", "1 predictions have no truth and were left out: d") in evaluation.notes


def test_folders_that_cannot_be_meant(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, code in ((tmp_path / "nowhere", "not-found"), (tmp_path / "empty", "no-label-maps")):
        with pytest.raises(UsageError, match=f"^{code}: "):
            label_files(folder)
    write_map(tmp_path / "two" / "a.nii.gz")
    write_map(tmp_path / "two" / "a_0000.nii.gz")
    with pytest.raises(UsageError, match=r"^ambiguous-name: .* both of study a; "):
        label_files(tmp_path / "two")
    with pytest.raises(UsageError, match=r"^same-folder: "):
        pair_up(tmp_path / "two", tmp_path / "empty" / ".." / "two")


def test_a_label_map_that_cannot_be_opened_does_not_disappear(tmp_path: Path) -> None:
    for name in ("link", "folder", "run", "raw", "pipe"):
        write_map(tmp_path / name / "a.nii.gz")
    (tmp_path / "link" / "b.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder" / "b.NII").mkdir()
    (tmp_path / "run" / "b").mkdir()
    (tmp_path / "run" / "b" / "labels.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "raw" / "labelsTr").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe" / "b.nii")
    for name in ("link", "folder", "run", "raw", "pipe"):
        with pytest.raises(StudyError, match=rf"^unreadable: .*{name}/(b|labelsTr)\S*: is .*, wanted a ") as no:
            label_files(tmp_path / name)
        assert "\n" not in str(no.value)


@pytest.mark.parametrize("closed", ["runs", "runs/b", "runs/b/labels.nii.gz"])
def test_a_folder_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    """By patches: whoever runs the tests as root may read everything."""
    for name in ("a", "b"):
        write_map(tmp_path / "runs" / name / "labels.nii.gz")
    true_stat, true_iterdir = os.stat, Path.iterdir

    def no_stat(path: Any, **options: Any) -> os.stat_result:
        if Path(path) == tmp_path / closed and closed != "runs":
            raise PermissionError(13, "no")
        return true_stat(path, **options)

    def no_iterdir(path: Path) -> Any:
        if path == tmp_path / closed:
            raise PermissionError(13, "no")
        return true_iterdir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", no_stat)
        patched.setattr(Path, "iterdir", no_iterdir)
        with pytest.raises(StudyError, match=rf"^unreadable: .*{closed}: cannot be read \(Permission denied\)"):
            label_files(tmp_path / "runs")


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    write_map(tmp_path / "truth" / "labelsTr" / "a.nii.gz")
    write_map(tmp_path / "truth" / "b.nii.gz")
    for name in ("imagesTr", "truth", "labelsTs"):
        (tmp_path / "truth" / name).mkdir()
    (tmp_path / "truth" / "dataset.json").write_text("{}")
    (tmp_path / "truth" / "labelsTr" / "c.nrrd").write_text("")
    write_map(tmp_path / "runs" / "a" / "labels.nii.gz")
    assert label_files(tmp_path / "runs").ignored == ()
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "plans.json").write_text("{}")
    notes = evaluate(pair_up(tmp_path / "runs", tmp_path / "truth"), Rules()).notes
    assert [message for code, message in notes if code == "passed-over"] == [
        "in PREDICTIONS, no label maps: b",
        "in TRUTHS, no label maps: b.nii.gz, labelsTs, c.nrrd",
    ]


def test_a_truth_is_not_compared_with_itself(tmp_path: Path) -> None:
    """By whatever way it was reached: 1.0 everywhere would be no measure of a model."""
    for name in ("a", "b"):
        write_map(tmp_path / "raw" / "labelsTr" / f"{name}.nii.gz")
    with pytest.raises(UsageError, match=r"^same-file: .* in 2 of 2 studies: a, b$"):
        pair_up(tmp_path / "raw" / "labelsTr", tmp_path / "raw")
    write_map(tmp_path / "pred" / "a.nii.gz")
    (tmp_path / "pred" / "b.nii.gz").symlink_to(tmp_path / "raw" / "labelsTr" / "b.nii.gz")
    with pytest.raises(UsageError, match=r"^same-file: .* in 1 of 2 studies: b$"):
        pair_up(tmp_path / "pred", tmp_path / "raw")


def test_one_run_s_folder_is_no_folder_of_studies(tmp_path: Path) -> None:
    """Two patients' runs would be paired as study "labels"."""
    for side, case in (("pred", "a"), ("truth", "b")):
        write_map(tmp_path / side / case / "labels.nii.gz")
        (tmp_path / side / case / "report.json").write_text("{}")
    with pytest.raises(UsageError, match=r"^one-run: .*pred/a is the output of one run; give its parent$"):
        pair_up(tmp_path / "pred" / "a", tmp_path / "truth" / "b")
    (tmp_path / "pred" / "a" / "report.json").unlink()
    assert list(label_files(tmp_path / "pred" / "a").files) == ["labels"]


def test_equal_names_come_first_and_unequal_ones_stay_two(tmp_path: Path) -> None:
    """``a:b`` and ``a_b`` are two studies; only a run's folder may stand for either."""
    for name in ("a:b", "a_b"):
        write_map(tmp_path / "truth" / f"{name}.nii.gz")
        write_map(tmp_path / "pred" / f"{name}.nii.gz")
    pairs = pair_up(tmp_path / "pred", tmp_path / "truth").pairs
    assert [pair.prediction.name for pair in pairs] == ["a:b.nii.gz", "a_b.nii.gz"]
    (tmp_path / "pred" / "a:b.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"^missing-prediction: 1 of 2 truths .*: a:b; "):
        pair_up(tmp_path / "pred", tmp_path / "truth")
    write_map(tmp_path / "runs" / "a_b" / "labels.nii.gz")
    with pytest.raises(UsageError, match=r"^missing-prediction: 1 of 2 truths .*: a:b; "):
        pair_up(tmp_path / "runs", tmp_path / "truth")
    (tmp_path / "truth" / "a_b.nii.gz").rename(tmp_path / "truth" / "a?b.nii.gz")
    with pytest.raises(
        UsageError, match=r"^ambiguous-name: .*a:b\.nii\.gz and .*a\?b\.nii\.gz are both of study a_b; "
    ):
        pair_up(tmp_path / "runs", tmp_path / "truth")


# --- label maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "read_as", "ids", "labels"),
    [
        (0, "empty", (), {0}),
        (two_blocks(1, 1), "components", (1, 2), {0, 1, 2}),
        (two_blocks(255, 255), "components", (1, 2), {0, 1, 2}),
        (two_blocks(1, 0), "one node", (1,), {0, 1}),
        (two_blocks(1, 1, touching=True), "one node", (1,), {0, 1}),
        (two_blocks(2, 1), "ids", (1, 2), {0, 1, 2}),
        (two_blocks(7, 65000), "ids", (7, 65000), {0, 1, 2}),
        (two_blocks(1, 2, touching=True), "ids", (1, 2), {0, 1, 2}),
    ],
)
def test_what_a_map_means(tmp_path: Path, values: Any, read_as: str, ids: tuple[int, ...], labels: set[int]) -> None:
    label_map = read_label_map(write_map(tmp_path / "a.nii.gz", values))
    present = set(np.unique(label_map.labels.array).tolist())
    assert (label_map.read_as, label_map.ids, present) == (read_as, ids, labels)
    assert label_map.split == 0


def test_classes_that_pass_for_ids_are_noticed(tmp_path: Path) -> None:
    labels = two_blocks(1, 1)
    labels[3, 7, 7] = 2
    write_map(tmp_path / "truth" / "a.nii.gz", labels)
    write_map(tmp_path / "pred" / "a.nii.gz", labels > 0)
    assert read_label_map(tmp_path / "truth" / "a.nii.gz").split == 1
    notes = dict(evaluate(pair_up(tmp_path / "pred", tmp_path / "truth"), Rules()).notes)
    assert notes["split-ids"] == "a: 1 of 2 ids of the truth lie in several pieces; are they nodes?"


@pytest.mark.parametrize(
    "make",
    [
        lambda array: array.astype("f4"),
        lambda array: array.astype("f8") + 1e-5,
        lambda array: array.astype("i1"),
        lambda array: array.astype("u8"),
        lambda array: array.astype("i4"),
    ],
)
def test_types_of_whole_numbers(tmp_path: Path, make: Callable[[Any], Any]) -> None:
    path = write_nifti(tmp_path / "a.nii", make(two_blocks(3, 9)))
    assert read_label_map(path).ids == (3, 9)


def test_scaled_labels(tmp_path: Path) -> None:
    """What nibabel makes of floats stored as int16: a little beside the integers."""
    path = write_nifti(tmp_path / "a.nii", two_blocks(1000, 3000).astype("i2"), scl_slope=0.001000001)
    assert read_label_map(path).ids == (1, 3)


@pytest.mark.parametrize(
    ("values", "meaning", "read_as", "ids", "split"),
    [
        (two_blocks(7, 7), "ids", "ids", (7,), 1),
        (two_blocks(7, 0), "ids", "ids", (7,), 0),
        (two_blocks(1, 2), "mask", "components", (1, 2), 0),
        (two_blocks(1, 2, touching=True), "mask", "one node", (1,), 0),
        (0, "ids", "empty", (), 0),
        (0, "mask", "empty", (), 0),
    ],
)
def test_what_a_map_is_said_to_mean(
    tmp_path: Path, values: Any, meaning: Meaning, read_as: str, ids: tuple[int, ...], split: int
) -> None:
    labels = read_label_map(write_map(tmp_path / "a.nii.gz", values), meaning)
    assert (labels.read_as, labels.ids, labels.split) == (read_as, ids, split)


def test_a_side_that_mixes_ids_and_masks_is_told_so(tmp_path: Path) -> None:
    for name, values in (("a", two_blocks(1, 2)), ("b", two_blocks(1, 1)), ("c", two_blocks(3, 0))):
        write_map(tmp_path / "truth" / f"{name}.nii.gz", values)
        write_map(tmp_path / "pred" / f"{name}.nii.gz", values > 0)
    pairing = pair_up(tmp_path / "pred", tmp_path / "truth")
    evaluation = evaluate(pairing, Rules())
    assert [note for note in evaluation.notes if note[0] == "mixed-reading"] == [
        (
            "mixed-reading",
            "truths: 1 read as ids, 1 as a mask's components; --read-as ids or --read-as mask takes all alike",
        )
    ]
    for meaning, nodes in (("ids", [2, 1, 1]), ("mask", [2, 2, 1])):
        evaluation = evaluate(pairing, Rules(), read_as=meaning)  # type: ignore[arg-type]  # both are meanings
        assert "mixed-reading" not in dict(evaluation.notes)
        assert [len(study.truth) for study in evaluation.studies] == nodes
        assert metrics(evaluation)["rules"]["read_as"] == meaning


def test_bytes_behind_the_voxels_are_told(tmp_path: Path) -> None:
    for side in ("pred", "truth"):
        write_map(tmp_path / side / "a.nii.gz", two_blocks(1, 2))
    file = tmp_path / "pred" / "a.nii.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + b"12345"))
    notes = dict(evaluate(pair_up(tmp_path / "pred", tmp_path / "truth"), Rules()).notes)
    assert notes["trailing-data"] == "a: 5 bytes follow the voxels of the prediction; they were ignored"


def half(array: Any) -> Any:
    array = array.astype("f4")
    array[0, 0, 0] = 0.5
    return array


def not_a_number(array: Any) -> Any:
    array = array.astype("f4")
    array[0, 0, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (-two_blocks(1, 2).astype("i2"), "bad-labels"),
        (-two_blocks(1, 2).astype("f4"), "bad-labels"),
        (half(two_blocks(1, 2)), "bad-labels"),
        (not_a_number(two_blocks(1, 2)), "bad-labels"),
        (two_blocks(1, 2).astype("f8") * 1e300, "bad-labels"),
        (np.arange(16 * 128, dtype="i2").reshape(16, 8, 16), "bad-labels"),
        (np.kron(np.ones((13, 13, 13), "u1"), np.eye(1, 8, dtype="u1").reshape(2, 2, 2)), "bad-labels"),
        (np.zeros((2, 4, 8, 8), "u1"), "not-3d"),
    ],
)
def test_what_is_no_label_map(tmp_path: Path, array: Any, code: str) -> None:
    with pytest.raises(StudyError, match=f"^{code}: .*no.nii.gz: ") as no:
        read_label_map(write_nifti(tmp_path / "no.nii.gz", array))
    assert no.value.exit_code == 3
    assert "\n" not in str(no.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    whole = write_map(tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[:60])
    (tmp_path / "text.nii.gz").write_text("labels")
    for name, code in (("cut", "truncated"), ("text", "not-nifti"), ("nobody", "not-found")):
        with pytest.raises(StudyError, match=f"^{code}: .*{name}.nii.gz: "):
            read_label_map(tmp_path / f"{name}.nii.gz")


def test_grids_must_be_one(tmp_path: Path) -> None:
    write_map(tmp_path / "truth" / "a.nii.gz", two_blocks(1, 2))
    write_map(tmp_path / "pred" / "a.nii.gz", two_blocks(1, 2), spacing_mm=2.01)
    with pytest.raises(UsageError, match=r"^grid-mismatch: a: the two grids lie "):
        evaluate(pair_up(tmp_path / "pred", tmp_path / "truth"), Rules())
    for name, spacing_mm in (("b", 2.0), ("c", 2.02)):
        write_map(tmp_path / "truth" / f"{name}.nii.gz", two_blocks(1, 2))
        write_map(tmp_path / "pred" / f"{name}.nii.gz", two_blocks(1, 2), spacing_mm=spacing_mm)
    with pytest.raises(UsageError, match=r"^grid-mismatch: a: [^;]*; c: [^;]*$"):
        evaluate(pair_up(tmp_path / "pred", tmp_path / "truth"), Rules())


@pytest.mark.parametrize("code", ["RAS", "LPI", "SRA", "AIL"])
def test_the_same_voxels_in_another_order_of_axes(tmp_path: Path, code: str) -> None:
    truth = two_blocks(1, 2)
    truth[1, 5, 5:8] = 3
    predicted = np.roll(truth, 1, axis=2) * (truth != 3)
    write_map(tmp_path / "truth" / "a.nii.gz", truth)
    plain = write_map(tmp_path / "pred" / "a.nii.gz", predicted)
    pairing = pair_up(tmp_path / "pred", tmp_path / "truth")
    (expected,) = evaluate(pairing, Rules()).studies
    turned = read_label_map(plain).labels.oriented(code)
    plain.write_bytes(label_map_bytes(Volume(np.ascontiguousarray(turned.array), turned.grid)))
    (study,) = evaluate(pairing, Rules()).studies
    assert (study.truth, study.predicted, study.matches) == (expected.truth, expected.predicted, expected.matches)
    assert study.overlap == expected.overlap


# --- scanners -------------------------------------------------------------------------------------------------------


def truth_folder(tmp_path: Path, *names: str, below: str = "labelsTr") -> Path:
    for name in names:
        write_map(tmp_path / "truth" / below / f"{name}.nii.gz", two_blocks(1, 2))
        write_map(tmp_path / "pred" / f"{name}.nii.gz", two_blocks(1, 2))
    (tmp_path / "truth" / "truth").mkdir(exist_ok=True)
    return tmp_path / "truth"


@pytest.mark.parametrize(("below", "folder_name"), [("labelsTr", "."), ("labelsTr", "labelsTr"), (".", ".")])
def test_the_truth_s_record_names_the_scanner(
    tmp_path: Path, below: str, folder_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = truth_folder(tmp_path, "a", "b", below=below)
    (folder / "truth" / "a.json").write_text('{"scanner": "ingenia"}')
    pairs = pair_up(tmp_path / "pred", folder / folder_name).pairs
    assert [scanner_of(pair, folder / folder_name) for pair in pairs] == ["ingenia", None]
    monkeypatch.chdir(folder / folder_name)
    assert [scanner_of(pair, Path(".")) for pair in pairs] == ["ingenia", None]


@pytest.mark.parametrize(("text", "scanner"), [('""', None), ('" "', None), ("3", None), ('"\\ud800 x"', "? x")])
def test_a_scanner_s_name_is_some_text(tmp_path: Path, text: str, scanner: str | None) -> None:
    folder = truth_folder(tmp_path, "a", "b")
    for name in ("a", "b"):
        (folder / "truth" / f"{name}.json").write_text(f'{{"scanner": {text}}}')
    evaluation = evaluate(pair_up(tmp_path / "pred", folder), Rules())
    assert [study.group for study in evaluation.studies] == [scanner] * 2
    cases_csv(evaluation.studies).encode()


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_record_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    folder = truth_folder(tmp_path, "a")
    (folder / "truth" / "a.json").write_text(content, encoding="latin-1")
    with pytest.raises(StudyError, match=r"^bad-truth: .*a\.json: "):
        scanner_of(StudyPair("a", folder, folder), folder)


def test_a_record_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    folder = truth_folder(tmp_path, "a")
    (folder / "truth" / "a.json").mkdir()
    with pytest.raises(StudyError, match=r"^unreadable: .*a\.json: cannot be read \(Is a directory\)"):
        scanner_of(StudyPair("a", folder, folder), folder)
    assert scanner_of(StudyPair("a" * 251, folder, folder), folder) is None


def test_groups_of_a_file(tmp_path: Path) -> None:
    folder = truth_folder(tmp_path, "a", "b")
    pairing = pair_up(tmp_path / "pred", folder)
    groups = tmp_path / "groups.csv"
    groups.write_text("\ufeffname,group\na,one\nb, two \nc,three\n", encoding="utf-8")
    evaluation = evaluate(pairing, Rules(), groups=groups)
    assert [study.group for study in evaluation.studies] == ["one", "two"]
    assert (evaluation.groups_from, evaluation.notes) == ("groups.csv", ())
    for text in (
        "name,group\na,one\n",
        "name,group\na,one\nb,\n",
        "name,group\na,x\nb,x\na,y\n",
        "who,what\na,one\n",
        "",
        "name,group\nb,\xff\n",
    ):
        groups.write_text(text, encoding="latin-1")
        with pytest.raises(UsageError, match=r"^bad-groups: .*groups\.csv "):
            evaluate(pairing, Rules(), groups=groups)
    with pytest.raises(OSError, match="nowhere"):
        evaluate(pairing, Rules(), groups=tmp_path / "nowhere.csv")


def test_without_scanners_there_is_a_note(tmp_path: Path) -> None:
    folder = truth_folder(tmp_path, "a", "b")
    evaluation = evaluate(pair_up(tmp_path / "pred", folder), Rules())
    assert (evaluation.groups_from, dict(evaluation.notes)["no-groups"].partition(";")[0]) == (
        None,
        "no scanner is named",
    )
    (folder / "truth" / "a.json").write_text(json.dumps({"scanner": "ingenia"}))
    evaluation = evaluate(pair_up(tmp_path / "pred", folder), Rules())
    assert evaluation.groups_from == "truth/<name>.json"
    assert dict(evaluation.notes)["no-groups"].startswith("1 of 2 have no scanner")
