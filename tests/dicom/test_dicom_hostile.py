"""Files that mean to, or happen to, mislead: nothing wrong is taken, and nothing but a refusal is raised."""

from __future__ import annotations

import os
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import write_series

from lnfast.errors import StudyError
from lnfast.study.bvalues import BRule
from lnfast.study.dicom import DicomChoice, read_dicom
from lnfast.study.dicom.packages import quiet

CARD = BRule((800.0, 1000.0), 500.0, 1500.0)
AFFINE = np.array([[-1.5, 0, 0, 60], [0, -1.45, 0, 70], [0, 0, 5, -40], [0, 0, 0, 1.0]])


def voxels(seed: int = 0, shape: tuple[int, int, int] = (10, 12, 9)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, shape, dtype=np.uint16)


def refusal(path: Path, choice: DicomChoice | None = None) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_dicom(path, CARD, choice)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and "SECRET" not in message and str(path) not in message
    return caught.value


def _gone(name: str) -> Callable[[pydicom.Dataset, int], None]:
    def change(dataset: pydicom.Dataset, z: int) -> None:
        delattr(dataset, name)

    return change


def _on_slice(index: int, **values: Any) -> Callable[[pydicom.Dataset, int], None]:
    def change(dataset: pydicom.Dataset, z: int) -> None:
        if z == index:
            for name, value in values.items():
                setattr(dataset, name, value)

    return change


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
    write_series(tmp_path, voxels(), AFFINE, change=_gone(name))
    assert refusal(tmp_path).code == "damaged"


def test_a_scale_beyond_float32_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(), AFFINE, change=_on_slice(3, RescaleSlope="1e300", RescaleIntercept="0"))
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


# ------------------------------------------------------------------------------------------------ folders and pipes


def test_pipes_and_links_to_nowhere_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path / "a", voxels(), AFFINE)
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a" / "loop")
    (tmp_path / "a" / "nowhere").symlink_to(tmp_path / "not there")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    assert read_dicom(tmp_path / "a", CARD).volume.array.shape == (10, 12, 9)
    assert refusal(tmp_path / "a" / "pipe").code == "not-dicom"


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
