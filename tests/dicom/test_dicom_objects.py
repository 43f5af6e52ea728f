"""SEG and SR: what they say is what the report says, of the voxels and images that it says it of."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import CARD, SECRET, write_series
from dicom_results import labels_of, report_of_study
from scipy.spatial.distance import cdist

from lnfast.errors import StudyError
from lnfast.geometry import Volume
from lnfast.measure import Rules
from lnfast.report import DISCLAIMER, Report
from lnfast.report.dicom import SEGMENTATION, STRUCTURED_REPORT, render_dicom
from lnfast.study import Study
from lnfast.study.dicom import read_dicom

TRACE, ENHANCED = "prostatex-0000/6_tracew_b50_400_800", "philips-enhanced-dti"
# The enhanced file is of a phantom of 10 slices, in which the network is not run: it is only written about.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="session", params=[TRACE, ENHANCED])
def result(request: pytest.FixtureRequest, data: Path) -> tuple[Study, Volume, Report, dict[str, bytes]]:
    study = read_dicom(data / request.param, CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels)
    return study, labels, report, render_dicom(study, labels, report)


def dataset(files: dict[str, bytes], name: str) -> Any:
    return pydicom.dcmread(io.BytesIO(files[name]))


def items(node: Any) -> Iterator[Any]:
    """Every content item of a structured report."""
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def concept(item: Any) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def groups_of(document: Any) -> list[Any]:
    return [item for item in items(document) if item.ValueType == "CONTAINER" and concept(item) == "125007"]


def numbers_of(group: Any) -> list[tuple[str, str, float]]:
    """Concept, method and value of the numbers in a group."""
    numbers = []
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            coded = [child for child in items(item) if concept(child) == "370129005"]
            method = str(coded[0].ConceptCodeSequence[0].CodeValue) if coded else ""
            numbers.append((concept(item), method, float(item.MeasuredValueSequence[0].NumericValue)))
    return numbers


def codes_of(group: Any) -> dict[str, str]:
    return {
        concept(item): str(item.ConceptCodeSequence[0].CodeValue)
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }


def test_the_structured_report_says_the_numbers_of_the_report(result: tuple[Any, ...]) -> None:
    _, _, report, files = result
    *nodes, examination = groups_of(dataset(files, STRUCTURED_REPORT))
    assert len(nodes) == len(report.nodes) == 3
    for node, group in zip(report.nodes, nodes, strict=True):
        assert numbers_of(group) == [
            ("118565006", "126030", round(node.volume_mm3, 1)),
            ("103340004", "LNF001", round(node.box_mm[0], 2)),
            ("103340004", "LNF002", round(node.axial_short_mm, 2)),
            ("131189007", "LNF001", round(node.box_mm[1], 2)),
            ("103339001", "LNF001", round(node.box_mm[2], 2)),
        ]
        codes = codes_of(group)
        assert codes["LNF010"] == ("415684004" if node.suspicious else "17621005")
        assert codes["LNF011"] == ("373066001" if node.slice_limited else "373067005")
    assert numbers_of(examination) == [
        ("246206008", "", len(report.suspicious)),
        ("113240", "", report.study.b_value),
    ]
    stages = {"N0": "1229967007", "N1": "1229973008"}
    codes = codes_of(examination)
    assert codes["399534004"] == stages[report.n_stage]
    assert codes["LNF021"] == stages[report.n_stage_by_rule["box"]]  # type: ignore[index]
    assert codes["LNF022"] == stages[report.n_stage_by_rule["axial"]]  # type: ignore[index]


def test_the_chosen_rule_comes_first(data: Path) -> None:
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels, Rules(short_axis="axial"))
    *nodes, _ = groups_of(dataset(render_dicom(study, labels, report), STRUCTURED_REPORT))
    for node, group in zip(report.nodes, nodes, strict=True):
        first = next(row for row in numbers_of(group) if row[0] == "103340004")
        assert first == ("103340004", "LNF002", round(node.short_axis_mm, 2))


def test_model_engine_and_warnings_are_in_the_report(result: tuple[Any, ...]) -> None:
    _, _, report, files = result
    document = dataset(files, STRUCTURED_REPORT)
    texts = [str(item.TextValue) for item in items(document) if item.ValueType == "TEXT"]
    for fact in (
        f"model_sha256={report.model.sha256}",
        f"engine_sha256={report.engine.engine_sha256}",
        "short_axis=box",
    ):
        assert fact in texts
    assert DISCLAIMER in texts
    for notice in report.warnings:
        assert f"{notice.code}: {notice.message}"[:1024] in texts
    assert (document.CompletionFlag, document.VerificationFlag, document.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert "research use only" in document.SeriesDescription


def test_each_segment_has_the_voxels_of_its_node(result: tuple[Any, ...]) -> None:
    """In millimetres of the patient, from the object's own geometry."""
    study, labels, report, files = result
    seg = dataset(files, SEGMENTATION)
    assert [int(segment.SegmentNumber) for segment in seg.SegmentSequence] == [node.id for node in report.nodes]
    shared = seg.SharedFunctionalGroupsSequence[0]
    row_column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    centres: dict[int, list[np.ndarray]] = {}
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        y, x = np.nonzero(frame)
        centres.setdefault(number, []).append(
            origin + np.outer(x * columns_mm, row_column[0]) + np.outer(y * rows_mm, row_column[1])
        )
    for node in report.nodes:
        z, y, x = np.nonzero(labels.array == node.id)
        wanted = (study.volume.grid.affine @ np.stack([x, y, z, np.ones_like(x)]))[:3].T * (-1, -1, 1)
        written = np.concatenate(centres[node.id])
        assert len(written) == node.voxels
        assert cdist(written, wanted).min(axis=1).max() < 0.01 > cdist(wanted, written).min(axis=1).max()


def test_frames_reference_the_slices_that_were_used_and_no_others(result: tuple[Any, ...]) -> None:
    study, labels, report, files = result
    seg = dataset(files, SEGMENTATION)
    places = {}
    for z, (path, index) in enumerate(study.provenance.dicom.frames):
        source = pydicom.dcmread(path, stop_before_pixels=True)
        places[(source.SOPInstanceUID, index + 1 if "NumberOfFrames" in source else None)] = z
    used: dict[int, set[int]] = {}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        z = places[(image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber"))]
        used.setdefault(number, set()).add(z)
    wanted = {node.id: set(np.flatnonzero((labels.array == node.id).any(axis=(1, 2)))) for node in report.nodes}
    assert used == wanted
    listed = {
        item.ReferencedSOPInstanceUID
        for series in seg.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert listed == {uid for uid, _ in places}


@pytest.mark.parametrize("all_frames", [False, True])
def test_each_frame_names_its_segment_where_there_is_only_one(data: Path, all_frames: bool) -> None:
    """Said once for all frames, as the standard allows as well, dcmjs and the viewers on it cannot read it."""
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study, 1)
    built = dataset(render_dicom(study, labels, report_of_study(study, labels), all_frames=all_frames), SEGMENTATION)
    frames = built.PerFrameFunctionalGroupsSequence
    assert [frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in frames] == [1] * len(frames)
    assert "SegmentIdentificationSequence" not in built.SharedFunctionalGroupsSequence[0]


def test_zero_nodes_are_a_report_and_no_segmentation(data: Path) -> None:
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study, 0)
    report = report_of_study(study, labels)
    files = render_dicom(study, labels, report)
    assert set(files) == {STRUCTURED_REPORT}
    (examination,) = groups_of(dataset(files, STRUCTURED_REPORT))
    assert codes_of(examination)["399534004"] == "1229967007"
    assert numbers_of(examination)[0] == ("246206008", "", 0)


def test_the_same_result_has_the_same_bytes_and_another_has_other_uids(data: Path, tmp_path: Path) -> None:
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels)
    files = render_dicom(study, labels, report)
    assert render_dicom(study, labels, report) == files

    shutil.copytree(data / TRACE, tmp_path / "copy")
    moved = read_dicom(tmp_path / "copy", CARD)
    assert render_dicom(moved, labels, report) == files

    def uids(labels: Volume, rules: Rules | None = None) -> set[str]:
        other = render_dicom(study, labels, report_of_study(study, labels, rules))
        return {str(dataset(other, name).SOPInstanceUID) for name in other}

    mine = {str(dataset(files, name).SOPInstanceUID) for name in files}
    assert uids(labels) == mine
    changed = labels.array.copy()
    z, y, x = np.argwhere(changed == 1)[0]
    changed[z, y, x] = 0
    assert not uids(Volume(changed, labels.grid)) & mine
    assert not uids(labels, Rules(suspicious_mm=9.0)) & mine


def test_a_report_that_replaces_another_names_it_and_has_other_uids(data: Path, tmp_path: Path) -> None:
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels)
    first = render_dicom(study, labels, report)
    (tmp_path / "sr.dcm").write_bytes(first[STRUCTURED_REPORT])
    second = render_dicom(study, labels, report, predecessor=tmp_path / "sr.dcm")
    old, new = dataset(first, STRUCTURED_REPORT), dataset(second, STRUCTURED_REPORT)
    assert "PredecessorDocumentsSequence" not in old
    (item,) = new.PredecessorDocumentsSequence
    (series,) = item.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert (item.StudyInstanceUID, series.SeriesInstanceUID) == (old.StudyInstanceUID, old.SeriesInstanceUID)
    assert (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID) == (old.SOPClassUID, old.SOPInstanceUID)
    assert {old.SOPInstanceUID, old.SeriesInstanceUID}.isdisjoint({new.SOPInstanceUID, new.SeriesInstanceUID})
    assert dataset(first, SEGMENTATION).SOPInstanceUID != dataset(second, SEGMENTATION).SOPInstanceUID
    (tmp_path / "next.dcm").write_bytes(second[STRUCTURED_REPORT])
    third = dataset(render_dicom(study, labels, report, predecessor=tmp_path / "next.dcm"), STRUCTURED_REPORT)
    assert third.SOPInstanceUID not in (old.SOPInstanceUID, new.SOPInstanceUID)


def test_times_follow_source_date_epoch(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    document = dataset(render_dicom(study, labels, report_of_study(study, labels)), STRUCTURED_REPORT)
    assert (document.ContentDate, document.ContentTime) == ("20231114", "221320")


def test_all_frames_are_written_where_a_viewer_needs_them(data: Path) -> None:
    study = read_dicom(data / TRACE, CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels)
    seg = dataset(render_dicom(study, labels, report, all_frames=True), SEGMENTATION)
    assert int(seg.NumberOfFrames) == 3 * study.volume.array.shape[0]


def test_patient_and_study_are_those_of_the_images(tmp_path: Path) -> None:
    def with_institution(dataset: Any, z: int) -> None:
        dataset.InstitutionName, dataset.AccessionNumber, dataset.StudyDate = "SECRET hospital", "SECRET7", "20200102"
        dataset.PatientBirthDate, dataset.PatientSex, dataset.StudyTime, dataset.StudyID = "19500101", "M", "1200", "S"

    voxels = np.random.default_rng(0).integers(0, 900, (12, 64, 64), dtype=np.uint16)
    voxels[:, 16:48, 16:48] += 900
    affine = np.array([[-4.0, 0, 0, 120], [0, -4.0, 0, 120], [0, 0, 5, -40], [0, 0, 0, 1]])
    write_series(tmp_path, voxels, affine, change=with_institution)
    study = read_dicom(tmp_path, CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels)
    for content in render_dicom(study, labels, report).values():
        written = pydicom.dcmread(io.BytesIO(content))
        assert (written.PatientName, written.PatientID, written.AccessionNumber) == (SECRET, "SECRETID", "SECRET7")
        assert (written.StudyDate, written.PatientBirthDate, written.StudyID) == ("20200102", "19500101", "S")
        assert "InstitutionName" not in written
        assert content[:128] == b"\0" * 128 and content[128:132] == b"DICM"
    assert "SECRET" not in report.json() + report.text()


def test_images_that_changed_are_refused(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / TRACE, tmp_path / "copy")
    study = read_dicom(tmp_path / "copy", CARD)
    labels = labels_of(study)
    report = report_of_study(study, labels)
    assert study.provenance.dicom is not None
    path = Path(study.provenance.dicom.frames[0][0])
    path.unlink()
    with pytest.raises(StudyError) as caught:
        render_dicom(study, labels, report)
    assert caught.value.code == "source-changed"
    shutil.copy(study.provenance.dicom.frames[5][0], path)
    with pytest.raises(StudyError) as caught:
        render_dicom(study, labels, report)
    assert caught.value.code == "source-changed"


def write_body(folder: Path, change: Any) -> Study:
    voxels = np.random.default_rng(0).integers(0, 900, (12, 64, 64), dtype=np.uint16)
    voxels[:, 16:48, 16:48] += 900
    affine = np.array([[-4.0, 0, 0, 120], [0, -4.0, 0, 120], [0, 0, 5, -40], [0, 0, 0, 1]])
    write_series(folder, voxels, affine, change=change)
    return read_dicom(folder, CARD)


def _without(*names: str) -> Any:
    def change(dataset: Any, z: int) -> None:
        for name in names:
            delattr(dataset, name)

    return change


def _with(**values: Any) -> Any:
    def change(dataset: Any, z: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("FrameOfReferenceUID"),
        _without("SliceThickness"),
        _without("PatientName", "PatientID"),
        _without("InstanceNumber", "SeriesNumber"),
        _with(PatientBirthDate="19500000", StudyTime="none"),
        _with(SliceThickness=None, SpecificCharacterSet=None),
    ],
)
def test_what_anonymisers_leave_out_or_spoil_holds_up_no_object(tmp_path: Path, change: Any) -> None:
    study = write_body(tmp_path, change)
    labels = labels_of(study, 2)
    assert set(render_dicom(study, labels, report_of_study(study, labels))) == {SEGMENTATION, STRUCTURED_REPORT}


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
)
def test_names_of_every_script_stay(tmp_path: Path, character_set: Any, name: str) -> None:
    study = write_body(tmp_path, _with(SpecificCharacterSet=character_set, PatientName=name))
    labels = labels_of(study, 2)
    for content in render_dicom(study, labels, report_of_study(study, labels)).values():
        assert str(pydicom.dcmread(io.BytesIO(content)).PatientName) == name


def test_images_without_uids_have_no_objects(tmp_path: Path) -> None:
    study = write_body(tmp_path, _without("SOPInstanceUID"))
    labels = labels_of(study, 2)
    with pytest.raises(StudyError) as caught:
        render_dicom(study, labels, report_of_study(study, labels))
    assert caught.value.code == "damaged"


def test_another_patients_images_in_the_same_place_are_refused(tmp_path: Path) -> None:
    """A folder that is used again between reading and writing: same names, same geometry."""
    study = write_body(tmp_path, None)
    labels = labels_of(study, 2)
    report = report_of_study(study, labels)
    write_body(tmp_path, _with(StudyInstanceUID="1.2.3", PatientName="OTHER"))
    with pytest.raises(StudyError) as caught:
        render_dicom(study, labels, report)
    assert caught.value.code == "source-changed"
