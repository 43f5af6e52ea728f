"""The study reader: every refusal by its code, every type against nibabel, and no needless copy."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import CODES, SROW, nifti_bytes, voxels, write_nifti

from lnfast.errors import StudyError
from lnfast.study import read_study, study_from_array, study_name
from lnfast.study.file_content import open_stored

SHAPE = (4, 6, 5)
AFFINE = np.array([*SROW, (0, 0, 0, 1)])


def refusal(path: Path | str, **options: object) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    assert Path(path).parent == Path(".") or str(Path(path).parent) not in message
    return caught.value


# ---------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", sorted(CODES))
def test_values_and_affine_are_those_of_nibabel(
    tmp_path: Path, kind: str, version: int, order: str, suffix: str
) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", voxels(SHAPE, kind), version=version, order=order, extension=32)
    study, oracle = read_study(path), nibabel.load(path)
    np.testing.assert_array_equal(study.volume.array, np.asarray(oracle.dataobj.get_unscaled()).T)
    np.testing.assert_array_equal(study.volume.grid.affine, oracle.affine)
    assert study.volume.array.dtype == np.dtype(kind) and study.volume.array.dtype.isnative
    assert study.volume.array.flags.c_contiguous and study.volume.array.flags.aligned
    assert study.provenance.format == f"nifti-{version}"
    assert study.provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("image", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_reads_what_nibabel_writes(tmp_path: Path, image: type[nibabel.Nifti1Image], suffix: str) -> None:
    array = voxels(SHAPE)
    path = tmp_path / f"a{suffix}"
    nibabel.save(image(array.T, AFFINE), path)
    study = read_study(path)
    np.testing.assert_array_equal(study.volume.array, array)
    np.testing.assert_allclose(study.volume.grid.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("qfac", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize(
    "quatern", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.6, 0.0, 0.8), (0.1, -0.2, 0.3), (0.99999, 0.004, 0.0)]
)
def test_qform_is_that_of_nibabel(tmp_path: Path, quatern: tuple[float, ...], qfac: float, version: int) -> None:
    geometry = {"sform_code": 0, "qform_code": 1, "quatern": quatern, "qoffset": (-11.0, 22.0, 33.0)}
    pixdim = (qfac or 1.0, 1.25, 1.5, 6, 1, 1, 1, 1)
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), version=version, pixdim=pixdim, **geometry)
    expected = nibabel.load(path).affine
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), version=version, pixdim=(qfac, *pixdim[1:]), **geometry)
    np.testing.assert_allclose(read_study(path).volume.grid.affine, expected, atol=1e-5)


def test_quaternion_rounded_just_past_one_is_half_a_turn(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), sform_code=0, qform_code=1, quatern=(1.00001, 0.0, 0.0))
    np.testing.assert_allclose(read_study(path).volume.grid.affine[:3, :3], np.diag((1.5, -1.5, -5)), atol=1e-9)


def test_sform_wins_and_disagreement_is_said(tmp_path: Path) -> None:
    array = voxels(SHAPE)
    same = {"qform_code": 1, "quatern": (0.0, 0.0, 1.0), "qoffset": (60.0, 70.0, -40.0)}
    agreeing = read_study(write_nifti(tmp_path / "a.nii", array, **same))
    assert [code for code, _ in agreeing.provenance.warnings] == ["unknown-b-value"]
    apart = read_study(write_nifti(tmp_path / "a.nii", array, **same | {"qoffset": (60.0, 73.0, -40.0)}))
    np.testing.assert_array_equal(apart.volume.grid.affine, AFFINE)
    assert apart.provenance.warnings[0][0] == "forms-disagree" and "3.0 mm" in apart.provenance.warnings[0][1]


def test_pixdim_that_is_not_the_sforms_is_said(tmp_path: Path) -> None:
    study = read_study(write_nifti(tmp_path / "a.nii", voxels(SHAPE), pixdim=(1, 1, 1, 1, 0, 0, 0, 0)))
    assert study.provenance.warnings[0][0] == "pixdim-disagrees"


@pytest.mark.parametrize(("unit", "factor"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (2 | 8, 1.0)])
def test_units_become_millimetres(tmp_path: Path, unit: int, factor: float) -> None:
    srow = tuple(value / factor for row in SROW for value in row)
    pixdim = (1, 1.5 / factor, 1.5 / factor, 5 / factor, 1, 1, 1, 1)
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), version=2, xyzt_units=unit, srow=srow, pixdim=pixdim)
    np.testing.assert_allclose(read_study(path).volume.grid.affine, AFFINE, rtol=1e-12)
    form = {"sform_code": 0, "qform_code": 1, "qoffset": (60 / factor, 0.0, 0.0)}
    path = write_nifti(tmp_path / "q.nii", voxels(SHAPE), version=2, xyzt_units=unit, pixdim=pixdim, **form)
    affine = read_study(path).volume.grid.affine
    np.testing.assert_allclose(np.diag(affine)[:3], (1.5, 1.5, 5), rtol=1e-12)
    assert affine[0, 3] == pytest.approx(60)


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [
        (0.0, 7.0, (1.0, 0.0)),
        (np.nan, np.nan, (1.0, 0.0)),
        (np.nan, 5.0, (1.0, 0.0)),
        (2.5, -3.0, (2.5, -3.0)),
        (1.0, 0.0, (1.0, 0.0)),
    ],
)
def test_scaling(tmp_path: Path, slope: float, inter: float, expected: tuple[float, float]) -> None:
    study = read_study(write_nifti(tmp_path / "a.nii", voxels(SHAPE), scl_slope=slope, scl_inter=inter))
    assert (study.slope, study.inter) == expected


# ------------------------------------------------------------------------------------------------------- no copies


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_happens_to_the_file_afterwards_does_not_reach_the_study(tmp_path: Path, suffix: str) -> None:
    path = write_nifti(tmp_path / f"a{suffix}", voxels(SHAPE))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    study = read_study(path)
    write_nifti(path, voxels(SHAPE) + 1)
    with open(path, "r+b") as file:
        file.truncate(10)
    np.testing.assert_array_equal(study.volume.array, voxels(SHAPE))
    assert study.provenance.sha256 == digest
    assert not study.volume.array.flags.writeable


def test_nii_takes_the_memory_of_one_volume(tmp_path: Path) -> None:
    array = voxels((3, 20, 256, 256), "i2")
    path = write_nifti(tmp_path / "a.nii", array, bval="0 800 50")
    read_study(path)
    tracemalloc.start()
    study = read_study(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(study.volume.array, array[1])
    assert study.provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert peak < array[1].nbytes + (3 << 20)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE))
    with open_stored(path, 1 << 30) as stored:
        os.truncate(path, 400)
        with pytest.raises(StudyError, match="truncated"):
            stored.values(352, voxels(SHAPE).nbytes, 352 + voxels(SHAPE).nbytes)


def test_no_file_stays_open(tmp_path: Path) -> None:
    paths = [write_nifti(tmp_path / f"{i}.nii", voxels(SHAPE)) for i in range(20)]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    studies = [read_study(path) for path in paths]
    assert len(studies) == 20
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_gzip_takes_the_memory_of_one_volume(tmp_path: Path) -> None:
    array = voxels((3, 20, 256, 256), "i2")  # random bits: the packed file is as large as the voxels
    path = write_nifti(tmp_path / "a.nii.gz", array, bval="0 400 800")
    read_study(path)
    tracemalloc.start()
    study = read_study(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(study.volume.array, array[2])
    assert peak < path.stat().st_size + array[2].nbytes + (3 << 20)


def test_misaligned_voxels_are_moved_once(tmp_path: Path) -> None:
    content = nifti_bytes(voxels(SHAPE), vox_offset=353)
    (tmp_path / "a.nii").write_bytes(content[:352] + b"\0" + content[352:])
    array = read_study(tmp_path / "a.nii").volume.array
    np.testing.assert_array_equal(array, voxels(SHAPE))
    assert array.flags.aligned


@pytest.mark.parametrize("kind", sorted(CODES))
def test_arrays_stay_where_they_are(kind: str) -> None:
    array = voxels((6, 5, 4), kind).transpose(2, 0, 1)[:, ::-1]
    array.flags.writeable = False
    study = study_from_array(array, AFFINE, name="x")
    assert np.shares_memory(study.volume.array, array)
    assert study.volume.array.__array_interface__ == array.__array_interface__
    assert (study.name, study.slope, study.inter, study.b_value) == ("x", 1.0, 0.0, None)
    assert study.provenance.format == "array" and study.provenance.path is study.provenance.sha256 is None


class _Foreign:
    """An array that is not NumPy's and supports DLPack only."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(**options)  # type: ignore[arg-type]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class _ElsewhereOnly(_Foreign):
    def __dlpack__(self, **options: object) -> object:
        raise BufferError("on a device")


def test_dlpack_and_buffers_are_viewed() -> None:
    array = voxels(SHAPE, "f4")
    assert np.shares_memory(study_from_array(_Foreign(array), AFFINE).volume.array, array)
    assert np.shares_memory(study_from_array(memoryview(array), AFFINE).volume.array, array)


def test_foreign_byte_order_of_an_array_is_swapped() -> None:
    array = voxels(SHAPE)
    study = study_from_array(array.astype(">i2"), AFFINE)
    assert study.volume.array.dtype.isnative
    np.testing.assert_array_equal(study.volume.array, array)


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros(SHAPE, bool), "unsupported-type"),
        (np.zeros(SHAPE, "f2"), "unsupported-type"),
        (np.zeros(SHAPE, np.longdouble), "unsupported-type"),
        (np.zeros(SHAPE, object), "unsupported-type"),
        (np.zeros(SHAPE, "M8[s]"), "unsupported-type"),
        (np.ma.zeros(SHAPE), "unsupported-type"),
        ([[1, 2], [3]], "unsupported-type"),
        (_ElsewhereOnly(np.zeros(SHAPE)), "unsupported-type"),
        ("dwi.nii.gz", "unsupported-type"),
        (np.zeros(SHAPE, "c8"), "rgb-or-complex"),
        (np.zeros((2, *SHAPE)), "not-3d"),
        (np.zeros((1, 6, 5)), "not-3d"),
        (np.zeros((0, 6, 5)), "not-3d"),
        (np.float32(1), "not-3d"),
    ],
)
def test_arrays_refused(array: object, code: str) -> None:
    with pytest.raises(StudyError) as caught:
        study_from_array(array, AFFINE)
    assert caught.value.code == code


def test_values_are_not_judged_here() -> None:
    """Constant and non-finite values are refused where the intensities are measured."""
    study_from_array(np.full(SHAPE, np.nan), AFFINE)
    with pytest.raises(StudyError) as caught:
        study_from_array(np.zeros(SHAPE), np.zeros((4, 4)))
    assert caught.value.code == "bad-geometry"


# -------------------------------------------------------------------------------------------------------- refusals

HEADERS = {
    "not-3d: one slice": ("not-3d", {}, (1, 6, 5)),
    "not-3d: 2D": ("not-3d", {}, (6, 5)),
    "not-3d: 5D": ("not-3d", {}, (2, 3, 4, 6, 5)),
    "not-3d: 5D with one time": ("not-3d", {}, (2, 1, 4, 6, 5)),
    "complex": ("rgb-or-complex", {"datatype": 32, "bitpix": 64}, SHAPE),
    "complex128": ("rgb-or-complex", {"datatype": 1792, "bitpix": 128}, SHAPE),
    "rgb": ("rgb-or-complex", {"datatype": 128, "bitpix": 24}, SHAPE),
    "rgba": ("rgb-or-complex", {"datatype": 2304, "bitpix": 32}, SHAPE),
    "binary": ("unsupported-type", {"datatype": 1, "bitpix": 1}, SHAPE),
    "float128": ("unsupported-type", {"datatype": 1536, "bitpix": 128}, SHAPE),
    "unknown type": ("unsupported-type", {"datatype": 0}, SHAPE),
    "bits": ("damaged-header", {"bitpix": 32}, SHAPE),
    "rank 0": ("damaged-header", {"dim": (0, 5, 6, 4, 1, 1, 1, 1)}, SHAPE),
    "rank 8": ("damaged-header", {"dim": (8, 5, 6, 4, 1, 1, 1, 1)}, SHAPE),
    "negative dim": ("damaged-header", {"dim": (3, 5, -6, 4, 1, 1, 1, 1)}, SHAPE),
    "zero dim": ("damaged-header", {"dim": (4, 5, 6, 4, 0, 1, 1, 1)}, SHAPE),
    "early voxels": ("damaged-header", {"vox_offset": 0}, SHAPE),
    "length unit": ("damaged-header", {"xyzt_units": 5}, SHAPE),
    "damaged magic": ("damaged-header", {"version": 2, "magic": b"n+2\0\n\n\x1a\n"}, SHAPE),
    "pair": ("not-nifti", {"magic": b"ni1\0"}, SHAPE),
    "pair 2": ("not-nifti", {"version": 2, "magic": b"ni2\0\r\n\x1a\n"}, SHAPE),
    "analyze": ("not-nifti", {"magic": b"\0\0\0\0"}, SHAPE),
    "no geometry": ("no-geometry", {"sform_code": 0}, SHAPE),
    "shear": ("bad-geometry", {"srow": (1.5, 0.1, 0, 0, 0, 1.5, 0, 0, 0, 0, 5, 0)}, SHAPE),
    "singular": ("bad-geometry", {"srow": (1.5, 0, 0, 0) * 3}, SHAPE),
    "nan": ("bad-geometry", {"srow": (np.nan, *sum(SROW, ())[1:])}, SHAPE),
    "infinite": ("bad-geometry", {"srow": (np.inf, *sum(SROW, ())[1:])}, SHAPE),
    "overflow": ("bad-geometry", {"version": 2, "srow": (1e300, *sum(SROW, ())[1:])}, SHAPE),
    "metres that are mm": ("bad-geometry", {"xyzt_units": 1}, SHAPE),
    "quaternion": ("bad-geometry", {"sform_code": 0, "qform_code": 1, "quatern": (1.0, 1.0, 0.0)}, SHAPE),
    "quaternion nan": ("bad-geometry", {"sform_code": 0, "qform_code": 1, "quatern": (np.nan, 0.0, 0.0)}, SHAPE),
    "qform size": ("bad-geometry", {"sform_code": 0, "qform_code": 1, "pixdim": (1, -1, 1, 1, 1, 1, 1, 1)}, SHAPE),
    "two sizes": ("bad-geometry", {"qform_code": 1, "pixdim": (1, 1.5, 1.5, 6, 1, 1, 1, 1)}, SHAPE),
    "negative slope": ("bad-scaling", {"scl_slope": -1.0}, SHAPE),
    "infinite slope": ("bad-scaling", {"scl_slope": np.inf}, SHAPE),
    "infinite inter": ("bad-scaling", {"scl_slope": 1.0, "scl_inter": np.inf}, SHAPE),
    "nan inter": ("bad-scaling", {"scl_slope": 1.0, "scl_inter": np.nan}, SHAPE),
    "too large": ("too-large", {"dim": (3, 2000, 2000, 2000, 1, 1, 1, 1)}, SHAPE),
    "far too large": ("too-large", {"version": 2, "dim": (3, 1 << 62, 1 << 62, 1 << 62, 1, 1, 1, 1)}, SHAPE),
    "adc by descrip": ("adc-map", {"descrip": b"TE=63;ADC"}, SHAPE),
    "adc by intent": ("adc-map", {"intent_name": b"ADC map"}, SHAPE),
    "adc by aux file": ("adc-map", {"aux_file": b"Apparent Diffusion Coeff"}, SHAPE),
    "4D, no bval": ("no-high-b", {}, (3, *SHAPE)),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("case", HEADERS)
def test_headers_refused(tmp_path: Path, case: str, suffix: str) -> None:
    code, options, shape = HEADERS[case]
    error = refusal(write_nifti(tmp_path / f"a{suffix}", voxels(shape), **options))
    assert error.code == code and error.exit_code == 3
    assert error.message.startswith(f"a{suffix}: ")


@pytest.mark.parametrize("offset", [np.nan, np.inf, 352.5, -1.0, 351.0])
def test_voxel_offset_must_be_a_byte(tmp_path: Path, offset: float) -> None:
    assert refusal(write_nifti(tmp_path / "a.nii", voxels(SHAPE), vox_offset=offset)).code == "damaged-header"


@pytest.mark.parametrize(
    ("content", "code", "hint"),
    [
        (b"", "truncated", "empty"),
        (b"\x1f", "not-nifti", "NIfTI"),
        (b"\x1f\x8b", "truncated", "gzip"),
        (gzip.compress(b"", mtime=0), "not-nifti", "NIfTI"),
        (b"hello", "not-nifti", "NIfTI"),
        (bytes(128) + b"DICM" + bytes(500), "damaged", "DICOM"),
        (gzip.compress(bytes(128) + b"DICM" + bytes(500), mtime=0), "not-nifti", "compressed DICOM"),
        (b"\x1f\x8b" + bytes(600), "damaged", "damaged"),
        # A time in it would give the test another name in each process that runs tests.
        (gzip.compress(gzip.compress(nifti_bytes(voxels(SHAPE)), mtime=0), mtime=0), "not-nifti", "NIfTI"),
        (nifti_bytes(voxels(SHAPE)).replace(b"\x5c\x01\0\0", b"\x5d\x01\0\0", 1), "damaged-header", "signature"),
    ],
)
def test_contents_refused(tmp_path: Path, content: bytes, code: str, hint: str) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    error = refusal(tmp_path / "a.nii.gz")
    assert error.code == code and hint in error.message


def test_paths_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE))
    assert refusal(tmp_path / "absent.nii").code == "not-found"
    assert refusal(path / "below.nii").code == "not-found"
    assert refusal(tmp_path / "nul\0.nii").code == "not-found"
    assert refusal(tmp_path / ("long" * 100)).code == "unreadable"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").code == "not-dicom"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.nii")
        assert refusal(tmp_path / "pipe.nii").code == "not-a-file"

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "denied", str(path))

    monkeypatch.setattr("builtins.open", denied)
    assert refusal(path).code == "unreadable"


def test_caps(tmp_path: Path) -> None:
    array = voxels((8, 32, 32))
    plain, packed = (write_nifti(tmp_path / name, array) for name in ("a.nii", "a.nii.gz"))
    needed = 352 + array.nbytes
    for path in (plain, packed):
        assert refusal(path, max_bytes=needed - 1).code == "too-large"
    assert refusal(packed, max_bytes=64).code == "too-large"
    read_study(plain, max_bytes=needed)
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(nifti_bytes(array[:2] * 0) + bytes(1 << 26)))
    assert refusal(bomb, max_bytes=1 << 24).code == "too-large"
    promise = nifti_bytes(array[:2], dim=(3, 1000, 1000, 1000, 1, 1, 1, 1))
    bomb.write_bytes(gzip.compress(promise))
    assert refusal(bomb).code == "truncated"  # before 2 GB are asked for: so little cannot hold so much


def test_trailing_bytes_are_said(tmp_path: Path) -> None:
    content = nifti_bytes(voxels(SHAPE)) + bytes(7)
    for name, stored in (("a.nii", content), ("b.nii.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(stored)
        study = read_study(tmp_path / name)
        np.testing.assert_array_equal(study.volume.array, voxels(SHAPE))
        assert study.provenance.warnings[-1] == (
            "trailing-data",
            "7 bytes follow the voxels that the header promises; they were ignored",
        )


def test_content_counts_and_not_the_extension(tmp_path: Path) -> None:
    content = nifti_bytes(voxels(SHAPE))
    for name, stored in (("a.nii", gzip.compress(content)), ("b.nii.gz", content), ("c", content)):
        (tmp_path / name).write_bytes(stored)
        np.testing.assert_array_equal(read_study(tmp_path / name).volume.array, voxels(SHAPE))


def test_gzip_of_several_members(tmp_path: Path) -> None:
    content = nifti_bytes(voxels(SHAPE))
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(content[at : at + 100]) for at in range(0, 592, 100)))
    np.testing.assert_array_equal(read_study(tmp_path / "a.nii.gz").volume.array, voxels(SHAPE))


def test_messages_hold_nothing_of_the_header_and_are_printable(tmp_path: Path) -> None:
    secret = {"descrip": b"DOE^JANE", "aux_file": b"DOE^JANE ADC", "intent_name": b"DOE^JANE"}
    error = refusal(write_nifti(tmp_path / "a\x1b[31m.nii", voxels(SHAPE), **secret))
    assert error.code == "adc-map" and "DOE" not in str(error) and "a?[31m.nii" in str(error)
    study = read_study(write_nifti(tmp_path / "b.nii", voxels(SHAPE), descrip=b"DOE^JANE"))
    assert "DOE" not in repr(study)


# -------------------------------------------------------------------------------------------------------- b-values


@pytest.mark.parametrize(
    ("bval", "index"),
    [
        ("0 400 800", 2),
        ("800 400 0\n", 0),
        ("0\t1000  50", 1),
        ("0 800 1000", 2),  # both are targets: the higher
        ("0 850 950", 2),  # as near to one as to the other: the higher
        ("0 600 1400", 1),
        ("0 1400 1900", 1),
        ("0 500 100", 1),
        ("0 1500 100", 1),
        ("0\n50\n800", 2),
        ("\ufeff0 50 800", 2),
        ("0 0 800", 2),
        ("0 800.5 100", 1),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_high_b_volume_is_taken(tmp_path: Path, bval: str, index: int, suffix: str) -> None:
    array = voxels((3, *SHAPE))
    path = write_nifti(tmp_path / f"a{suffix}", array)
    (tmp_path / "a.bval").write_bytes(bval.encode())
    study = read_study(path)
    np.testing.assert_array_equal(study.volume.array, array[index])
    assert study.provenance.volume_index == index
    assert study.provenance.b_values is not None and study.provenance.b_values[index] == study.b_value
    assert study.provenance.notes == (f"took volume {index + 1} of 3, b = {study.b_value:g}",)
    assert study.provenance.warnings == ()


@pytest.mark.parametrize(
    ("bval", "code"),
    [
        ("0 50 400", "no-high-b"),
        ("0 1501 499", "no-high-b"),
        ("0 800 800", "ambiguous"),
        ("795 800 805", "ambiguous"),
        ("0 776 824", "ambiguous"),
        ("0 50 1_000", "bad-bval"),
        ("0 800", "bad-bval"),
        ("0 50 400 800", "bad-bval"),
        ("", "bad-bval"),
        ("0 50 high", "bad-bval"),
        ("0 nan 800", "bad-bval"),
        ("0 inf 800", "bad-bval"),
        ("0 -5 800", "bad-bval"),
        ("0 1 800" + " " * (1 << 17), "bad-bval"),
        ("\udcff 1 800", "bad-bval"),
    ],
)
def test_bvals_refused(tmp_path: Path, bval: str, code: str) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels((3, *SHAPE)))
    (tmp_path / "a.bval").write_bytes(bval.encode(errors="surrogateescape"))
    assert refusal(path).code == code


def test_bval_that_is_a_folder(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE))
    (tmp_path / "a.bval").mkdir()
    assert refusal(path).code == "bad-bval"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_beside_a_study_do_not_hold_it_up(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE))
    os.mkfifo(tmp_path / "a.json")
    read_study(path)
    os.mkfifo(tmp_path / "a.bval")
    assert refusal(path).code == "bad-bval"


def test_b_rule_is_the_callers(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels((3, *SHAPE)), bval="0 400 800")
    assert read_study(path, b_targets=(400.0,), b_range=(300.0, 900.0)).b_value == 400
    assert refusal(path, b_targets=(1500.0,), b_range=(1400.0, 2000.0)).code == "no-high-b"


def test_3d_with_and_without_bval(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", voxels((1, *SHAPE)), bval="1000")  # 4D of one volume is 3D
    study = read_study(path)
    assert study.volume.array.shape == SHAPE and study.b_value == 1000
    assert study.provenance.volume_index is None and study.provenance.notes == study.provenance.warnings == ()
    (tmp_path / "a.bval").write_text("0")
    assert refusal(path).code == "no-high-b"
    (tmp_path / "a.bval").unlink()
    study = read_study(path)
    assert study.b_value is None and [code for code, _ in study.provenance.warnings] == ["unknown-b-value"]


# -------------------------------------------------------------------------------------------------------- ADC maps


@pytest.mark.parametrize(
    "name",
    ["7_dwi_ADC", "adc", "ADC", "x-adc", "x adc 2", "case.Adc", "dwi_eADC", "dADC_1", "dwiADC", "adc_map", "ADCmap_x"]
    + [
        "7_diff_ADCa",
        "7_diff_ADC1",
        "ADC0001",
        "ApparentDiffusionCoefficient",
        "avgADC",
        "rADC",
        "regADC",
        "12_ADC10-6mm2s",
    ],
)
def test_adc_by_name(tmp_path: Path, name: str) -> None:
    assert refusal(write_nifti(tmp_path / f"{name}.nii.gz", voxels(SHAPE), bval="800")).code == "adc-map"


@pytest.mark.parametrize("name", ["3adc71_dwi", "cascade", "8CALC_BVAL", "macadcam", "adcock_dwi", "dwi_0000"])
def test_not_adc_by_name(tmp_path: Path, name: str) -> None:
    read_study(write_nifti(tmp_path / f"{name}.nii.gz", voxels(SHAPE), bval="800"))


def test_adc_by_sidecar(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", voxels(SHAPE), bval="800")
    sidecar = tmp_path / "a.json"
    for image_type in (["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], ["DERIVED", "eADC"], "ADC"):
        sidecar.write_text(json.dumps({"ImageType": image_type}))
        assert refusal(path).code == "adc-map"
    for field in ("SeriesDescription", "ImageComments"):
        sidecar.write_text(json.dumps({"ImageType": ["DERIVED"], field: "ep2d_diff_tra_DYNDIST_ADC"}))
        assert refusal(path).code == "adc-map"
    for harmless in (
        json.dumps({"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", 7]}),
        json.dumps({"ImageType": None}),
        "[]",
        "{",
        "[" * 100_000,
        "",
    ):
        sidecar.write_text(harmless)
        read_study(path)


# ---------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("version", [1, 2])
def test_every_truncation_is_refused(tmp_path: Path, version: int) -> None:
    content = nifti_bytes(voxels(SHAPE), version=version)
    packed = gzip.compress(content)
    for name, whole in (("a.nii", content), ("a.nii.gz", packed)):
        for size in range(len(whole)):
            (tmp_path / name).write_bytes(whole[:size])
            error = refusal(tmp_path / name)
            assert error.code in ("truncated", "not-nifti"), size
            assert error.code == "truncated" or size < 4 or (name == "a.nii" and size < 12), size


def test_truncated_4d(tmp_path: Path) -> None:
    """A file that ends behind the chosen volume was not transferred whole, so it is refused."""
    path = write_nifti(tmp_path / "a.nii", voxels((3, *SHAPE)), bval="800 0 50")
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path).code == "truncated"
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert refusal(tmp_path / "a.nii.gz").code == "truncated"


def test_damaged_gzip_never_gives_other_voxels(tmp_path: Path) -> None:
    packed = gzip.compress(nifti_bytes(voxels((4, 16, 16))))
    rng = random.Random(1)
    for _ in range(300):
        damaged = bytearray(packed)
        damaged[rng.randrange(10, len(packed))] ^= 1 << rng.randrange(8)
        (tmp_path / "a.nii.gz").write_bytes(damaged)
        error = refusal(tmp_path / "a.nii.gz")
        assert error.code in ("damaged", "truncated", "damaged-header", "not-nifti", "too-large")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_header_fuzz(tmp_path: Path, suffix: str, version: int) -> None:
    """Any bytes in the header give a consistent study or a refusal, in bounded memory."""
    content = nifti_bytes(voxels(SHAPE), version=version, qform_code=1, quatern=(0.0, 0.0, 1.0))
    rng = random.Random(version)
    read = 0
    tracemalloc.start()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(352 if version == 1 else 544)] = rng.randrange(256)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(gzip.compress(damaged, 1) if suffix == ".nii.gz" else damaged)
        try:
            study = read_study(path, max_bytes=1 << 26)
        except StudyError:
            continue
        read += 1
        assert study.slope > 0 and np.isfinite((study.slope, study.inter)).all()
        assert np.isfinite(study.volume.grid.affine).all() and study.volume.array.shape == study.volume.grid.shape
        study.volume.array.tobytes()
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()
    assert 0 < read < 400


# ------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/case_1.nii.gz", "case_1"),
        ("case_1_0000.nii.gz", "case_1"),
        ("case.v2.NII", "case.v2"),
        ("case_0001.nii", "case_0001"),
        ("scan", "scan"),
        (Path("a/b.NII.GZ"), "b"),
        ("...nii.gz", "...nii.gz"),
        ("..nii", "..nii"),
        (".nii", ".nii"),
        ("_0000.nii", "_0000.nii"),
    ],
)
def test_study_name(path: str | Path, name: str) -> None:
    assert study_name(path) == name


def test_import_is_light() -> None:
    heavy = "{'nibabel', 'isal', 'torch', 'scipy'}"
    code = f"import sys, lnfast.study; print({heavy} & {{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_read_from_many_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = write_nifti(tmp_path / "a.nii.gz", voxels((3, *SHAPE)), bval="0 50 800")
    with ThreadPoolExecutor(8) as pool:
        studies = list(pool.map(read_study, [path] * 64))
    assert all(np.array_equal(study.volume.array, voxels((3, *SHAPE))[2]) for study in studies)


# ------------------------------------------------------------------------------------------------------- real data


def test_real_4d_takes_b800(shared_data: Path) -> None:
    path = shared_data / "prostatex-0000" / "6_ep2d_diff_tra_DYNDIST.nii.gz"
    study, oracle = read_study(path), nibabel.load(path)
    assert study.name == "6_ep2d_diff_tra_DYNDIST" and study.b_value == 800
    assert study.volume.grid.shape == (19, 128, 84)
    assert study.provenance.b_values == (50, 400, 800) and study.provenance.warnings == ()
    np.testing.assert_array_equal(study.volume.array, np.asarray(oracle.dataobj)[..., 2].T)
    np.testing.assert_array_equal(study.volume.grid.affine, oracle.affine)
    np.testing.assert_allclose(study.volume.grid.spacing_zyx_mm, (3, 2, 2), atol=1e-5)
    normal = study.volume.grid.affine[:3, 2] / np.linalg.norm(study.volume.grid.affine[:3, 2])
    assert np.degrees(np.arccos(abs(normal[2]))) == pytest.approx(18.5, abs=0.2)


def test_real_second_scanner(shared_data: Path) -> None:
    path = next((shared_data / "prostatex-0218").glob("*.nii.gz"))
    study = read_study(path)
    assert study.b_value == 800 and study.provenance.volume_index == 3
    assert study.volume.grid.shape == (20, 130, 160)
    np.testing.assert_array_equal(study.volume.array, np.asarray(nibabel.load(path).dataobj)[..., 3].T)


def test_real_computed_b_value_is_taken(shared_data: Path) -> None:
    study = read_study(shared_data / "prostatex-0000" / "8_ep2d_diff_tra_DYNDISTCALC_BVAL.nii.gz")
    assert study.b_value == 1000 and study.volume.grid.shape == (19, 128, 84)


def test_real_adc_map_is_refused_though_its_bval_says_800(shared_data: Path) -> None:
    error = refusal(shared_data / "prostatex-0000" / "7_ep2d_diff_tra_DYNDIST_ADC.nii.gz")
    assert error.code == "adc-map" and error.exit_code == 3
