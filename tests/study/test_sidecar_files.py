"""Which .bval and .json belong to a study: in any case, also by the names of nnU-Net; two that differ are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from nifti_files import voxels, write_nifti

from lnfast.errors import StudyError
from lnfast.study import read_study
from lnfast.study.sidecar_files import files_beside

SHAPE = (4, 6, 5)
BVALS = ["x.bval", "x.bvals", "x.BVAL", "x.BVALS", "x.bVal", "x.Bval"]


def image(folder: Path, name: str = "x.nii.gz", volumes: int = 3) -> Path:
    return write_nifti(folder / name, voxels((volumes, *SHAPE)))


def refusal(path: Path) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(path)
    return caught.value


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.NII.GZ", "x_0000.nii.gz", "x_0000.nii"])
@pytest.mark.parametrize("bval", BVALS)
def test_b_values_are_looked_for_under_these_names(tmp_path: Path, bval: str, name: str) -> None:
    (tmp_path / bval).write_text("0 50 800")
    assert read_study(image(tmp_path, name)).b_value == 800


@pytest.mark.parametrize("bval", ["x_0000.bval", "x_0000.BVALS"])
def test_the_name_with_its_channel_is_looked_for_too(tmp_path: Path, bval: str) -> None:
    (tmp_path / bval).write_text("0 50 800")
    assert read_study(image(tmp_path, "x_0000.nii.gz")).b_value == 800


@pytest.mark.parametrize(
    "name", ["x.bvec", "x.bvecs", "x.bval.txt", "x.bval~", "xx.bval", "X.bval", "x_0001.bval", "bval", ".bval"]
)
def test_other_files_are_not_b_values(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("0 50 800")
    path = image(tmp_path)
    if not (tmp_path / "x.bval").exists():  # a file system without case knows X.bval under both names
        assert refusal(path).code == "no-high-b"


def test_a_bval_of_the_channel_is_not_that_of_the_plain_name(tmp_path: Path) -> None:
    (tmp_path / "x_0000.bval").write_text("0 50 800")
    assert refusal(image(tmp_path)).code == "no-high-b"


def test_a_bval_of_another_image_is_left_to_it(tmp_path: Path) -> None:
    image(tmp_path)
    (tmp_path / "x.bval").write_text("0 50 800")
    single = read_study(image(tmp_path, "x_0000.nii.gz", 1))
    assert single.b_value is None and single.provenance.warnings[-1][0] == "unknown-b-value"


@pytest.mark.parametrize("second", [*BVALS[1:], "x_0000.bval", "x_0000.BVAL"])
def test_two_that_differ_are_refused_and_two_that_agree_are_not(tmp_path: Path, second: str) -> None:
    path = image(tmp_path, "x_0000.nii.gz")
    (tmp_path / "x.bval").write_text("0 50 800")
    if (tmp_path / second).exists():
        pytest.skip("a file system without case")
    (tmp_path / second).write_text("0\n50.0\n8e2\n")
    assert read_study(path).b_value == 800
    (tmp_path / second).write_text("800 50 0")
    error = refusal(path)
    assert error.code == "bad-bval"
    assert "x.bval" in error.message and second in error.message and "keep the right one" in error.message


def test_a_damaged_second_file_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.bval").write_text("0 50 800")
    (tmp_path / "x.bvals").write_text("0 800")
    assert refusal(image(tmp_path)).code == "bad-bval"


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links on this system")
def test_a_bval_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path, volumes=1)
    (tmp_path / "x.bval").symlink_to(tmp_path / "gone")
    error = refusal(path)
    assert error.code == "bad-bval" and "link" in error.message


@pytest.mark.parametrize("sidecar", ["x.json", "x.JSON", "x_0000.json", "x_0000.Json"])
def test_sidecars_are_looked_for_in_the_same_way(tmp_path: Path, sidecar: str) -> None:
    path = image(tmp_path, "x_0000.nii.gz", 1)
    (tmp_path / sidecar).write_text(json.dumps({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}))
    assert refusal(path).code == "adc-map"


def test_every_sidecar_counts(tmp_path: Path) -> None:
    path = image(tmp_path, "x_0000.nii.gz", 1)
    (tmp_path / "x_0000.json").write_text(json.dumps({"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION"]}))
    read_study(path)
    (tmp_path / "x.json").write_text(json.dumps({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "FA"]}))
    assert refusal(path).code == "not-dwi"


def test_a_relative_path_finds_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path)
    (tmp_path / "x.BVAL").write_text("0 50 800")
    monkeypatch.chdir(tmp_path)
    assert read_study("x.nii.gz").b_value == 800


def test_a_folder_that_cannot_be_listed_is_asked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: object) -> list[str]:
        raise PermissionError

    (tmp_path / "x.bval").write_text("0 50 800")
    path = image(tmp_path)
    monkeypatch.setattr("os.listdir", denied)
    assert files_beside(path, (".bval", ".bvals")) == (tmp_path / "x.bval",)
    assert read_study(path).b_value == 800


# ------------------------------------------------------------------------------------------ the study itself is gone


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links on this system")
def test_a_study_that_is_a_link_to_nothing_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    error = refusal(tmp_path / "x.nii.gz")
    assert error.code == "not-found" and error.message.startswith("x.nii.gz: ") and "link to a file" in error.message


@pytest.mark.skipif(os.name == "nt", reason="a working folder cannot be deleted there")
def test_a_deleted_working_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    error = refusal(Path("x.nii.gz"))
    assert error.code == "not-found" and "x.nii.gz" in error.message and "working folder" in error.message
