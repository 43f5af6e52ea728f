"""Splits of cases by patient, and their file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from raw_folders import ONE, describe, image_of, labels_of, put

from lnfast.errors import LnfastError, UsageError
from training.data.nnunet_raw import CaseFiles, open_cases
from training.data.split import Split, check_split, read_split, split_cases, write_split
from training.data_commands import split as split_command


def cases_of(patients: int, studies: Callable[[int], int] = lambda patient: 1) -> list[CaseFiles]:
    return [
        CaseFiles(f"case{patient:04d}_{study}", f"patient{patient:04d}", Path("i"), Path("l"))
        for patient in range(patients)
        for study in range(studies(patient))
    ]


@pytest.mark.parametrize(
    ("patients", "sizes"), [(3, (1, 1, 1)), (10, (8, 1, 1)), (30, (24, 3, 3)), (393, (315, 39, 39))]
)
def test_a_split_is_8_to_1_to_1(patients: int, sizes: tuple[int, int, int]) -> None:
    split = split_cases(cases_of(patients), 1)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


@pytest.mark.parametrize("seed", range(5))
def test_a_split_holds_each_case_once_and_each_patient_on_one_side(seed: int) -> None:
    cases = cases_of(57, lambda patient: 1 + patient % 4)
    split = split_cases(cases, seed)
    check_split(split, cases)
    sides = [set(split.train), set(split.validation), set(split.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(cases)
    patients = [{name.split("_")[0] for name in side} for side in sides]
    assert not patients[0] & patients[1] and not patients[0] & patients[2] and not patients[1] & patients[2]
    assert split_cases(cases[::-1], seed) == split
    assert split_cases(cases, seed + 1) != split


def test_most_patients_stay_when_others_are_added() -> None:
    before, after = split_cases(cases_of(300), 7), split_cases(cases_of(330), 7)
    side = {name: part for part in ("train", "validation", "test") for name in getattr(after, part)}
    moved = [name for part in ("train", "validation", "test") for name in getattr(before, part) if side[name] != part]
    assert len(moved) <= 12  # a shuffle would move a hundred


def test_two_patients_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="too-few-patients"):
        split_cases(cases_of(2, lambda patient: 5), 1)


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    cases = cases_of(20)
    split = split_cases(cases, 3)
    write_split(tmp_path / "run" / "split.json", split)
    assert read_split(tmp_path / "run" / "split.json", cases) == split
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(1, ("case0000_0", "x"), ("case0001_0",), ("case0002_0",)), "are not there: x"),
        (Split(1, ("case0000_0",), (), ("case0002_0",)), "leaves out: case0001_0"),
        (Split(1, ("case0000_0",), ("case0001_0", "case0002_0"), ("case0002_0",)), "twice: case0002_0"),
    ],
)
def test_a_split_of_other_cases_is_refused(tmp_path: Path, split: Split, message: str) -> None:
    write_split(tmp_path / "split.json", split)
    with pytest.raises(UsageError, match=f"bad-split.*{message}"):
        read_split(tmp_path / "split.json", cases_of(3))


def test_a_split_with_a_patient_on_two_sides_is_refused() -> None:
    with pytest.raises(UsageError, match="two sides: patient0000"):
        check_split(Split(1, ("case0000_0",), ("case0000_1",), ()), cases_of(1, lambda patient: 2))


def test_a_split_may_leave_out_cases_on_request() -> None:
    check_split(Split(1, ("case0000_0",), (), ()), cases_of(3), partial=True)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"schema": "lnfast.split/2"}', '{"schema": "lnfast.split/1", "seed": 1, "train": "a"}']
    + ['{"schema": "lnfast.split/1", "seed": "1", "train": [], "validation": [], "test": []}', None],
)
def test_an_invalid_split_file_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "split.json").write_text(text)
    with pytest.raises(UsageError, match="bad-split"):
        read_split(tmp_path / "split.json")


def test_split_writes_the_file(tmp_path: Path) -> None:
    for index in range(4):
        put(tmp_path, f"c{index}", image_of(index), labels_of(ONE))
    describe(tmp_path)
    invoke = CliRunner().invoke
    result = invoke(split_command, [str(tmp_path), "-o", str(tmp_path / "split.json"), "--seed", "5"])
    assert result.exit_code == 0 and "2 train, 1 validation, 1 test" in result.stdout
    assert read_split(tmp_path / "split.json", open_cases(tmp_path)).seed == 5
    before = (tmp_path / "split.json").read_bytes()
    again = invoke(split_command, [str(tmp_path), "-o", str(tmp_path / "split.json")])
    assert isinstance(again.exception, UsageError) and again.exception.code == "output-exists"
    assert (tmp_path / "split.json").read_bytes() == before
    (tmp_path / "labelsTr" / "c0.nii.gz").unlink()
    failed = invoke(split_command, [str(tmp_path), "-o", str(tmp_path / "other.json")])
    assert isinstance(failed.exception, LnfastError) and failed.exception.exit_code == 3
    assert not (tmp_path / "other.json").exists()
