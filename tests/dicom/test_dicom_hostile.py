"""Files that mean to, or happen to, mislead: nothing wrong is taken, and nothing but a refusal is raised."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import CARD, on_slice, refusal, voxels, without, write_series
from dicom_fuzz import read_header
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from lnfast.study.dicom import DicomChoice, identity, read_dicom, reader
from lnfast.study.dicom.packages import quiet

AFFINE = np.array([[-1.5, 0, 0, 60], [0, -1.45, 0, 70], [0, 0, 5, -40], [0, 0, 0, 1.0]])


# -------------------------------------------------------------------------------- what would be wrong without a sign


def _set_all(**values: Any) -> Callable[[pydicom.Dataset, int], None]:
    def change(dataset: pydicom.Dataset, z: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def test_b_values_that_differ_a_little_are_one_volume(tmp_path: Path) -> None:
    """Rounded apart, every second slice would make a whole-looking volume of half the slices."""

    def alternating(dataset: pydicom.Dataset, z: int) -> None:
        dataset.DiffusionBValue = 800.4 if z % 2 else 800.6

    write_series(tmp_path, voxels(shape=(20, 12, 9)), AFFINE, change=alternating)
    study = read_dicom(tmp_path, CARD)
    np.testing.assert_array_equal(study.volume.array, voxels(shape=(20, 12, 9)))
    assert study.b_value in (800, 801)


def test_two_volumes_of_one_shell_in_a_series_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", voxels(1), AFFINE, b_value=800)
    write_series(tmp_path / "b", voxels(2), AFFINE, b_value=805, change=_set_uids)
    assert refusal(tmp_path).code == "repeated-slices"


def _set_uids(dataset: pydicom.Dataset, z: int) -> None:
    dataset.SOPInstanceUID = f"1.2.3.{z}"


def test_every_second_slice_missing_is_found_by_another_b_value(tmp_path: Path) -> None:
    values = voxels(shape=(20, 12, 9))
    write_series(tmp_path / "low", values, AFFINE, b_value=50)
    for z, path in enumerate(write_series(tmp_path / "high", values, AFFINE, change=_set_uids)):
        if z % 2:
            path.unlink()
    assert refusal(tmp_path).code == "missing-slices"


def test_a_stack_that_is_cut_short_is_found_by_another_series_on_its_planes(tmp_path: Path) -> None:
    values = voxels(shape=(12, 12, 9))
    write_series(tmp_path / "low", values, AFFINE, b_value=50, number=4)
    for path in write_series(tmp_path / "high", values, AFFINE)[-3:]:
        path.unlink()
    assert refusal(tmp_path).code == "missing-slices"
    assert refusal(tmp_path, choice=DicomChoice(series="5")).code == "missing-slices"
    assert read_dicom(tmp_path / "high", CARD).volume.array.shape[0] == 9  # alone it cannot be known


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "unsupported-type"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "rgb-or-complex"),
        ({"PixelSpacing": ["-1.5", "-1.45"]}, "bad-geometry"),
        ({"PixelSpacing": ["0", "0"]}, "bad-geometry"),
        ({"ComplexImageComponent": "PHASE"}, "not-dwi"),
        ({"ComplexImageComponent": "REAL"}, "not-dwi"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR", "DIFFUSION", "TRACEW"]}, "not-dwi"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "TRACEW"]}, "not-dwi"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE", "TRACEW"]}, "computed-b"),
        ({"RescaleType": "10^-6 mm2/s"}, "adc-map"),
        ({"RescaleType": "*1e-6 mm^2/s"}, "adc-map"),
        ({"Rows": 6}, "damaged"),
        ({"Rows": 0}, "damaged"),
        ({"SOPInstanceUID": "1.2.3"}, "damaged"),
        *(({"SeriesDescription": text}, "computed-b") for text in ("cDWI b1000", "sDWI 1400", "cb1400 tra")),
        *(({"SeriesDescription": text}, "computed-b") for text in ("DWI b1400 rechnerisch", "b1400 extrapolated")),
        *(({"SeriesDescription": text}, "adc-map") for text in ("Diffusionskoeffizient", "Coeficiente de difusion")),
        ({"SeriesDescription": "Mappa coefficiente di diffusione"}, "adc-map"),
    ],
)
def test_what_only_one_element_tells_is_refused(tmp_path: Path, values: dict[str, Any], code: str) -> None:
    write_series(tmp_path, voxels(), AFFINE, change=_set_all(**values))
    assert refusal(tmp_path).code == code


@pytest.mark.parametrize("name", ["Rows", "PixelRepresentation"])
def test_pixels_of_unknown_form_are_refused(tmp_path: Path, name: str) -> None:
    write_series(tmp_path, voxels(), AFFINE, change=without(name))
    assert refusal(tmp_path).code == "damaged"


def test_a_scale_beyond_float32_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(), AFFINE, change=on_slice(3, RescaleSlope="1e300", RescaleIntercept="0"))
    assert refusal(tmp_path).code == "bad-scaling"


def test_a_b_value_of_the_header_comes_before_one_that_a_person_gave(tmp_path: Path) -> None:
    write_series(tmp_path / "dwi", voxels(1), AFFINE, b_value=900, number=1)
    write_series(tmp_path / "other", voxels(2), AFFINE, b_value=None, number=2, change=_set_all(ImageType=["ORIGINAL"]))
    assert read_dicom(tmp_path, CARD, DicomChoice(b_value=800.0)).b_value == 900


def test_more_pixels_than_an_enhanced_header_says_are_refused(data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(data / "philips-enhanced-dti" / "DTI.dcm")
    dataset.Rows = 40
    dataset.save_as(tmp_path / "a.dcm")
    assert refusal(tmp_path).code == "damaged"


def test_a_part_of_a_file_that_was_split_is_refused(data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(data / "philips-enhanced-dti" / "DTI.dcm")
    dataset.NumberOfFrames = 72  # nine slices of ten: no gap, and every b-value ends there
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:72]
    dataset.PixelData = dataset.PixelData[: 72 * dataset.Rows * dataset.Columns * 2]
    dataset.ConcatenationUID, dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = "1.2.3", 1, 2
    dataset.save_as(tmp_path / "a.dcm")
    assert refusal(tmp_path).code == "missing-slices"


# ------------------------------------------------------------------------------------------------ folders and pipes


def test_pipes_and_links_to_nowhere_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path / "a", voxels(), AFFINE)
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a" / "loop")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "not there")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    assert read_dicom(tmp_path / "a", CARD).volume.array.shape == (10, 12, 9)
    assert refusal(tmp_path / "a" / "pipe").code == "not-a-file"


def test_a_large_file_that_is_no_image_is_not_read(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(), AFFINE)
    (tmp_path / "archive.zip").write_bytes(bytes(40 << 20))
    (path,) = write_series(tmp_path / "b", voxels(shape=(1, 12, 9)), AFFINE)
    content = path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.840.10008.5.1.4.1.1.7\0")
    path.write_bytes(content + bytes(40 << 20))
    tracemalloc.start()
    assert read_dicom(tmp_path, CARD).volume.array.shape == (10, 12, 9)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_warnings_of_one_thread_stay_silent_when_another_is_done() -> None:
    first, second = quiet(), quiet()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        warnings.warn("SECRET", stacklevel=1)
        second.__exit__(None, None, None)
        assert not caught
        warnings.warn("again", stacklevel=1)
        assert len(caught) == 1


# --------------------------------------------------------------------------------------------------- decompression


def _claim(frame: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(frame)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def _bomb(kind: str) -> tuple[pydicom.uid.UID, bytes]:
    """A small frame that claims 60000 x 60000 pixels, or unpacks to a gigabyte."""
    image = pydicom.dataset.Dataset()
    if kind == "RLE":
        return RLELossless, struct.pack("<16I", 2, 64, 64 + (8 << 20), *([0] * 13)) + bytes([129, 0]) * (8 << 20)
    syntax = {"JPEG 2000": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless}[kind]
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image.Rows = image.Columns = 64
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.SOPInstanceUID = "1.2.3"
    image.PixelData = bytes(64 * 64 * 2)
    plugin = {"JPEG 2000": "pylibjpeg", "JPEG-LS": "pyjpegls"}[kind]
    image.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    frame = pydicom.encaps.get_frame(image.PixelData, 0, number_of_frames=1)
    if kind == "JPEG 2000":
        return syntax, _claim(frame, 8, ">8I", 60000, 60000, 0, 0, 60000, 60000, 0, 0)
    return syntax, _claim(frame, frame.index(b"\xff\xf7") + 5, ">HH", 60000, 60000)


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG-LS", "RLE"])
def test_a_decompression_bomb_takes_no_memory(tmp_path: Path, kind: str) -> None:
    syntax, frame = _bomb(kind)

    def compressed(dataset: pydicom.Dataset, z: int) -> None:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = pydicom.encaps.encapsulate([frame])
        dataset["PixelData"].VR = "OB"

    write_series(tmp_path, voxels(), AFFINE, change=compressed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(tmp_path).code == "damaged"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_the_fuzz_corpus_ends_in_headers_and_refusals() -> None:
    """What ``tests/dicom/fuzz`` found worth keeping, through what it runs."""
    files = sorted((Path(__file__).parent / "fuzz" / "corpus").iterdir())
    outcomes = {read_header(path.read_bytes()) for path in files}
    assert len(files) > 50 and outcomes == {"header", "for pydicom", "damaged"}


def test_the_fuzz_corpus_as_a_file_ends_in_a_refusal(tmp_path: Path) -> None:
    codes = set()
    for path in sorted((Path(__file__).parent / "fuzz" / "corpus").iterdir()):
        content = path.read_bytes()
        (tmp_path / "a").write_bytes(content[:128] + b"DICM" + content[132:])
        codes.add(refusal(tmp_path / "a").code)
    assert len(codes) > 2


# -------------------------------------------------------------------------------------------------------- identity


def test_processes_that_make_the_key_at_once_get_one_name(tmp_path: Path) -> None:
    program = "from lnfast.study.dicom.identity import study_id; print(study_id('1.2', '3.4'))"
    environment = {"LNFAST_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["study-id.key"]


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path))
    (tmp_path / "study-id.key").write_bytes(content)
    names = set()
    for _ in range(2):
        identity._key.cache_clear()
        names.add(identity.study_id("1.2", "3.4"))
    identity._key.cache_clear()
    assert len(names) == 1 and len((tmp_path / "study-id.key").read_bytes()) == 32


def test_without_a_place_for_the_key_there_is_a_name_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "file"))
    identity._key.cache_clear()
    assert len(identity.study_id("1.2", "3.4")) == 16
    identity._key.cache_clear()


@pytest.mark.parametrize("how", ["rewritten", "replaced", "gone"])
def test_a_file_that_changes_between_its_header_and_its_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """With the same length nothing else tells the new pixels from those of the header."""
    write_series(tmp_path / "in", voxels(), AFFINE)
    write_series(tmp_path / "other", voxels(1), AFFINE)
    path = tmp_path / "in" / "slice004.dcm"
    sort_slices = reader.sort_slices

    def changing(*arguments: Any) -> Any:
        if how == "rewritten":
            path.write_bytes((tmp_path / "other" / path.name).read_bytes())
        elif how == "replaced":
            os.replace(tmp_path / "other" / path.name, path)
        else:
            path.unlink()
        return sort_slices(*arguments)

    monkeypatch.setattr(reader, "sort_slices", changing)
    assert refusal(tmp_path / "in").code == ("unreadable" if how == "gone" else "source-changed")
