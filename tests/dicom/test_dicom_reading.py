"""From DICOM to a study: real series of four vendors, and what was cut from them or written for it."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_files import CARD, copy_changed, on_slice, refusal, voxels, without, write_series
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from benchmarks.peers.dicom import dcm2niix_program
from lnfast.errors import LnfastError
from lnfast.geometry import Grid, Volume
from lnfast.study import Study, read_study
from lnfast.study.bvalues import BRule
from lnfast.study.dicom import DicomChoice, read_dicom, tags
from lnfast.study.dicom.full import read_frames, read_pixels
from lnfast.study.dicom.identity import study_id
from lnfast.study.dicom.peek import EXPLICIT_LITTLE_ENDIAN, NotPlainError, peek, read_meta
from lnfast.study.dicom.scan import MOST_FILES, scan

HIGHER = BRule((2000.0, 2500.0), 1500.0, 2600.0)
SYNTHETIC = DicomChoice(synthetic=True)
TRACE = "prostatex-0000/6_tracew_b50_400_800"
COMPUTED = "prostatex-0000/8_calc_b1000"
AFFINE = np.array([[-1.5, 0, 0, 60], [0, -1.45, 0.4, 70], [0, 0.12, 5, -40], [0, 0, 0, 1.0]])
AFFINE[:3, 2] = np.cross(AFFINE[:3, 0], AFFINE[:3, 1]) / np.linalg.norm(np.cross(AFFINE[:3, 0], AFFINE[:3, 1])) * 5


def same(first: Study, second: Study) -> None:
    np.testing.assert_array_equal(first.volume.array, second.volume.array)
    np.testing.assert_array_equal(first.volume.grid.affine, second.volume.grid.affine)
    assert (first.slope, first.inter, first.b_value) == (second.slope, second.inter, second.b_value)


# ------------------------------------------------------------------------------------------------- which is taken

TAKEN = [
    (TRACE, CARD, None, 800, (19, 128, 84), 6),
    ("prostatex-0000", CARD, None, 800, (19, 128, 84), 6),
    ("prostatex-0000", CARD, SYNTHETIC, 800, (19, 128, 84), 6),
    (COMPUTED, CARD, SYNTHETIC, 1000, (19, 128, 84), 8),
    ("philips-enhanced-dti", CARD, None, 1000, (10, 80, 80), 1201),
    ("philips-enhanced-dti/DTI.dcm", CARD, None, 1000, (10, 80, 80), 1201),
    ("philips-classic-iso-dir", HIGHER, None, 2000, (10, 80, 80), 601),
    ("siemens-xa30-enhanced/12_tracew", HIGHER, None, 2500, (39, 72, 72), 12),
]


@pytest.mark.parametrize(("name", "rule", "choice", "b_value", "shape", "series"), TAKEN)
def test_takes_the_high_b_trace_image(
    data: Path, name: str, rule: BRule, choice: DicomChoice | None, b_value: float, shape: tuple[int, ...], series: int
) -> None:
    study = read_dicom(data / name, rule, choice)
    assert study.b_value == b_value and study.volume.array.shape == shape
    source = study.provenance.dicom
    assert source is not None and source.series_number == series and len(source.frames) == shape[0]
    assert study.provenance.format == "dicom" and study.provenance.sha256
    assert source.computed_b == (name == COMPUTED)
    assert [code for code, _ in study.provenance.warnings] == (["computed-b"] if name == COMPUTED else [])


def test_takes_the_isotropic_frames_of_an_enhanced_file(data: Path) -> None:
    source = read_dicom(data / "philips-enhanced-dti", CARD).provenance.dicom
    assert source is not None
    assert sorted(index for _, index in source.frames) == list(range(7, 80, 8))


REFUSED = [
    ("prostatex-0000/7_adc", CARD, None, "adc-map"),
    (COMPUTED, CARD, None, "computed-b"),
    ("prostatex-0000/t2_tra", CARD, None, "no-b-value"),
    ("prostatex-missing-slice/8_calc_b1000_gap", CARD, None, "computed-b"),
    ("prostatex-missing-slice/8_calc_b1000_gap", CARD, SYNTHETIC, "missing-slices"),
    ("philips-classic-iso-dir", CARD, None, "no-high-b"),
    ("ge-classic-tensor", CARD, None, "no-trace"),
    ("ge-prostate-adc-un", CARD, None, "adc-map"),
    ("siemens-mosaic", CARD, None, "mosaic"),
    ("siemens-xa30-enhanced/10_dwi_first3", CARD, None, "no-high-b"),
    ("siemens-xa30-enhanced/11_adc", CARD, None, "adc-map"),
    ("siemens-xa30-enhanced/12_tracew", CARD, None, "no-high-b"),
    ("siemens-xa30-enhanced/14_colfa", CARD, None, "no-mr-image"),
    (TRACE, CARD, DicomChoice(series="7"), "no-series"),
]


@pytest.mark.parametrize(("name", "rule", "choice", "code"), REFUSED)
def test_refuses_what_is_no_high_b_trace_image(
    data: Path, name: str, rule: BRule, choice: DicomChoice | None, code: str
) -> None:
    assert refusal(data / name, rule, choice).code == code


def test_b_values_of_every_vendor_are_decoded(data: Path) -> None:
    def counts(name: str) -> dict[float | None, int]:
        values = [frame.b_value for frame in scan(data / name).frames]
        return {value: values.count(value) for value in set(values)}

    assert counts("ge-classic-tensor") == {0: 2, 1000: 12}
    assert counts("ge-prostate-adc-un") == {500: 20}
    assert counts(TRACE) == {50: 19, 400: 19, 800: 19}
    assert counts("prostatex-0000/t2_tra") == {None: 3}


def _set(tag: int, vr: str, value: Any) -> Callable[[pydicom.Dataset], None]:
    def change(dataset: pydicom.Dataset) -> None:
        dataset[tag] = pydicom.DataElement(tag, vr, value)

    return change


def test_a_biased_b_value_of_ge_is_decoded(data: Path, tmp_path: Path) -> None:
    biased = copy_changed(data / "ge-classic-tensor", tmp_path / "a", _set(0x00431039, "IS", [1000001000, 8, 0, 0]))
    for path in biased.iterdir():
        dataset = pydicom.dcmread(path)
        if "DiffusionBValue" in dataset:
            del dataset.DiffusionBValue
            dataset.save_as(path)
    assert {frame.b_value for frame in scan(biased).frames} == {1000}


def test_a_removed_private_creator_does_not_lose_the_b_value(data: Path, tmp_path: Path) -> None:
    def without(dataset: pydicom.Dataset) -> None:
        del dataset[0x00190010]

    same(read_dicom(copy_changed(data / TRACE, tmp_path / "a", without), CARD), read_dicom(data / TRACE, CARD))


def test_another_creators_element_is_no_b_value(data: Path, tmp_path: Path) -> None:
    other = copy_changed(data / TRACE, tmp_path / "a", _set(0x00190010, "LO", "SOMEBODY ELSE"))
    assert refusal(other).code == "no-b-value"


def test_without_b_values_a_person_may_give_one(data: Path, tmp_path: Path) -> None:
    def without(dataset: pydicom.Dataset) -> None:
        del dataset[0x0019100C]

    folder = copy_changed(data / COMPUTED, tmp_path / "a", without)
    assert refusal(folder).code == "no-b-value"
    study = read_dicom(folder, CARD, DicomChoice(b_value=1000.0, synthetic=True))
    assert study.b_value == 1000
    assert [code for code, _ in study.provenance.warnings] == ["computed-b", "given-b-value"]


def test_an_adc_map_is_refused_whatever_is_asked_for(data: Path) -> None:
    choice = DicomChoice(series="7", b_value=800.0, synthetic=True)
    assert refusal(data / "prostatex-0000", CARD, choice).code == "adc-map"


def test_two_series_of_one_b_value_are_ambiguous(tmp_path: Path) -> None:
    for number in (3, 9):
        write_series(tmp_path / str(number), voxels(number), AFFINE, number=number)
    error = refusal(tmp_path)
    assert error.code == "ambiguous" and "3, 9" in error.message
    study = read_dicom(tmp_path, CARD, DicomChoice(series="9"))
    np.testing.assert_array_equal(study.volume.array, voxels(9))


def test_of_several_series_the_preferred_description_is_taken(tmp_path: Path) -> None:
    names = {3: "ep2d_diff SECRET trace", 9: "RESOLVE SECRET trace", 12: "zoomit trace"}
    for number, name in names.items():

        def change(dataset: pydicom.Dataset, z: int, name: str = name) -> None:
            dataset.SeriesDescription = name

        write_series(tmp_path / str(number), voxels(number), AFFINE, number=number, change=change)

    def taken(*prefer: str) -> int | None:
        source = read_dicom(tmp_path, CARD, DicomChoice(prefer=prefer)).provenance.dicom
        assert source is not None
        return source.series_number

    assert taken("*resolve*") == 9
    assert taken("nothing", "EP2D*", "*resolve*") == 3  # the first that is there
    assert taken("* trace", "*secret*", "?ESOLVE*") == 9  # each of several that fit narrows the choice
    for prefer in ((), ("nothing",), ("*secret*",), ("*trace",)):
        error = refusal(tmp_path, CARD, DicomChoice(prefer=prefer))
        assert error.code == "ambiguous" and "diff" not in error.message


def test_other_volumes_at_the_same_places_are_named(tmp_path: Path) -> None:
    """They show that the volume has all its slices."""
    write_series(tmp_path / "a", voxels(1), AFFINE, number=1, b_value=800)
    low = write_series(tmp_path / "b", voxels(2), AFFINE, number=2, b_value=50)
    fewer = write_series(tmp_path / "c", voxels(3), AFFINE, number=3, b_value=400)
    fewer[-1].unlink()
    source = read_dicom(tmp_path, CARD).provenance.dicom
    assert source is not None and source.twins == (tuple(sorted(map(str, low))),)


def test_of_two_targets_the_higher_b_value_is_taken(tmp_path: Path) -> None:
    write_series(tmp_path / "a", voxels(1), AFFINE, number=1, b_value=800)
    write_series(tmp_path / "b", voxels(2), AFFINE, number=2, b_value=1000)
    assert read_dicom(tmp_path, CARD).b_value == 1000


# ------------------------------------------------------------------------------------------------ what is not whole


def _names_of(data: Path, name: str, b_value: float) -> list[str]:
    frames = [frame for frame in scan(data / name).frames if frame.b_value == b_value]
    return [frame.path.name for frame in sorted(frames, key=lambda frame: frame.position_mm[2])]


@pytest.mark.parametrize("cut", [slice(7, 8), slice(-3, None), slice(0, 1)], ids=["one", "last three", "first"])
def test_a_stack_with_slices_missing_is_refused(data: Path, tmp_path: Path, cut: slice) -> None:
    skip = _names_of(data, TRACE, 800)[cut]
    assert refusal(copy_changed(data / TRACE, tmp_path / "a", skip=skip)).code == "missing-slices"


def _sheared(dataset: pydicom.Dataset, z: int) -> None:
    x, y, depth = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x + 0.5 * z, y, depth]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (on_slice(3, FrameOfReferenceUID="1.2.3"), "mixed-geometry"),
        (on_slice(3, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "mixed-geometry"),
        (on_slice(3, PixelSpacing=[1.5, 1.6]), "mixed-geometry"),
        (on_slice(3, BitsStored=12, HighBit=11), "mixed-geometry"),
        (_sheared, "bad-geometry"),
        (without("ImagePositionPatient"), "no-geometry"),
        (without("PixelSpacing"), "no-geometry"),
        (on_slice(3, LossyImageCompression="01"), "lossy"),
        (on_slice(3, PatientID="SECRETID2"), "mixed-patients"),
        (on_slice(3, StudyInstanceUID="1.2.3"), "mixed-studies"),
        (on_slice(3, Rows=4000), "truncated"),
        (on_slice(3, PixelData=b"\0\0"), "truncated"),
        (on_slice(3, RescaleSlope="0", RescaleIntercept="0"), "bad-scaling"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(
    tmp_path: Path, change: Callable[[pydicom.Dataset, int], None], code: str
) -> None:
    write_series(tmp_path, voxels(), AFFINE, change=change)
    assert refusal(tmp_path).code == code


def test_a_repeated_slice_is_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path, voxels(), AFFINE)
    dataset = pydicom.dcmread(paths[4])
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.save_as(tmp_path / "again.dcm")
    assert refusal(tmp_path).code == "repeated-slices"


def test_too_few_slices_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(shape=(7, 12, 9)), AFFINE)
    assert refusal(tmp_path).code == "too-few-slices"


def test_colours_are_refused(tmp_path: Path) -> None:
    def colour(dataset: pydicom.Dataset, z: int) -> None:
        dataset.SamplesPerPixel, dataset.PixelData = 3, dataset.PixelData * 3

    write_series(tmp_path, voxels(), AFFINE, change=colour)
    assert refusal(tmp_path).code == "rgb-or-complex"


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "SECRET.txt").write_text("SECRET")
    assert refusal(tmp_path).code == "not-dicom"
    assert refusal(tmp_path / "SECRET.txt").code == "not-dicom"
    assert refusal(tmp_path / "nowhere").code == "not-found"


# ------------------------------------------------------------------------------------------- voxels and millimetres


def _with_simpleitk(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Voxels ``(z, y, x)`` and the affine in RAS+ of slices in our order, by an independent reader."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(paths)
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), np.diag([-1.0, -1, 1, 1]) @ affine


@pytest.mark.parametrize(
    ("name", "rule", "choice"),
    [(TRACE, CARD, None), (COMPUTED, CARD, SYNTHETIC), ("philips-classic-iso-dir", HIGHER, None)],
)
def test_voxels_and_affine_are_those_of_simpleitk(
    data: Path, name: str, rule: BRule, choice: DicomChoice | None
) -> None:
    study = read_dicom(data / name, rule, choice)
    assert study.provenance.dicom is not None
    array, affine = _with_simpleitk([path for path, _ in study.provenance.dicom.frames])
    np.testing.assert_allclose(study.volume.array * study.slope + study.inter, array, rtol=1e-6)
    np.testing.assert_allclose(study.volume.grid.affine, affine, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "rule", "choice"),
    [
        (TRACE, CARD, None),
        (COMPUTED, CARD, SYNTHETIC),
        ("philips-classic-iso-dir", HIGHER, None),
        ("philips-enhanced-dti", CARD, None),
        ("siemens-xa30-enhanced/12_tracew", HIGHER, None),
    ],
)
def test_voxels_and_affine_are_those_of_dcm2niix(
    data: Path, tmp_path: Path, name: str, rule: BRule, choice: DicomChoice | None
) -> None:
    """One of the volumes that it writes is the one that is taken, in the same place."""
    program = dcm2niix_program()
    assert program is not None, "the extra bench installs it"
    # -p n: Philips' slope of display, which is that of the standard's elements.
    command = [program, "-z", "n", "-b", "n", "-p", "n", "-f", "%s", "-o", tmp_path, data / name]
    subprocess.run(command, check=True, capture_output=True)
    study = read_dicom(data / name, rule, choice)
    volume = study.volume.oriented("LPS")
    values = volume.array * study.slope + study.inter
    distances = []
    for path in tmp_path.glob("*.nii"):
        image = nibabel.load(path)
        for voxels_xyz in np.atleast_3d(np.asarray(image.dataobj)).reshape(*image.shape[:3], -1).transpose(3, 0, 1, 2):
            other = Volume(np.ascontiguousarray(voxels_xyz.T), Grid(voxels_xyz.shape[::-1], image.affine)).oriented(
                "LPS"
            )
            if other.array.shape == values.shape and np.allclose(other.array, values, rtol=1e-6):
                distances.append(np.abs(other.grid.affine - volume.grid.affine).max())
    assert len(distances) == 1 and distances[0] < 1e-4


@pytest.mark.parametrize(
    ("name", "rule"), [("philips-enhanced-dti/DTI.dcm", CARD), ("siemens-xa30-enhanced/12_tracew", HIGHER)]
)
def test_frames_of_enhanced_files_lie_where_their_own_header_says(data: Path, name: str, rule: BRule) -> None:
    study = read_dicom(data / name, rule)
    assert study.provenance.dicom is not None
    grid = study.volume.grid
    for z, (path, index) in enumerate(study.provenance.dicom.frames):
        dataset = pydicom.dcmread(path)
        position = dataset.PerFrameFunctionalGroupsSequence[index].PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose((grid.affine @ (0, 0, z, 1))[:3], np.array(position) * (-1, -1, 1), atol=1e-4)
        np.testing.assert_array_equal(study.volume.array[z], dataset.pixel_array[index])


def test_a_dicom_folder_is_the_nifti_file_that_dcm2niix_made_of_it(data: Path, shared_data: Path) -> None:
    from_dicom = read_dicom(data / TRACE, CARD)
    from_nifti = read_study(shared_data / "prostatex-0000" / "6_ep2d_diff_tra_DYNDIST.nii.gz")
    assert from_nifti.b_value == from_dicom.b_value
    first, second = (study.volume.oriented("LPS") for study in (from_dicom, from_nifti))
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_allclose(first.grid.affine, second.grid.affine, atol=1e-4)


def test_names_numbers_and_order_of_files_change_nothing(data: Path, tmp_path: Path) -> None:
    paths = sorted((data / TRACE).iterdir())
    random.Random(0).shuffle(paths)
    for count, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = 1000 - count
        folder = tmp_path / "a" / str(count % 3)
        folder.mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / f"IM{count}")
    first, second = read_dicom(data / TRACE, CARD), read_dicom(tmp_path / "a", CARD)
    same(first, second)
    assert first.name == second.name and first.provenance.sha256 == second.provenance.sha256


def test_a_slope_of_each_slice_is_applied(tmp_path: Path) -> None:
    def scaled(dataset: pydicom.Dataset, z: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = str(1 + z), str(z)

    write_series(tmp_path, voxels(), AFFINE, change=scaled)
    study = read_dicom(tmp_path, CARD)
    factors = np.arange(10)[:, None, None]
    np.testing.assert_allclose(study.volume.array, voxels() * (1.0 + factors) + factors)
    assert (study.slope, study.inter) == (1.0, 0.0) and study.volume.array.dtype == np.float32


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_do_not_count(tmp_path: Path, signed: bool) -> None:
    values = np.random.default_rng(3).integers(-2048 if signed else 0, 2048 if signed else 4096, (10, 12, 9))
    stored = ((values & 0x0FFF) | 0xA000).astype(np.uint16)

    def twelve(dataset: pydicom.Dataset, z: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)

    write_series(tmp_path, stored, AFFINE, change=twelve)
    np.testing.assert_array_equal(read_dicom(tmp_path, CARD).volume.array, values)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_compression_without_loss_changes_no_voxel(data: Path, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    plugins = {JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg", RLELossless: "pydicom"}

    def compressed(dataset: pydicom.Dataset) -> None:
        dataset.compress(syntax, encoding_plugin=plugins[syntax], generate_instance_uid=False)

    same(read_dicom(copy_changed(data / COMPUTED, tmp_path / "a", compressed), CARD, SYNTHETIC),
         read_dicom(data / COMPUTED, CARD, SYNTHETIC))  # fmt: skip


@pytest.mark.parametrize(
    ("syntax", "code"),
    [
        (pydicom.uid.DeflatedExplicitVRLittleEndian, "unsupported-transfer-syntax"),
        (pydicom.uid.ExplicitVRBigEndian, "unsupported-transfer-syntax"),
        (pydicom.uid.UID("1.2.3.4"), "unsupported-transfer-syntax"),
        (pydicom.uid.JPEGBaseline8Bit, "lossy"),
        (pydicom.uid.JPEGLSNearLossless, "lossy"),
        (pydicom.uid.JPEG2000, "lossy"),
    ],
)
def test_other_transfer_syntaxes_are_refused(tmp_path: Path, syntax: pydicom.uid.UID, code: str) -> None:
    paths = write_series(tmp_path, voxels(), AFFINE)
    data = paths[2].read_bytes()
    meta = pydicom.dcmread(paths[2])
    meta.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, meta.file_meta, enforce_standard=True)
    paths[2].write_bytes(data[:132] + buffer.getvalue() + data[read_meta(data)[1] :])
    assert refusal(tmp_path).code == code


# ------------------------------------------------------------------------------------------------- the fast reader


def test_the_fast_reader_sees_what_pydicom_sees(data: Path) -> None:
    """Every wanted element and every pixel of every plain file."""
    compared = 0
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if content[128:132] != b"DICM":
            continue
        meta, start = read_meta(content)
        if tags.text(meta, tags.TRANSFER_SYNTAX_UID) != EXPLICIT_LITTLE_ENDIAN:
            continue
        try:
            header = peek(content, start)
        except NotPlainError:
            continue
        oracle = pydicom.dcmread(path)
        for tag, value in header.elements.items():
            element = oracle.get_item(tag)
            raw = element.value
            if isinstance(raw, bytes):
                assert raw == value, f"{path.name} {tag:08x}"
        assert {tag for tag in map(int, oracle.keys()) if tags.is_wanted(tag) and oracle[tag].VR != "SQ"} == set(
            header.elements
        )
        assert content[header.offset : header.offset + header.size] == oracle.PixelData
        (fast,), (slow,) = scan(path).frames, read_frames(path)
        assert replace(fast, offset=None) == slow
        compared += 1
    assert compared > 190


def test_both_readers_give_the_same_study(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read_dicom(data / TRACE, CARD)
    monkeypatch.setattr("lnfast.study.dicom.scan.EXPLICIT_LITTLE_ENDIAN", "none")
    same(fast, read_dicom(data / TRACE, CARD))


def test_no_mutation_of_a_file_raises_anything_but_a_refusal(data: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    sources = [next((data / TRACE).iterdir()), next((data / "philips-classic-iso-dir").iterdir())]
    path = tmp_path / "a.dcm"
    outcomes = set()
    for source in sources:
        content = source.read_bytes()
        head = content[:6000]
        for _ in range(1500):
            mutated = bytearray(head)
            for _ in range(rng.choice((1, 1, 2, 8))):
                mutated[rng.randrange(128, len(mutated))] = rng.randrange(256)
            if rng.random() < 0.3:
                mutated = mutated[: rng.randrange(len(mutated))]
            path.write_bytes(bytes(mutated) + (content[6000:] if len(mutated) == len(head) else b""))
            try:
                read_dicom(path, CARD)
            except LnfastError as error:
                outcomes.add(error.code)
    assert len(outcomes) > 3


def test_a_lying_length_takes_no_memory(tmp_path: Path) -> None:
    paths = write_series(tmp_path, voxels(), AFFINE)
    content = paths[0].read_bytes()
    at = content.rindex(b"\xe0\x7f\x10\x00OW") + 8
    paths[0].write_bytes(content[:at] + (0x7FFFFFFE).to_bytes(4, "little") + content[at + 4 :])
    tracemalloc.start()
    assert refusal(tmp_path).code == "truncated"
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    for count in range(MOST_FILES + 1):
        (tmp_path / str(count)).touch()
    assert refusal(tmp_path).code == "too-large"


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, voxels(shape=(1, 12, 9)), AFFINE)
    with open(path, "ab") as file:
        file.truncate(2 << 30)
    tracemalloc.start()
    assert refusal(tmp_path).code == "too-large"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


# -------------------------------------------------------------------------------------------------------- patient


def test_a_study_is_named_without_the_patient(tmp_path: Path) -> None:
    write_series(tmp_path / "SECRET", voxels(), AFFINE)
    study = read_dicom(tmp_path / "SECRET", CARD)
    assert len(study.name) == 16 and int(study.name, 16) >= 0
    texts = (study.name, *study.provenance.notes, *map(str, study.provenance.warnings), study.provenance.sha256)
    assert "SECRET" not in json.dumps(texts)


def test_a_name_is_the_same_each_time_on_one_machine_and_another_on_another(tmp_path: Path) -> None:
    program = "from lnfast.study.dicom.identity import study_id; print(study_id('1.2', '3.4'))"

    def name(cache: str) -> str:
        environment = {"LNFAST_CACHE": str(tmp_path / cache), "PYTHONPATH": ":".join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert name("a") == name("a") != name("b")
    assert (tmp_path / "a" / "study-id.key").stat().st_mode & 0o077 == 0
    assert study_id("1.2", "3.4") == study_id("1.2", "3.4") != study_id("1.23", ".4")


def test_pixels_of_named_frames_are_read_in_their_order(data: Path) -> None:
    path = data / "philips-enhanced-dti" / "DTI.dcm"
    whole = pydicom.dcmread(path).pixel_array
    pixels = read_frames(path)[0].pixels
    for index, values in zip((5, 2, 70), read_pixels(path, [5, 2, 70], pixels), strict=True):
        np.testing.assert_array_equal(values, whole[index])
