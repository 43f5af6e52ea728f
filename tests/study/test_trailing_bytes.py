"""A file that is longer than its header promises: refused where the rest is image, else read with a warning."""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import numpy as np
import pytest
from nifti_files import CODES, nifti_bytes, voxels

from lnfast.errors import StudyError
from lnfast.study import read_study

SIZES = {kind: np.dtype(kind).itemsize for kind in CODES}
MEMBERS = range(40)


def stored(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def refusal(path: Path) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(path)
    return caught.value


def sizes_xyz(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(3, 40), rng.randint(3, 40), rng.randint(3, 20)


def dims(*sizes: int) -> tuple[int, ...]:
    return (len(sizes), *sizes, *(1,) * (7 - len(sizes)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("called", sorted(CODES))
@pytest.mark.parametrize("kind", sorted(CODES))
def test_a_wider_type_than_the_header_says_is_refused(tmp_path: Path, kind: str, called: str, suffix: str) -> None:
    """All pairs of types on several shapes; types of one size look alike, and a narrower one is cut short."""
    rng = random.Random(f"{kind} {called}")
    for version in (1, 2):
        shape = sizes_xyz(rng)[::-1]
        content = nifti_bytes(
            voxels(shape, kind), version=version, datatype=CODES[called], bitpix=8 * SIZES[called], scl_slope=0.0
        )
        path = stored(tmp_path / f"a{suffix}", content)
        if SIZES[kind] > SIZES[called]:
            error = refusal(path)
            assert error.code == "damaged-header"
            assert f"as many as {SIZES[kind]} bytes a voxel make" in error.message
        elif SIZES[kind] < SIZES[called]:
            assert refusal(path).code == "truncated"
        else:
            assert read_study(path).volume.array.shape == shape


@pytest.mark.parametrize("member", MEMBERS)
def test_a_header_that_leaves_out_part_of_an_axis_is_refused(tmp_path: Path, member: int) -> None:
    rng = random.Random(member)
    for axes in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
        true = sizes_xyz(rng)
        cut = tuple(rng.randint(2, size - 1) if axis in axes else size for axis, size in enumerate(true))
        content = nifti_bytes(voxels(true[::-1], rng.choice(sorted(CODES))), dim=dims(*cut))
        path = stored(tmp_path / rng.choice(("a.nii", "a.nii.gz")), content)
        assert refusal(path).code == "damaged-header", (true, cut)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("kind", sorted(CODES))
def test_half_of_an_axis_is_refused_in_a_study_of_usual_size(tmp_path: Path, kind: str, axis: int) -> None:
    true = [128, 84, 19]
    content = nifti_bytes(
        voxels(tuple(true[::-1]), kind), dim=dims(*(n // (1 + (i == axis)) for i, n in enumerate(true)))
    )
    assert refusal(stored(tmp_path / "a.nii", content)).code == "damaged-header"


@pytest.mark.parametrize("axis", range(3))
def test_one_slice_row_or_column_left_out_is_refused(tmp_path: Path, axis: int) -> None:
    true = [240, 240, 28]
    content = nifti_bytes(voxels(tuple(true[::-1])), dim=dims(*(n - (i == axis) for i, n in enumerate(true))))
    error = refusal(stored(tmp_path / "a.nii", content))
    assert error.code == "damaged-header" and "export the study again" in error.message


@pytest.mark.parametrize("member", MEMBERS)
def test_a_header_of_fewer_volumes_is_refused(tmp_path: Path, member: int) -> None:
    """Most often a 3D header on 4D data: the first volume, b = 0, would be staged."""
    rng = random.Random(member)
    true, volumes = sizes_xyz(rng), rng.randint(2, 6)
    promised = rng.randint(1, volumes - 1)
    content = nifti_bytes(voxels((volumes, *true[::-1]), rng.choice(sorted(CODES))), dim=dims(*true, promised))
    (tmp_path / "a.bval").write_text(" ".join(["800", *"0" * (promised - 1)]))
    error = refusal(stored(tmp_path / rng.choice(("a.nii", "a.nii.gz")), content))
    assert error.code == "damaged-header" and "more volume" in error.message


@pytest.mark.parametrize("member", MEMBERS)
def test_a_header_of_another_study_is_refused(tmp_path: Path, member: int) -> None:
    rng = random.Random(member)
    true = rng.randint(100, 200), rng.randint(100, 200), rng.randint(10, 30)
    other = rng.randint(60, 110), rng.randint(60, 110), rng.randint(8, 20)
    if math.prod(other) >= math.prod(true):
        true, other = other, true
    content = nifti_bytes(voxels(true[::-1]), dim=dims(*other))
    assert refusal(stored(tmp_path / "a.nii", content)).code == "damaged-header", (true, other)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_small_tail_is_a_warning_and_changes_no_voxel(tmp_path: Path, member: int) -> None:
    rng = random.Random(member)
    x, y, z = rng.randint(60, 128), rng.randint(60, 128), rng.randint(10, 20)
    array = voxels((z, y, x), rng.choice(("i2", "u2", "f4", "i4")), member)
    content = nifti_bytes(array)
    row = x * array.itemsize
    padding = [-len(content) % block for block in (512, 1024)]
    tails = [rng.randint(1, row - 1), 1, row - 1, row + 1, *(size for size in padding if size % row)]
    for size in tails:
        path = stored(tmp_path / rng.choice(("a.nii", "a.nii.gz")), content + rng.randbytes(size))
        study = read_study(path)
        np.testing.assert_array_equal(study.volume.array, array)
        codes = [code for code, _ in study.provenance.warnings]
        assert codes.count("trailing-data") == (1 if size else 0), size


def test_padding_to_a_page_is_a_tail_of_a_study_of_usual_size(tmp_path: Path) -> None:
    array = voxels((28, 240, 240))
    content = nifti_bytes(array)
    study = read_study(stored(tmp_path / "a.nii", content + bytes(-len(content) % 4096)))
    np.testing.assert_array_equal(study.volume.array, array)
    assert study.provenance.warnings[-1][0] == "trailing-data"
    assert refusal(stored(tmp_path / "a.nii", content + bytes(4097))).message.count("too many to be a tail") == 1


@pytest.mark.parametrize(("rows", "words"), [(1, "1 more row:"), (3, "3 more rows:"), (6, "1 more slice:")])
def test_the_refusal_names_what_the_rest_would_be(tmp_path: Path, rows: int, words: str) -> None:
    content = nifti_bytes(voxels((4, 6, 5))) + bytes(rows * 10)
    assert words in refusal(stored(tmp_path / "a.nii", content)).message
