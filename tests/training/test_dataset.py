"""Data in: nnU-Net's raw layout as cases, and the check that names every bad case."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of, make_card, stored_in_all_ways
from click.testing import CliRunner, Result
from nifti_files import write_nifti
from raw_folders import GRID, ONE, SHAPE_ZYX, TWO, describe, image_of, labels_of, put, put_map

from lnfast.card import ModelCard
from lnfast.cohort import add_case
from lnfast.errors import StudyError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.phantom import Protocol, make_phantom
from training.data.check import check_dataset, examine
from training.data.load import load_case
from training.data.nnunet_raw import open_cases
from training.data_commands import check as check_command
from training.recipe.card import draft_card

CARD: ModelCard = make_card()
SMALL = Protocol("small", (64, 64), (384.0, 384.0), 8.0, 20, 800.0, 70.0, 3500.0)


def one_case(folder: Path, annotated: Volume | None = None, **entries: Any) -> Path:
    put(folder, "a", image_of(1), labels_of(ONE, TWO) if annotated is None else annotated)
    return describe(folder, **entries)


def codes(folder: Path) -> list[tuple[str, str]]:
    return [(problem.case, problem.code) for problem in check_dataset(folder, CARD)]


def load_one(folder: Path) -> Any:
    (files,) = open_cases(folder)
    return load_case(files, CARD)


def test_a_phantom_is_read_back_unchanged(tmp_path: Path) -> None:
    phantom = make_phantom(1003, "n0", protocol=SMALL)
    add_case(tmp_path, phantom)
    (files,) = open_cases(tmp_path)
    assert files.name == files.patient == "phantom_small_001003"
    case = load_case(files, draft_card())
    turned = phantom.volume.oriented("LPS")
    np.testing.assert_array_equal(case.volume.array, turned.array)
    np.testing.assert_array_equal(case.labels, Volume(phantom.labels, phantom.volume.grid).oriented("LPS").array)
    assert case.labels.dtype == np.uint16 and case.labels.max() == len(phantom.nodes)
    findings = examine(tmp_path, draft_card())
    assert (findings.problems, findings.cases, findings.patients, findings.nodes) == ([], 1, 1, len(phantom.nodes))


@pytest.mark.parametrize("classes", [True, False])
def test_all_48_ways_to_store_a_study_give_one_case(tmp_path: Path, classes: bool) -> None:
    image = image_of(1)
    labels = labels_of(ONE, TWO, values=(1, 1) if classes else (2, 7))
    entries = {"instance_labels": None} if classes else {}
    wanted = labels_of(ONE, TWO).array
    ways = list(zip(stored_in_all_ways(image), stored_in_all_ways(labels), strict=True))
    for index, (stored, annotated) in enumerate(ways):
        put(tmp_path, f"{index:02d}", stored, annotated)
    describe(tmp_path, **entries)
    for files in open_cases(tmp_path):
        case = load_case(files, CARD)
        np.testing.assert_array_equal(case.volume.array, image.array)
        np.testing.assert_array_equal(case.labels, wanted)
        np.testing.assert_allclose(case.volume.grid.affine, GRID.affine, atol=1e-4)
        assert case.volume.array.flags.c_contiguous and case.labels.flags.c_contiguous
    assert len(ways) == 48
    # The same voxels, however they are stored, are the same image under two names.
    assert codes(tmp_path) == [(f"{index:02d}", "duplicate") for index in range(1, 48)]


def test_a_map_may_be_stored_along_other_axes_than_its_image(tmp_path: Path) -> None:
    turned = list(stored_in_all_ways(labels_of(ONE, TWO)))[29]
    case = load_one(one_case(tmp_path, turned))
    np.testing.assert_array_equal(case.labels, labels_of(ONE, TWO).array)


def test_of_several_volumes_the_runtimes_choice_is_taken(tmp_path: Path) -> None:
    values = np.stack([image_of(seed).array for seed in range(3)])
    put(tmp_path, "a", None, labels_of(ONE))
    fields = {"srow": tuple(GRID.affine[:3].ravel()), "pixdim": (1, 1.5, 1.6, 5, 1, 1, 1, 1), "bval": "0 800 2000"}
    write_nifti(tmp_path / "imagesTr" / "a_0000.nii.gz", values, **fields)
    np.testing.assert_array_equal(load_one(describe(tmp_path)).volume.array, values[1])


def test_the_rescale_offset_is_applied_and_the_scale_is_not(tmp_path: Path) -> None:
    put(tmp_path, "a", image_of(1), labels_of(ONE), scl_slope=2.0, scl_inter=-100.0)
    np.testing.assert_allclose(load_one(describe(tmp_path)).volume.array, image_of(1).array - 50.0)


def test_uncompressed_files_are_read_too(tmp_path: Path) -> None:
    put_map(tmp_path / "imagesTr" / "a_0000.nii", image_of(1), bval="1000")
    put_map(tmp_path / "labelsTr" / "a.nii", labels_of(ONE))
    assert load_one(describe(tmp_path, file_ending=".nii")).labels.max() == 1


def label_values(kind: str, value: float) -> Volume:
    labels = labels_of(ONE).array.astype(kind)
    labels[labels > 0] = value
    return Volume(labels, GRID)


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "i8", "u8", "f4", "f8"])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, kind: str) -> None:
    case = load_one(one_case(tmp_path, label_values(kind, 3)))
    np.testing.assert_array_equal(case.labels, labels_of(ONE).array)


def test_an_id_may_be_larger_than_the_number_of_nodes(tmp_path: Path) -> None:
    case = load_one(one_case(tmp_path, label_values("i4", 65536)))
    np.testing.assert_array_equal(case.labels, labels_of(ONE).array)


@pytest.mark.parametrize(("kind", "value"), [("i2", -1), ("f4", 0.5), ("f4", np.nan), ("f8", np.inf), ("f8", 1e300)])
def test_other_values_are_no_labels(tmp_path: Path, kind: str, value: float) -> None:
    folder = one_case(tmp_path, label_values(kind, value))
    with pytest.raises(StudyError, match=r"^bad-labels: label a.nii.gz: holds"):
        load_one(folder)
    assert codes(folder) == [("a", "bad-labels")]


def test_labels_with_a_scale_mean_the_scaled_values(tmp_path: Path) -> None:
    put(tmp_path, "a", image_of(1), None)
    put_map(tmp_path / "labelsTr" / "a.nii.gz", label_values("u1", 255), scl_slope=1 / 255)
    assert np.unique(load_one(describe(tmp_path, instance_labels=None)).labels).tolist() == [0, 1]


CLASSES = {"background": 0, "prostate": 1, "pelvic LN": 2}


@pytest.mark.parametrize(
    "entries",
    [
        {"labels": CLASSES},
        {"labels": CLASSES | {"lymph node": 3}, "node_label": "pelvic LN"},
        {"labels": {"background": 0, "all": [1, 2], "LN": [2]}},
        {"labels": CLASSES | {"ignore": 9}},
    ],
)
def test_the_node_class_is_selected_by_its_name(tmp_path: Path, entries: dict[str, Any]) -> None:
    folder = one_case(tmp_path, labels_of(ONE, TWO, values=(2, 1)), instance_labels=None, **entries)
    np.testing.assert_array_equal(load_one(folder).labels, labels_of(ONE).array)


def test_a_value_that_is_no_class_is_refused(tmp_path: Path) -> None:
    """Neither instances that nobody declared nor what is to be ignored may pass for something else."""
    labels = labels_of(ONE, TWO)
    assert codes(one_case(tmp_path / "1", labels, instance_labels=None)) == [("a", "bad-labels")]
    ignoring = {"labels": {"background": 0, "node": 1, "ignore": 2}, "instance_labels": None}
    assert codes(one_case(tmp_path / "2", labels, **ignoring)) == [("a", "bad-labels")]


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"channel_names": {"0": "DWI", "1": "ADC"}}, "more-channels"),
        ({"channel_names": None, "modality": {"0": "MRI"}}, "bad-dataset"),
        ({"file_ending": ".mha"}, "bad-dataset"),
        ({"file_ending": None}, "bad-dataset"),
        ({"dataset": {}}, "bad-dataset"),
        ({"labels": {"background": 0, "a": 1, "b": 2}, "instance_labels": None}, "no-node-label"),
        ({"labels": {"background": 0, "LN": 1, "node": 2}, "instance_labels": None}, "no-node-label"),
        ({"labels": {"0": "background", "1": "node"}, "instance_labels": None}, "bad-dataset"),
        ({"labels": {"background": 0, "LN": 1}, "node_label": "lymph", "instance_labels": None}, "no-node-label"),
        ({"labels": None, "instance_labels": None}, "bad-dataset"),
        ({"patients": ["a"]}, "bad-patients"),
        ({"patients": {"b": "1"}}, "no-patient"),
    ],
)
def test_every_mistake_in_dataset_json_has_a_code(tmp_path: Path, entries: dict[str, Any], code: str) -> None:
    folder = one_case(tmp_path, **entries)
    assert code in [code_found for _, code_found in codes(folder)]
    with pytest.raises(StudyError) as caught:
        open_cases(folder)
    assert caught.value.code == code


def test_a_wrong_count_is_a_note_and_no_hindrance(tmp_path: Path) -> None:
    folder = one_case(tmp_path, numTraining=7)
    assert codes(folder) == []
    assert [(note.case, note.code) for note in examine(folder, CARD).notes] == [("dataset.json", "count-mismatch")]
    assert len(open_cases(folder)) == 1


def test_a_damaged_or_missing_dataset_json(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-dataset"):
        open_cases(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    assert codes(tmp_path) == [("dataset.json", "bad-dataset")]
    describe(tmp_path)
    assert codes(tmp_path) == [("imagesTr", "no-folder"), ("labelsTr", "no-folder")]
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    assert codes(tmp_path) == [("imagesTr", "no-cases")]
    with pytest.raises(StudyError, match="no-cases"):
        open_cases(tmp_path)


def break_all(folder: Path) -> None:
    """Fourteen cases of which one is right."""
    good, labels = image_of(0), labels_of(ONE)
    put(folder, "00_good", good, labels)
    put(folder, "01_no_label", image_of(1), None)
    put(folder, "02_no_image", None, labels)
    put(folder, "03_low_b", image_of(3), labels, bval="50")
    put(folder, "04_adc", image_of(4), labels, descrip=b"ADC map")
    put(folder, "05_no_geometry", image_of(5), labels, sform_code=0)
    upright = Grid(SHAPE_ZYX, affine_of((1.5, 5.0, 1.6)))
    put(folder, "06_coronal", Volume(image_of(6).array, upright), Volume(labels.array, upright))
    put(folder, "07_constant", Volume(np.full(SHAPE_ZYX, 7, np.int16), GRID), labels)
    hole = image_of(8).array.astype(np.float32)
    hole[0, 0, 0] = np.nan
    put(folder, "08_nan", Volume(hole, GRID), labels)
    moved = Grid(SHAPE_ZYX, affine_of((1.5, 1.6, 5.0), origin=(-40.0, 25.0, 90.1)))
    put(folder, "09_moved", image_of(9), Volume(labels.array, moved))
    smaller = Volume(labels.array[1:], Grid(labels.array[1:].shape, GRID.affine))
    put(folder, "10_smaller", image_of(10), smaller)
    put(folder, "11_twice", good, labels)
    put(folder, "12_both", image_of(12), label_values("f4", 0.25), bval="50")
    put(folder, "13_truncated", image_of(13), labels)
    path = folder / "imagesTr" / "13_truncated_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    put(folder, "14_channels", image_of(14), labels)
    put_map(folder / "imagesTr" / "14_channels_0001.nii.gz", image_of(15))
    put_map(folder / "imagesTr" / "15_name.nii.gz", image_of(15))
    put_map(folder / "labelsTr" / "16_ending.nii", labels)
    describe(folder)


EVERY_PROBLEM = {
    ("01_no_label", "no-label"),
    ("02_no_image", "no-image"),
    ("03_low_b", "no-high-b"),
    ("04_adc", "adc-map"),
    ("05_no_geometry", "no-geometry"),
    ("06_coronal", "not-axial"),
    ("07_constant", "constant"),
    ("08_nan", "non-finite"),
    ("09_moved", "grid-mismatch"),
    ("10_smaller", "grid-mismatch"),
    ("11_twice", "duplicate"),
    ("12_both", "no-high-b"),
    ("12_both", "bad-labels"),
    ("13_truncated", "truncated"),
    ("14_channels", "more-channels"),
    ("15_name", "bad-name"),
    ("16_ending.nii", "bad-name"),
}


def test_every_bad_case_is_named_with_the_runtimes_code(tmp_path: Path) -> None:
    break_all(tmp_path)
    problems = check_dataset(tmp_path, CARD)
    assert {(problem.case, problem.code) for problem in problems} == EVERY_PROBLEM
    assert len(problems) == len(EVERY_PROBLEM)
    assert "00_good" in next(problem.message for problem in problems if problem.code == "duplicate")
    with pytest.raises(StudyError) as caught:
        open_cases(tmp_path)
    assert all(name in caught.value.message for name in ("01_no_label", "02_no_image", "14_channels", "15_name"))


def test_unusual_but_possible_content_is_a_note(tmp_path: Path) -> None:
    put(tmp_path, "1_empty", image_of(1), labels_of())
    put(tmp_path, "2_voxel", image_of(2), labels_of((slice(3, 4), slice(3, 4), slice(3, 4))))
    apart = (slice(2, 5), slice(3, 7), slice(4, 20, 3))
    put(tmp_path, "3_pieces", image_of(3), labels_of(apart))
    beside = (ONE[0], ONE[1], slice(9, 12))
    put(tmp_path, "4_touching", image_of(4), labels_of(ONE, beside))
    air = image_of(5).array.copy()
    air[TWO] = 0
    put(tmp_path, "5_outside", Volume(air, GRID), labels_of(ONE, TWO))
    put(tmp_path, "6_no_b", image_of(6), labels_of(ONE), bval=None)
    wide = Grid(SHAPE_ZYX, affine_of((4.5, 4.6, 15.0)))
    put(tmp_path, "7_field", Volume(image_of(7).array, wide), Volume(labels_of(ONE).array, wide))
    describe(tmp_path)
    findings = examine(tmp_path, replace(CARD, through_plane_mm=(20.0, 60.0)))
    assert findings.problems == []
    assert [(note.case, note.code) for note in findings.notes] == [
        ("1_empty", "empty-label"),
        ("2_voxel", "single-voxel"),
        ("3_pieces", "node-in-pieces"),
        ("4_touching", "touching-nodes"),
        ("5_outside", "node-outside"),
        ("6_no_b", "unknown-b-value"),
        ("7_field", "field-of-view"),
    ]
    assert findings.without_nodes == 1 and sum(findings.protocols.values()) == 7


def run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_check_prints_every_finding_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    break_all(tmp_path / "bad")
    result = run(check_command, str(tmp_path / "bad"))
    assert result.exit_code == 3
    assert sum(line.startswith("problem  ") for line in result.stdout.splitlines()) == len(EVERY_PROBLEM)
    assert "problem  03_low_b: no-high-b: 03_low_b_0000.nii.gz: has b = 50" in result.stdout
    content = json.loads(run(check_command, str(tmp_path / "bad"), "--json").stdout)
    assert len(content["problems"]) == len(EVERY_PROBLEM) and content["cases"] == 13
    fine = run(check_command, str(one_case(tmp_path / "fine")))
    assert fine.exit_code == 0 and "suspicious" in fine.stdout and "4.5  4.6  5" in fine.stdout


def test_patients_are_read_from_a_table_or_dataset_json(tmp_path: Path) -> None:
    for folder in (tmp_path / "table", tmp_path / "json"):
        for index, name in enumerate("abc"):
            put(folder, name, image_of(index), labels_of(ONE))
    describe(tmp_path / "json", patients={"a": "p1", "b": "p2", "c": 0})
    describe(tmp_path / "table")
    (tmp_path / "table" / "patients.csv").write_text("case,patient\na,p1\nb, p2\nc,0\n")
    for folder in (tmp_path / "table", tmp_path / "json"):
        assert [case.patient for case in open_cases(folder)] == ["p1", "p2", "0"]
        assert examine(folder, CARD).patients == 3
    describe(tmp_path / "table", patients={"a": "p1", "b": "p1", "c": "p1"})
    assert codes(tmp_path / "table") == [("patients.csv", "bad-patients")]


@pytest.mark.parametrize(
    "text",
    [
        "case,person\na,1\n",
        "case,patient\na,1\na,2\n",
        "case,patient\na\n",
        "\udcff",
        "case,patient\na," + "1" * 140_000,
    ],
)
def test_a_table_of_patients_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    folder = one_case(tmp_path)
    (folder / "patients.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert codes(folder) == [("patients.csv", "bad-patients")]
