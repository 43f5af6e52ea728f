"""DICOM Segmentations as predictions or truths: the scores of the same label maps, or a refusal."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from command_line import lnfast
from dicom_files import write_series
from dicom_results import labels_of, report_of_study
from evaluations import write_labels
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from segmentations import set_frames, write_segmentation

from lnfast.errors import LnfastError, StudyError, UsageError
from lnfast.evaluate.evaluation import Evaluation, evaluate
from lnfast.evaluate.inputs.find_segmentations import find_segmentations
from lnfast.evaluate.inputs.labelmap import Meaning, read_label_map
from lnfast.evaluate.inputs.pairing import label_files, pair_up
from lnfast.evaluate.inputs.placement import read_label_maps
from lnfast.evaluate.output.metrics import metrics
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.report.dicom import SEGMENTATION, render_dicom
from lnfast.study.bvalues import BRule
from lnfast.study.dicom import read_dicom, scan, segmentation
from lnfast.study.dicom.identity import study_id
from lnfast.study.label_writer import label_map_bytes

SHAPE_ZYX = (12, 40, 36)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 3.5, -50], [0, 0, 0, 1]])
GRID = Grid(SHAPE_ZYX, AFFINE)
VALIDATORS = Path.home() / ".cache/lnfast-validate/venv/bin"  # where validate.sh installs them
CARD = BRule((800.0, 1000.0), 500.0, 1500.0)
Change = Callable[[Any], None]


def boxes(*nodes: tuple[int, tuple[slice, slice, slice]]) -> Volume:
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    for number, place in nodes:
        labels[place] = number
    return Volume(labels, GRID)


# 1 and 3 touch, 7 is of one slice; the prediction misses 7, has a node of its own and is a voxel beside the truth.
TRUTH = boxes(
    (1, np.s_[3:6, 5:12, 5:11]),
    (3, np.s_[6:8, 5:12, 5:11]),
    (7, np.s_[9:10, 22:25, 20:24]),
    (8, np.s_[4:6, 30:33, 3:6]),
)
PREDICTED = boxes((1, np.s_[3:6, 6:12, 5:12]), (2, np.s_[6:8, 6:12, 5:11]), (5, np.s_[1:2, 30:34, 30:33]))


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The series on which everything here is drawn."""
    return write_series(tmp_path_factory.mktemp("series"), np.zeros(SHAPE_ZYX, np.uint16), AFFINE)


@pytest.fixture(scope="session")
def name(sources: list[Path]) -> str:
    """What `lnfast run` calls its study."""
    dataset = pydicom.dcmread(sources[0])
    return study_id(dataset.StudyInstanceUID, dataset.SeriesInstanceUID)


@pytest.fixture
def folders(tmp_path: Path, name: str) -> tuple[Path, Path]:
    """Prediction and truth as NIfTI; tests put Segmentations in their place."""
    write_labels(tmp_path / "pred", name, PREDICTED.array, AFFINE)
    write_labels(tmp_path / "truth", name, TRUTH.array, AFFINE)
    return tmp_path / "pred", tmp_path / "truth"


def evaluated(predictions: Path, truths: Path, meaning: Meaning = "auto") -> Evaluation:
    return evaluate(pair_up(predictions, truths), Rules(), read_as=meaning)


def scores(evaluation: Evaluation) -> tuple[Any, ...]:
    """Everything that is measured, to the last bit."""
    (study,) = evaluation.studies
    shared = study.shared.tolist()
    return study.truth, study.predicted, study.truth_ids, study.predicted_ids, shared, metrics(evaluation)


@pytest.mark.parametrize("code", ["LPS", "RAI", "ASR", "SLA"])
@pytest.mark.parametrize("side", ["prediction", "truth"])
def test_a_segmentation_beside_a_label_map_has_the_scores_of_the_label_map(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path], code: str, side: str
) -> None:
    labels = PREDICTED if side == "prediction" else TRUTH
    folder = write_segmentation(tmp_path / "seg" / "any name", sources, labels.oriented(code), seed=4).parent
    pair = (folder, folders[1]) if side == "prediction" else (folders[0], folder)
    assert scores(evaluated(*pair)) == scores(evaluated(*folders))


@pytest.mark.parametrize(("predicted_code", "truth_code"), [("LPS", "LPS"), ("RAI", "LPS"), ("ASR", "LPS")])
def test_two_sparse_segmentations_have_the_scores_of_their_label_maps(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path], predicted_code: str, truth_code: str
) -> None:
    """The prediction has slices that the truth has not, on both of its ends and between."""
    write_segmentation(tmp_path / "p" / "x.dcm", sources, PREDICTED.oriented(predicted_code), seed=1)
    write_segmentation(tmp_path / "t" / "y.dcm", sources, TRUTH.oriented(truth_code), seed=2)
    evaluation, expected = evaluated(tmp_path / "p", tmp_path / "t"), evaluated(*folders)
    (study,), (wanted,) = evaluation.studies, expected.studies
    assert study.shared.tolist() == wanted.shared.tolist()
    assert (
        (study.truth_ids, study.predicted_ids) == (wanted.truth_ids, wanted.predicted_ids) == ((1, 3, 7, 8), (1, 2, 5))
    )
    assert metrics(evaluation) == metrics(expected)


@pytest.mark.parametrize("spaced", [True, False])
def test_what_lnfast_writes_is_read_where_it_lies(tmp_path: Path, shared_data: Path, spaced: bool) -> None:
    """A real series, whose headers round their positions; also without a stated distance between slices."""
    folder = shared_data.parent / "dicom" / "data" / "prostatex-0000/6_tracew_b50_400_800"
    study = read_dicom(folder, CARD)
    labels = labels_of(study)
    (tmp_path / "labels.nii.gz").write_bytes(label_map_bytes(labels))
    seg = tmp_path / "seg.dcm"
    seg.write_bytes(render_dicom(study, labels, report_of_study(study, labels))[SEGMENTATION])
    if not spaced:
        dataset = pydicom.dcmread(seg)
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
        dataset.save_as(seg)
    for pair in ((seg, tmp_path / "labels.nii.gz"), (seg, seg)):
        predicted, truth = read_label_maps(*pair)
        assert np.array_equal(predicted.labels.array, truth.labels.array)
        assert predicted.labels.grid == truth.labels.grid
        step = study.volume.grid.spacing_zyx_mm
        assert predicted.labels.grid.spacing_zyx_mm == pytest.approx(step, abs=1e-4)
        assert predicted.ids == (1, 2, 3)
    assert label_files(seg).files.keys() == {study.name}


@pytest.mark.parametrize("skip_empty", ["0", "1"])
def test_what_dcmqi_writes_is_read_where_it_lies(
    tmp_path: Path, sources: list[Path], name: str, skip_empty: str
) -> None:
    """dcmqi writes the Segmentations of 3D Slicer and MITK."""
    program = shutil.which("itkimage2segimage") or VALIDATORS / "itkimage2segimage"
    if not Path(program).is_file():
        pytest.skip("dcmqi is not installed here")
    labels, seg, content = tmp_path / "labels.nii.gz", tmp_path / "seg", tmp_path / "content.json"
    labels.write_bytes(label_map_bytes(TRUTH))
    seg.mkdir()
    kinds = {
        f"SegmentedProperty{kind}CodeSequence": {
            "CodeValue": value,
            "CodingSchemeDesignator": "SCT",
            "CodeMeaning": kind,
        }
        for kind, value in (("Category", "123037004"), ("Type", "59441001"))
    }
    numbers = [int(number) for number in np.unique(TRUTH.array)[1:]]
    segments = [{"labelID": number, "SegmentAlgorithmType": "MANUAL", **kinds} for number in numbers]
    content.write_text(json.dumps({"SeriesNumber": "300", "InstanceNumber": "1", "segmentAttributes": [segments]}))
    arguments = {
        "inputImageList": labels,
        "inputDICOMDirectory": sources[0].parent,
        "inputMetadata": content,
        "outputDICOM": seg / "IM0001",
        "skip": skip_empty,
    }
    command = [str(part) for option, value in arguments.items() for part in (f"--{option}", value)]
    subprocess.run([str(program), *command], check=True, capture_output=True, timeout=60)
    assert label_files(seg).files.keys() == {name}
    own = write_segmentation(tmp_path / "own.dcm", sources, TRUTH)
    for other in (labels, own):
        predicted, truth = read_label_maps(seg / "IM0001", other)
        assert np.array_equal(predicted.labels.array > 0, truth.labels.array > 0)
        assert len(predicted.ids) == len(truth.ids) == len(numbers)


def test_runs_against_masks_of_a_viewer_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The series is run; its own seg.dcm under another name, and one that a viewer draws, are the truths."""
    from lnfast.phantom import make_phantom

    phantom = make_phantom(7)
    voxels = np.clip(phantom.volume.array, 0, None).astype(np.uint16)
    series = write_series(tmp_path / "series", voxels, phantom.volume.grid.affine)
    assert lnfast("run", tmp_path / "series", "-o", tmp_path / "runs", "--no-html") == 0
    (run,) = (tmp_path / "runs").iterdir()
    (tmp_path / "own").mkdir()
    shutil.copy(run / "seg.dcm", tmp_path / "own" / "1.2.3")
    assert lnfast("evaluate", tmp_path / "runs", tmp_path / "own", "-o", tmp_path / "same") == 0
    same = json.loads((tmp_path / "same" / "metrics.json").read_text())
    assert same["predictions_by"]["studies"] == 1
    rows = (tmp_path / "same" / "cases.csv").read_text().splitlines()
    assert len(rows) == 2 and run.name in rows[1]

    nifti, drawn = tmp_path / "nifti", tmp_path / "drawn"
    grid = read_label_map(run / "labels.nii.gz").labels.grid  # as the headers of the series round it
    write_labels(nifti, run.name, phantom.labels, grid.affine)
    write_segmentation(drawn / "SECRET^NAME" / "a", series, Volume(phantom.labels, grid).oriented("RAS"), seed=5)
    shutil.copytree(tmp_path / "series", drawn / "SECRET^NAME" / "images")
    for truths in (nifti, drawn):
        assert lnfast("evaluate", tmp_path / "runs", truths, "-o", tmp_path / f"out-{truths.name}") == 0
    first, second = (
        json.loads((tmp_path / f"out-{each.name}" / "metrics.json").read_text()) for each in (nifti, drawn)
    )
    warnings = [[warning["code"] for warning in content.pop("warnings")] for content in (first, second)]
    assert first == second and warnings == [["no-groups"], ["passed-over", "no-groups"]]
    passed_over = f"passed-over: in TRUTHS, no label maps: {len(series)} DICOM files that are no Segmentations\n"
    assert passed_over in capsys.readouterr().err
    written = b"".join(path.read_bytes() for path in (tmp_path / "out-drawn").rglob("*") if path.is_file())
    assert b"SECRET" not in written


def test_one_file_stands_for_a_folder_and_several_files_of_one_study_are_refused(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path], name: str
) -> None:
    seg = write_segmentation(tmp_path / "seg" / "x.dcm", sources, TRUTH)
    assert scores(evaluated(folders[0], seg)) == scores(evaluated(*folders))
    assert label_files(tmp_path / "seg").files.keys() == {name}
    shutil.copy(seg, seg.with_name("y.dcm"))
    with pytest.raises(UsageError) as refused:
        label_files(tmp_path / "seg")
    assert refused.value.code == "ambiguous-name"
    with pytest.raises(UsageError) as refused:
        label_files(sources[0])
    assert refused.value.code == "no-label-maps"


def test_hidden_files_and_other_dicom_are_passed_over(tmp_path: Path, sources: list[Path], name: str) -> None:
    write_segmentation(tmp_path / "a" / "b" / "x.dcm", sources, TRUTH)
    (tmp_path / "a" / "._x.dcm").write_bytes(b"resource fork")
    shutil.copy(sources[0], tmp_path / "SECRET.dcm")
    shutil.copy(sources[1], tmp_path / "a")
    listing = label_files(tmp_path)
    assert listing.files.keys() == {name} and listing.ignored == ("2 DICOM files that are no Segmentations",)


def test_a_single_segment_is_what_a_label_map_with_a_single_value_is(tmp_path: Path, sources: list[Path]) -> None:
    labels = boxes((4, np.s_[3:6, 5:8, 5:8]), (4, np.s_[3:6, 20:23, 5:8]))
    seg = write_segmentation(tmp_path / "x.dcm", sources, labels)
    meanings: list[tuple[Meaning, tuple[int, ...]]] = [("auto", (1, 2)), ("mask", (1, 2)), ("ids", (4,))]
    for meaning, ids in meanings:
        assert [side.ids for side in read_label_maps(seg, seg, meaning)] == [ids, ids]
    seg = write_segmentation(tmp_path / "y.dcm", sources, TRUTH, change=keep_segment(7))
    assert read_label_maps(seg, seg)[0].ids == (7,)  # of several that are listed, the one with voxels is still a node
    seg = write_segmentation(tmp_path / "z.dcm", sources, TRUTH)
    assert [side.read_as for side in read_label_maps(seg, seg, "mask")] == ["components"] * 2


def test_a_segmentation_without_voxels_is_a_study_without_nodes(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path]
) -> None:
    write_segmentation(tmp_path / "none" / "x.dcm", sources, boxes(), all_frames=True)
    (study,) = evaluated(folders[0], tmp_path / "none").studies
    assert (study.truth, study.truth_stage, study.truth_read_as) == ((), "N0", "empty")


def test_implicit_storage_is_read(tmp_path: Path, sources: list[Path]) -> None:
    seg = write_segmentation(tmp_path / "x.dcm", sources, TRUTH)
    dataset = pydicom.dcmread(seg)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(tmp_path / "y.dcm", implicit_vr=True, little_endian=True)
    predicted, truth = read_label_maps(tmp_path / "y.dcm", seg)
    assert np.array_equal(predicted.labels.array, truth.labels.array)


def keep_segment(number: int) -> Change:
    """Keep the frames of one segment, and list all."""

    def change(dataset: Any) -> None:
        frames = enumerate(dataset.PerFrameFunctionalGroupsSequence)
        frames_of_segment = [
            i for i, frame in frames if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        ]
        set_frames(dataset, frames_of_segment)

    return change


def fractional(dataset: Any) -> None:
    dataset.SegmentationType = "FRACTIONAL"
    dataset.BitsAllocated = dataset.BitsStored = 8


def label_map(dataset: Any) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    dataset.SegmentationType = "LABELMAP"


def second_series(dataset: Any) -> None:
    item = pydicom.Dataset()
    item.SeriesInstanceUID = generate_uid()
    dataset.ReferencedSeriesSequence.append(item)


def series_of_another_study(dataset: Any) -> None:
    series = pydicom.Dataset()
    series.SeriesInstanceUID = generate_uid()
    study = pydicom.Dataset()
    study.ReferencedSeriesSequence = Sequence([series])
    dataset.StudiesContainingOtherReferencedInstancesSequence = Sequence([study])


def no_series(dataset: Any) -> None:
    del dataset.ReferencedSeriesSequence


def no_study(dataset: Any) -> None:
    dataset.StudyInstanceUID = ""


def first_frame(dataset: Any) -> Any:
    return dataset.PerFrameFunctionalGroupsSequence[0]


def position(x: float) -> Change:
    def change(dataset: Any) -> None:
        first_frame(dataset).PlanePositionSequence[0].ImagePositionPatient = [x, 0, 0]

    return change


def no_position(dataset: Any) -> None:
    del first_frame(dataset).PlanePositionSequence


def no_orientation(dataset: Any) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def oblique(dataset: Any) -> None:
    orientation = pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 0, 1]
    first_frame(dataset).PlaneOrientationSequence = Sequence([orientation])


def sheared(dataset: Any) -> None:
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0.1, 1, 0]


def overlapping(dataset: Any) -> None:
    """The first frame becomes another segment's, above its own."""
    copied = copy.deepcopy(first_frame(dataset))
    copied.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 8
    set_frames(dataset, [0, *range(int(dataset.NumberOfFrames))])
    dataset.PerFrameFunctionalGroupsSequence[0] = copied


def unlisted(dataset: Any) -> None:
    del dataset.SegmentSequence[0]


def fewer_frames(dataset: Any) -> None:
    dataset.NumberOfFrames = int(dataset.NumberOfFrames) - 1


def cut_pixels(dataset: Any) -> None:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 4 * 2]


def fewer_rows(dataset: Any) -> None:
    dataset.Rows -= 1


REFUSED: list[tuple[Change, str]] = [
    (fractional, "unsupported-segmentation"),
    (label_map, "unsupported-segmentation"),
    (lambda dataset: setattr(dataset, "SegmentationType", "SECRET"), "unsupported-segmentation"),
    (second_series, "unclear-series"),
    (series_of_another_study, "unclear-series"),
    (no_series, "unclear-series"),
    (no_study, "unclear-series"),
    (no_position, "no-geometry"),
    (no_orientation, "no-geometry"),
    (position(2e5), "bad-geometry"),
    (sheared, "bad-geometry"),
    (oblique, "mixed-geometry"),
    (overlapping, "overlapping-segments"),
    (unlisted, "damaged"),
    (fewer_frames, "damaged"),
    (fewer_rows, "damaged"),
    (cut_pixels, "truncated"),
]


@pytest.mark.parametrize(("change", "code"), REFUSED, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_refused(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path], change: Change, code: str
) -> None:
    write_segmentation(tmp_path / "seg" / "x.dcm", sources, TRUTH, change=change)
    with pytest.raises(StudyError) as refused:
        evaluated(folders[0], tmp_path / "seg")
    assert refused.value.code == code
    assert "x.dcm" in refused.value.message and "SECRET" not in refused.value.message


def shifted(millimetres: float, axis: int = 0) -> Change:
    def change(dataset: Any) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0]
            values = [float(value) for value in place.ImagePositionPatient]
            values[axis] += millimetres
            place.ImagePositionPatient = values

    return change


def spaced(millimetres: float) -> Change:
    def change(dataset: Any) -> None:
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = millimetres

    return change


def pixels_of(millimetres: float) -> Change:
    def change(dataset: Any) -> None:
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [millimetres, millimetres]

    return change


def other_frame_of_reference(dataset: Any) -> None:
    dataset.FrameOfReferenceUID = generate_uid()


MISPLACED = [shifted(0.02), shifted(0.02, 2), spaced(7.0), pixels_of(2.001), pixels_of(4.0)]
# Between two Segmentations a shift by whole voxels is a difference between masks and no other grid.
CASES = [(side, change) for side in ("label map", "segmentation") for change in MISPLACED]


@pytest.mark.parametrize(("against", "change"), [*CASES, ("label map", shifted(40.0))])
def test_another_grid_is_refused(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path], against: str, change: Change
) -> None:
    if against == "segmentation":
        shutil.rmtree(folders[0])
        write_segmentation(folders[0] / "p.dcm", sources, PREDICTED)
    write_segmentation(tmp_path / "seg" / "x.dcm", sources, TRUTH, change=change)
    with pytest.raises(UsageError) as refused:
        evaluated(folders[0], tmp_path / "seg")
    assert refused.value.code == "grid-mismatch" and "SECRET" not in refused.value.message


def test_a_place_within_a_hundredth_of_a_millimetre_is_the_same_place(
    tmp_path: Path, sources: list[Path], folders: tuple[Path, Path]
) -> None:
    write_segmentation(tmp_path / "seg" / "x.dcm", sources, TRUTH, change=shifted(0.009))
    assert scores(evaluated(folders[0], tmp_path / "seg")) == scores(evaluated(*folders))


def test_another_frame_of_reference_is_another_place(tmp_path: Path, sources: list[Path]) -> None:
    prediction = write_segmentation(tmp_path / "p.dcm", sources, PREDICTED)
    truth = write_segmentation(tmp_path / "t.dcm", sources, TRUTH, change=other_frame_of_reference)
    with pytest.raises(UsageError) as refused:
        read_label_maps(prediction, truth)
    assert refused.value.code == "grid-mismatch"


def test_two_segmentations_that_show_no_distance_between_slices(tmp_path: Path, sources: list[Path]) -> None:
    """Every second slice would double each volume; one side that states the distance is enough."""

    def silent(dataset: Any) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices

    gaps = boxes((1, np.s_[3:4, 5:12, 5:11]), (2, np.s_[5:6, 5:12, 5:11]))
    seg = write_segmentation(tmp_path / "x.dcm", sources, gaps, change=silent)
    with pytest.raises(StudyError) as refused:
        read_label_maps(seg, seg)
    assert refused.value.code == "no-geometry"
    stated = write_segmentation(tmp_path / "y.dcm", sources, gaps)
    for pair in ((seg, stated), (stated, seg)):
        assert [side.labels.grid.shape[0] for side in read_label_maps(*pair)] == [3, 3]


def test_compressed_cut_or_nameless_files_are_refused(tmp_path: Path, sources: list[Path]) -> None:
    seg = write_segmentation(tmp_path / "seg" / "x.dcm", sources, TRUTH)
    content = seg.read_bytes()
    dataset = pydicom.dcmread(seg)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(seg)
    cases = [(seg.read_bytes(), {"unsupported-transfer-syntax"}), (b"", {"damaged"})]
    cases += [(content[:end], {"damaged", "truncated"}) for end in range(132, 400, 20)]
    for changed, codes in cases:
        seg.write_bytes(changed)
        with pytest.raises(StudyError) as refused:
            label_files(seg.parent)
        assert refused.value.code in codes
    seg.unlink()
    seg.symlink_to(tmp_path / "nothing")
    with pytest.raises(StudyError) as refused:
        label_files(seg.parent)
    assert refused.value.code == "unreadable"


def test_too_much_is_refused_before_it_is_read(
    tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seg = write_segmentation(tmp_path / "x.dcm", sources, TRUTH)

    def far_away(dataset: Any) -> None:
        shifted(3.5 * 10000, 2)(dataset)
        shifted(2.0 * 10000)(dataset)

    far = write_segmentation(tmp_path / "y.dcm", sources, TRUTH, change=far_away)
    with pytest.raises(StudyError) as refused:
        read_label_maps(seg, far)
    assert refused.value.code == "too-large"
    limits = ((segmentation, "MOST_FRAMES", 3), (segmentation, "MOST_FILE_BYTES", 1000), (scan, "MOST_FILES", 1))
    for module, limit, most in limits:
        with monkeypatch.context() as patch, pytest.raises(StudyError) as refused:
            patch.setattr(module, limit, most)
            find_segmentations(tmp_path)
            read_label_maps(seg, seg)
        assert refused.value.code == "too-large"


def test_damaged_bytes_are_read_or_refused(tmp_path: Path, sources: list[Path]) -> None:
    """No other error, and no header text, whatever is wrong with a file."""
    seg = write_segmentation(tmp_path / "x.dcm", sources, TRUTH)
    (tmp_path / "t.nii.gz").write_bytes(label_map_bytes(TRUTH))
    content = seg.read_bytes()
    rng = np.random.default_rng(0)
    for round_number in range(100):
        changed = bytearray(content)
        for place in rng.integers(132, len(content), 1 + round_number % 5):
            changed[place] = rng.integers(256)
        if round_number % 3 == 0:
            del changed[int(rng.integers(len(changed))) :]
        seg.write_bytes(changed)
        messages = []
        try:
            label_files(tmp_path)
            read_label_maps(seg, tmp_path / "t.nii.gz")
        except LnfastError as error:
            messages.append(error.message)
        assert "SECRET" not in "".join(messages)
