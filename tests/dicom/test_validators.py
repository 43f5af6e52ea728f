"""Independent validators and readers accept what is written: dciodvfy, DCMTK, PixelMed, dcmqi, dcmjs, Orthanc."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from dicom_files import CARD
from dicom_results import labels_of, report_of_study
from validators import CHECKS, validate, validators

from lnfast.report.dicom import SEGMENTATION, STRUCTURED_REPORT, render_dicom
from lnfast.study.bvalues import BRule
from lnfast.study.dicom import read_dicom
from lnfast.study.label_writer import label_map_bytes

HIGHER = BRule((2000.0, 2500.0), 1500.0, 2600.0)
TRACE = "prostatex-0000/6_tracew_b50_400_800"


@pytest.fixture(scope="session")
def script(shared_data: Path) -> Path:
    return validators(shared_data)


def write(folder: Path, source: Path, nodes: int, rule: BRule = CARD, *, all_frames: bool = False) -> dict[str, bytes]:
    study = read_dicom(source, rule)
    labels = labels_of(study, nodes)
    files = render_dicom(study, labels, report_of_study(study, labels), all_frames=all_frames)
    (folder / "results").mkdir()
    (folder / "labels.nii.gz").write_bytes(label_map_bytes(labels))
    for name, content in files.items():
        (folder / "results" / name).write_bytes(content)
    return files


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("prostatex-0000/6_tracew_b50_400_800", 3),
        ("prostatex-0000/6_tracew_b50_400_800", 1),
        ("prostatex-0000/6_tracew_b50_400_800", 0),
        ("philips-enhanced-dti", 2),
    ],
    ids=["nodes", "one node", "no nodes", "enhanced"],
)
def test_every_validator_accepts_the_objects(script: Path, data: Path, tmp_path: Path, name: str, nodes: int) -> None:
    write(tmp_path, data / name, nodes)
    checked = validate(script, tmp_path / "results", data / name, tmp_path / "labels.nii.gz")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASS") == len(CHECKS.split())


def test_every_validator_accepts_a_report_that_replaces_another(script: Path, data: Path, tmp_path: Path) -> None:
    source = data / TRACE
    files = write(tmp_path, source, 2)
    earlier = tmp_path / "results" / "sr-earlier.dcm"  # all of the patient's instances are looked at together
    earlier.write_bytes(files[STRUCTURED_REPORT])
    (tmp_path / "results" / "seg-earlier.dcm").write_bytes(files[SEGMENTATION])
    study = read_dicom(source, CARD)
    labels = labels_of(study, 2)
    later = render_dicom(study, labels, report_of_study(study, labels), predecessor=earlier)
    for file, content in later.items():
        (tmp_path / "results" / file).write_bytes(content)
    pairs = ("highdicom_read", "labels")  # they take one segmentation with its report
    alone = [check for check in CHECKS.split() if check not in pairs]
    labels_file = tmp_path / "labels.nii.gz"
    checked = validate(script, tmp_path / "results", source, labels_file, " ".join(alone))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASS") == len(alone)
    for path in (tmp_path / "results").glob("*-earlier.dcm"):
        path.unlink()
    checked = validate(script, tmp_path / "results", source, labels_file, " ".join(pairs))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("name", "rule", "all_frames"),
    [
        ("prostatex-0000/6_tracew_b50_400_800", CARD, True),
        ("philips-enhanced-dti", CARD, True),
        ("siemens-xa30-enhanced/12_tracew", HIGHER, False),
        ("philips-classic-iso-dir", HIGHER, False),
    ],
    ids=["all frames", "all frames, enhanced", "XA", "Philips"],
)
def test_quick_validators_accept_other_vendors_and_all_frames(
    script: Path, data: Path, tmp_path: Path, name: str, rule: BRule, all_frames: bool
) -> None:
    write(tmp_path, data / name, 3, rule, all_frames=all_frames)
    checks = "dciodvfy dcentvfy dsrdump pydicom_strict references dcmqi_seg dcmqi_sr dcmjs labels"
    checked = validate(script, tmp_path / "results", data / name, tmp_path / "labels.nii.gz", checks)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_segmentation_that_is_shifted_by_a_slice_is_found(script: Path, data: Path, tmp_path: Path) -> None:
    source = data / TRACE
    files = write(tmp_path, source, 2)
    shifted = pydicom.dcmread(io.BytesIO(files[SEGMENTATION]))
    planes = [groups.PlanePositionSequence[0] for groups in shifted.PerFrameFunctionalGroupsSequence]
    study = read_dicom(source, CARD)
    step = (study.volume.grid.affine[:3, 2] * (-1, -1, 1)).tolist()
    for plane in planes:
        moved = [float(value) + by for value, by in zip(plane.ImagePositionPatient, step, strict=True)]
        plane.ImagePositionPatient = [f"{value:.8g}" for value in moved]
    shifted.save_as(tmp_path / "results" / SEGMENTATION)
    checked = validate(script, tmp_path / "results", source, tmp_path / "labels.nii.gz", "labels")
    assert checked.returncode == 1 and "FAIL labels" in checked.stdout
