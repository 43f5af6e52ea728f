"""From a folder of DICOM files to reports and objects: the engine and the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command_line import lnfast as command
from dicom_files import SECRET, copy_changed, write_series

import lnfast
from lnfast.engine import Engine, Result, StudyFailure
from lnfast.errors import StudyError
from lnfast.optional import Package
from lnfast.study import DicomChoice

TRACE = "prostatex-0000/6_tracew_b50_400_800"
OBJECTS = {"seg.dcm", "sr.dcm"}
REPORT = {"report.json", "report.txt", "report.html", "labels.nii.gz"}


@pytest.fixture(scope="module")
def engine() -> Engine:
    with lnfast.Engine(backend="openvino", precision="fp32") as engine:
        yield engine


def names_in(folder: Path | None) -> set[str]:
    assert folder is not None
    return {path.name for path in folder.iterdir()}


def write_patient(folder: Path, number: int = 5) -> Path:
    """A pelvis of our own phantom as a DICOM series of a patient with a secret name."""
    from lnfast.phantom import make_phantom

    phantom = make_phantom(7)
    stored = np.clip(phantom.volume.array, 0, None).astype(np.uint16)
    write_series(folder, stored, phantom.volume.grid.affine, number=number)
    return folder


def test_a_dicom_folder_and_its_nifti_file_have_the_same_nodes(engine: Engine, data: Path, shared_data: Path) -> None:
    from_dicom = engine.run(data / TRACE)
    from_nifti = engine.run(shared_data / "prostatex-0000" / "6_ep2d_diff_tra_DYNDIST.nii.gz")
    assert from_dicom.n_stage == from_nifti.n_stage and len(from_dicom.nodes) == len(from_nifti.nodes) > 5

    def measures(result: Result) -> np.ndarray:
        rows = [
            (*node.centroid_ras_mm, *node.box_mm, node.axial_short_mm, node.axial_long_mm, node.volume_mm3)
            for node in result.nodes
        ]
        return np.array(sorted(np.round(rows, 3).tolist()))

    np.testing.assert_allclose(measures(from_dicom), measures(from_nifti), atol=2e-3)


def test_a_batch_writes_objects_of_dicom_and_none_of_nifti(
    engine: Engine, data: Path, shared_data: Path, tmp_path: Path
) -> None:
    nifti = shared_data / "prostatex-0000" / "6_ep2d_diff_tra_DYNDIST.nii.gz"
    outcomes = list(engine.run_many([data / "prostatex-0000", data / "ge-classic-tensor", nifti], out=tmp_path))
    first, second, third = outcomes
    assert isinstance(first, Result) and names_in(first.folder) == REPORT | OBJECTS
    assert first.folder == tmp_path / first.study.name and first.dicom_problem is None
    assert isinstance(second, StudyFailure) and second.error.code == "no-trace"
    assert isinstance(third, Result) and names_in(third.folder) == REPORT
    assert json.loads((tmp_path / first.study.name / "report.json").read_text())["study"]["dicom"] == {
        "series_number": 6,
        "computed_b": False,
    }
    assert json.loads((tmp_path / "6_ep2d_diff_tra_DYNDIST" / "report.json").read_text())["study"]["dicom"] is None


def test_objects_may_be_left_out_and_are_made_again_the_same(engine: Engine, data: Path, tmp_path: Path) -> None:
    result = engine.run(data / TRACE)
    assert names_in(result.write(tmp_path, dicom=False)) == REPORT
    folder = result.write(tmp_path)
    before = {name: (folder / name).read_bytes() for name in OBJECTS}
    again = result.write(tmp_path, seg_frames="sparse")
    assert {name: (again / name).read_bytes() for name in OBJECTS} == before
    many = pydicom.dcmread(result.write(tmp_path, seg_frames="all") / "seg.dcm")
    assert int(many.NumberOfFrames) == len(result.nodes) * result.study.volume.array.shape[0]


def test_the_report_stands_where_the_objects_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    source = write_patient(tmp_path / "in")
    result = engine.run(source)
    for path in source.iterdir():
        path.unlink()
    with pytest.warns(RuntimeWarning, match="dicom-not-written: seg.dcm and sr.dcm are missing: source-changed"):
        folder = result.write(tmp_path / "out")
    assert names_in(folder) == REPORT


@pytest.mark.parametrize("absent", [{"pydicom", "highdicom"}, {"pydicom"}, {"highdicom"}])
def test_a_plain_series_is_run_without_the_packages_and_the_report_says_what_to_install(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: set[str]
) -> None:
    source = write_patient(tmp_path / "in")
    installed = Package.installed
    monkeypatch.setattr(Package, "installed", lambda self: self.module not in absent and installed(self))
    result = engine.run(source)
    with pytest.warns(RuntimeWarning, match="dicom-not-written: .*backend-missing: .*pip install 'lnfast\\[dicom\\]'"):
        folder = result.write(tmp_path / "out")
    assert names_in(folder) == REPORT


def test_nothing_but_the_objects_names_the_patient(
    engine: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_patient(tmp_path / "in")
    (outcome,) = engine.run_many([tmp_path / "in"], out=tmp_path / "out")
    assert isinstance(outcome, Result)
    for path in (tmp_path / "out").rglob("*"):
        assert "SECRET" not in path.name
        if path.is_file():
            inside = b"SECRET" in path.read_bytes()
            assert inside == (path.name in OBJECTS), path.name
    printed = capfd.readouterr()
    assert "SECRET" not in printed.out + printed.err + caplog.text
    assert pydicom.dcmread(tmp_path / "out" / outcome.study.name / "sr.dcm").PatientName == SECRET


def test_a_choice_goes_to_the_reader(engine: Engine, data: Path) -> None:
    computed = data / "prostatex-0000" / "8_calc_b1000"
    with pytest.raises(StudyError) as caught:
        engine.run(computed)
    assert caught.value.code == "computed-b"
    result = engine.run(computed, choice=DicomChoice(synthetic=True))
    assert "computed-b" in [notice.code for notice in result.warnings]
    assert result.report.study.dicom is not None and result.report.study.dicom.computed_b


# -------------------------------------------------------------------------------------------------- command line


def test_the_command_runs_folders_and_names_studies_without_the_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_patient(tmp_path / "patient")
    options = ["--backend", "openvino", "--precision", "fp32", "--no-html"]
    assert command("run", tmp_path / "patient", "-o", tmp_path / "out", *options) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert names_in(folder) == (REPORT | OBJECTS) - {"report.html"}
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{folder.name}: N") and "SECRET" not in printed.out + printed.err
    assert command("run", tmp_path / "patient", "-o", tmp_path / "plain", "--no-dicom", *options) == 0
    assert names_in(tmp_path / "plain" / folder.name) == REPORT - {"report.html"}


def test_the_command_takes_a_choice(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed = data / "prostatex-0000" / "8_calc_b1000"
    assert command("run", computed, "-o", tmp_path / "out", "--no-html", "--no-dicom") == 3
    assert "computed-b: " in capsys.readouterr().err
    assert command("run", computed, "-o", tmp_path / "out", "--no-html", "--no-dicom", "--synthetic") == 0
    assert "computed-b: " in capsys.readouterr().err


def test_list_says_what_becomes_of_each_volume(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = data / "prostatex-0000"
    assert command("run", study, "--list", "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    verdicts = {(volume["series_number"], volume["b_value"]): volume["verdict"] for volume in listing["volumes"]}
    assert verdicts == {
        (4, None): "no-b-value",
        (6, 50.0): "no-high-b",
        (6, 400.0): "no-high-b",
        (6, 800.0): "taken",
        (7, 800.0): "adc-map",
        (8, 1000.0): "computed-b",
    }
    assert listing["error"] is None
    assert command("run", study, data / "ge-classic-tensor", "--list") == 3
    printed = capsys.readouterr().out
    assert "series 6, b = 800, trace, 19 images: taken" in printed and "nothing is taken: no-trace" in printed


def test_two_series_of_one_b_value_are_listed_as_ambiguous(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (3, 9):
        write_patient(tmp_path / str(number), number)
    assert command("run", tmp_path, "--list", "--json") == 3
    listing = json.loads(capsys.readouterr().out)
    assert [volume["verdict"] for volume in listing["volumes"]] == ["ambiguous", "ambiguous"]
    assert command("run", tmp_path, "--list", "--json", "--series", "9") == 0
    verdicts = [volume["verdict"] for volume in json.loads(capsys.readouterr().out)["volumes"]]
    assert verdicts == ["passed-over", "taken"]
    rename = lambda dataset: setattr(dataset, "SeriesDescription", "RESOLVE trace")  # noqa: E731
    copy_changed(tmp_path / "9", tmp_path / "renamed", rename)
    shutil.rmtree(tmp_path / "9")
    assert command("run", tmp_path, "--list", "--json", "--prefer", "nothing", "--prefer", "resolve*") == 0
    verdicts = [volume["verdict"] for volume in json.loads(capsys.readouterr().out)["volumes"]]
    assert verdicts == ["passed-over", "taken"]


def test_without_a_list_an_output_folder_is_needed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("run", data / TRACE) == 2
    assert "Missing option '-o' / '--out'" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "high"])
def test_a_b_value_that_is_none_is_a_wrong_call(data: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert command("run", data / TRACE, "--list", f"--b-value={value}") == 2
    assert "--b-value" in capsys.readouterr().err
