"""Names of studies: told apart, and harmless as the folders that they become."""

from __future__ import annotations

import pytest

from lnfast.report import distinct_names, folder_name


def test_studies_of_one_name_are_told_apart() -> None:
    assert distinct_names(["a/x.nii.gz", "b/y.nii"]) == ["x", "y"]
    assert distinct_names(["a/x.nii.gz", "b/x.nii"]) == ["a_x", "b_x"]
    assert distinct_names(["a/x.nii.gz", "a/x.nii", "c/z.nii"]) == ["a_x", "a_x_2", "z"]
    assert distinct_names(["a/x_y.nii", "b/x:y.nii", "c/X_Y.nii"]) == ["a_x_y", "b_x_y", "c_X_Y"]
    assert distinct_names(["a/x.nii", "b/x.nii", "c/a_x.nii"]) == ["a_x", "b_x", "c_a_x"]
    assert distinct_names(["x.nii", "a/../b/x.nii", "x.nii.gz"]) == ["x", "b_x", "x_2"]
    bids = ["sub-01/dwi/dwi.nii.gz", "sub-02/dwi/dwi.nii.gz", "sub-02/dwi/dwi.nii"]
    assert distinct_names(bids) == ["sub-01_dwi_dwi", "sub-02_dwi_dwi", "sub-02_dwi_dwi_2"]
    assert distinct_names(bids[::-1]) == ["sub-02_dwi_dwi", "sub-02_dwi_dwi_2", "sub-01_dwi_dwi"]


@pytest.mark.parametrize("long", ["x" * 220, "\u6f22" * 80])
def test_long_names_are_told_apart_as_the_folders_that_they_become(long: str) -> None:
    names = distinct_names([f"a/{long}{end}.nii" for end in "ABCDEFGHIJKL"] + ["array", "array"])
    assert len({folder_name(name).casefold() for name in names}) == len(names) == 14
    assert all(folder_name(name) == name and len(name.encode()) <= 200 for name in names)
