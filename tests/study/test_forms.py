"""The sform and qform of a NIfTI header: one bad form gives a warning, two bad forms are refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from nifti_files import SROW, voxels, write_nifti

from lnfast.errors import StudyError
from lnfast.study import Study, read_study

SHAPE = (4, 6, 5)
AFFINE = np.array([*SROW, (0, 0, 0, 1)])
NAN, INF = float("nan"), float("inf")
PIXDIM = (1.0, 1.5, 1.5, 5.0, 1.0, 1.0, 1.0, 1.0)
GOOD_S = {"sform_code": 1, "srow": sum(SROW, ())}
GOOD_Q = {"qform_code": 1, "pixdim": PIXDIM, "quatern": (0.0, 0.0, 1.0), "qoffset": (60.0, 70.0, -40.0)}  # = GOOD_S

BAD_Q = {
    "first size negative": {"pixdim": (1, -1.5, 1.5, 5, 1, 1, 1, 1)},
    "all sizes negative": {"pixdim": (1, -1.5, -1.5, -5, 1, 1, 1, 1)},
    "a size of zero": {"pixdim": (1, 1.5, 0, 5, 1, 1, 1, 1)},
    "all sizes zero": {"pixdim": (0,) * 8},
    "a size that is no number": {"pixdim": (1, 1.5, NAN, 5, 1, 1, 1, 1)},
    "an infinite size": {"pixdim": (1, 1.5, 1.5, INF, 1, 1, 1, 1)},
    "sizes that are no numbers": {"pixdim": (NAN,) * 8},
    "quaternion too long": {"quatern": (1.0, 1.0, 0.0)},
    "quaternion far too long": {"quatern": (1e30, 1e30, 1e30)},
    "quaternion no number": {"quatern": (NAN, 0.0, 0.0)},
    "quaternion infinite": {"quatern": (0.0, 0.0, INF)},
    "offset no number": {"qoffset": (NAN, 0.0, 0.0)},
    "offset infinite": {"qoffset": (0.0, -INF, 0.0)},
    "offset beyond all": {"qoffset": (0.0, 0.0, 1e30)},
}
BAD_S = {
    "zeros": (0.0,) * 12,
    "zeros with an offset": (0, 0, 0, 60, 0, 0, 0, 70, 0, 0, 0, -40),
    "no numbers": (NAN,) * 12,
    "one no number": (NAN, *sum(SROW, ())[1:]),
    "infinite offset": (*sum(SROW, ())[:3], INF, *sum(SROW, ())[4:]),
    "an axis of zeros": (1.5, 0, 0, 0, 0, 1.5, 0, 0, 0, 0, 0, 0),
    "three equal rows": (1.5, 0, 0, 0) * 3,
    "two equal axes": (1.5, 1.5, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0),
    "axes in a plane": (1, 2, 3, 0, 4, 5, 9, 0, 7, 8, 15, 0),
    "beyond all": (1e30, *sum(SROW, ())[1:]),
}
versions = pytest.mark.parametrize("version", [1, 2])


def codes(study: Study) -> list[str]:
    return [code for code, _ in study.provenance.warnings if code != "unknown-b-value"]


def refusal(path: Path) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(path)
    return caught.value


@versions
@pytest.mark.parametrize("case", BAD_Q)
def test_a_good_sform_is_taken_where_the_qform_is_bad(tmp_path: Path, case: str, version: int) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), version=version, **GOOD_S | GOOD_Q | BAD_Q[case])
    study = read_study(path)
    np.testing.assert_array_equal(study.volume.grid.affine, AFFINE)
    np.testing.assert_array_equal(study.volume.array, voxels(SHAPE))
    assert codes(study) == ["bad-qform"]
    assert dict(study.provenance.warnings)["bad-qform"].endswith("; the sform was used")


@versions
@pytest.mark.parametrize("case", BAD_S)
def test_a_good_qform_is_taken_where_the_sform_is_bad(tmp_path: Path, case: str, version: int) -> None:
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), version=version, **GOOD_Q, sform_code=1, srow=BAD_S[case])
    study = read_study(path)
    np.testing.assert_allclose(study.volume.grid.affine, AFFINE, atol=1e-5)
    assert codes(study) == ["bad-sform"]
    assert dict(study.provenance.warnings)["bad-sform"].endswith("; the qform was used")


@pytest.mark.parametrize("bad_s", BAD_S)
def test_two_bad_forms_are_refused(tmp_path: Path, bad_s: str) -> None:
    for bad_q in BAD_Q.values():
        path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), **GOOD_Q | bad_q, sform_code=1, srow=BAD_S[bad_s])
        error = refusal(path)
        assert error.code == "bad-geometry" and "the sform" in error.message and "the qform" in error.message


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_a_bad_form_alone_is_refused(tmp_path: Path, form: str) -> None:
    cases = [{"qform_code": 0, "sform_code": 1, "srow": rows} for rows in BAD_S.values()]
    if form == "qform":
        cases = [GOOD_Q | case | {"sform_code": 0} for case in BAD_Q.values()]
    for case in cases:
        error = refusal(write_nifti(tmp_path / "a.nii", voxels(SHAPE), **case))
        assert error.code == "bad-geometry" and f"the {form} has" in error.message


def test_two_good_forms_that_disagree_about_the_voxel_are_refused(tmp_path: Path) -> None:
    """It is refused even where an axis would be refused later: nothing tells which of the two is right."""
    for pixdim in ((1, 1.5, 1.5, 6, 1, 1, 1, 1), (1, 1.5, 1.5, 50, 1, 1, 1, 1), (1, 1e-3, 1e-3, 5e-3, 1, 1, 1, 1)):
        path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), **GOOD_S | GOOD_Q | {"pixdim": pixdim})
        assert refusal(path).code == "bad-geometry"


def test_the_sizes_of_a_qform_without_a_rotation_still_count(tmp_path: Path) -> None:
    bad = {"quatern": (1.0, 1.0, 0.0), "pixdim": (1, 3, 3, 5, 1, 1, 1, 1)}
    assert refusal(write_nifti(tmp_path / "a.nii", voxels(SHAPE), **GOOD_S | GOOD_Q | bad)).code == "bad-geometry"


def test_a_sheared_sform_is_refused_also_beside_a_good_qform(tmp_path: Path) -> None:
    """A registration to an atlas, perhaps: the voxels may have been moved, so the scanner's qform is not trusted."""
    srow = (1.5, 0.3, 0, 0, 0, 1.47, 0, 0, 0, 0, 5, 0)
    path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), **GOOD_Q, sform_code=1, srow=srow)
    assert refusal(path).code == "bad-geometry"


@pytest.mark.parametrize("seed", range(20))
def test_random_values_in_one_form_never_move_a_voxel(tmp_path: Path, seed: int) -> None:
    """The affine is that of the good form, or the file is refused."""
    rng = random.Random(seed)
    rubbish = (0.0, NAN, INF, -INF, 1e30, -1.5, 1e-30, 3e38)
    accepted = 0
    for _ in range(30):
        rows, sizes = list(sum(SROW, ())), list(PIXDIM)
        for _ in range(rng.choice((1, 3, 12))):
            rows[rng.randrange(12)] = rng.choice(rubbish)
        for _ in range(rng.choice((1, 3))):
            sizes[rng.randrange(1, 4)] = rng.choice(rubbish)
        bad = rng.choice(({"srow": tuple(rows)}, {"pixdim": tuple(sizes)}))
        path = write_nifti(tmp_path / "a.nii", voxels(SHAPE), **GOOD_S | GOOD_Q | bad)
        try:
            study = read_study(path)
        except StudyError:
            assert refusal(path).code == "bad-geometry"
            continue
        accepted += 1
        if set(codes(study)) <= {"bad-qform", "bad-sform"}:
            atol = 1e-5 if codes(study) else 1.0  # nothing is said of two forms that lie within 1 mm of each other
            np.testing.assert_allclose(study.volume.grid.affine, AFFINE, atol=atol)
    assert accepted
