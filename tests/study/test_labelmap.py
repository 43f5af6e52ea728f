"""The one reader of label maps: any type of whole numbers, up to 65535 nodes, one code for each refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nifti_files import write_nifti
from scipy import ndimage

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.study.label_writer import label_map_bytes
from lnfast.study.labelmap import number_components, number_ids, read_label_file

VALUES = np.zeros((4, 8, 8), np.uint16)
VALUES[0, 0, :3] = 3
VALUES[2, 5:, 5:] = 70


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u8", "f4", "f8"])
def test_whole_numbers_of_any_type(tmp_path: Path, kind: str) -> None:
    file = read_label_file(write_nifti(tmp_path / "a.nii.gz", VALUES.astype(kind)))
    np.testing.assert_array_equal(file.values.array, VALUES)
    assert file.trailing_bytes == 0 and file.values.array.dtype.kind in "iu"


def test_scaled_values_are_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", (VALUES > 0).astype("u1") * 255, scl_slope=1 / 255)
    assert np.unique(read_label_file(path).values.array).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (-VALUES.astype("i2"), "bad-labels"),
        (VALUES.astype("f4") / 2, "bad-labels"),
        (VALUES.astype("f4") * np.nan, "bad-labels"),
        (VALUES.astype("f8") * 1e300, "bad-labels"),
        (np.zeros((2, *VALUES.shape), "u1"), "not-3d"),
    ],
)
def test_what_is_refused(tmp_path: Path, array: Any, code: str) -> None:
    with pytest.raises(StudyError, match=rf"^{code}: .*no\.nii\.gz: holds ") as caught:
        read_label_file(write_nifti(tmp_path / "no.nii.gz", array))
    assert "\n" not in str(caught.value)


def test_ids_are_numbered_in_their_order_and_gaps_are_closed() -> None:
    labels, ids = number_ids(VALUES)
    assert ids == (3, 70) and labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, (VALUES == 3) + 2 * (VALUES == 70))
    assert number_ids(np.zeros((2, 2, 2), np.int64))[1] == ()


def test_components_are_numbered_as_scipy_does() -> None:
    mask = np.random.default_rng(5).random((9, 10, 11)) < 0.1
    labels, count = number_components(mask)
    wanted, number = ndimage.label(mask, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(labels, wanted)
    assert count == number


def test_the_most_nodes_that_a_file_can_hold() -> None:
    most = np.arange(1, 65536).reshape(5, 51, 257)
    assert number_ids(most)[0].max() == 65535
    more = np.arange(1, 65537).reshape(16, 64, 64)
    with pytest.raises(StudyError, match="bad-labels: holds 65536 different ids, wanted at most 65535"):
        number_ids(more)
    apart = np.zeros((82, 82, 82), bool)
    apart[::2, ::2, ::2] = True
    with pytest.raises(StudyError, match="bad-labels: holds 68921 separate pieces"):
        number_components(apart)


def test_what_the_writer_writes_comes_back(tmp_path: Path) -> None:
    volume = Volume(VALUES, Grid(VALUES.shape, np.diag([2.0, 3.0, 4.0, 1.0])))
    (tmp_path / "a.nii.gz").write_bytes(label_map_bytes(volume))
    file = read_label_file(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(file.values.array, VALUES)
    assert file.values.grid == volume.grid
