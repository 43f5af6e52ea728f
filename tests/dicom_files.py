"""Writes DICOM series, and copies of real ones that are changed in one place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from lnfast.errors import StudyError
from lnfast.study.bvalues import BRule
from lnfast.study.dicom import DicomChoice, read_dicom

SECRET = "SECRET^NAME"
CARD = BRule((800.0, 1000.0), 500.0, 1500.0)  # as the shipped model's card has it


def write_series(
    folder: Path,
    voxels_zyx: NDArray[Any],
    affine_ras: NDArray[np.float64],
    *,
    b_value: float | None = 800.0,
    number: int = 5,
    change: Callable[[pydicom.Dataset, int], None] | None = None,
    seed: str = "a",
) -> list[Path]:
    """A classic MR series of explicit VR little endian, one file a slice.

    Args:
        folder: made where it is missing.
        voxels_zyx: uint16 or int16.
        affine_ras: (4, 4), index (x, y, z, 1) to RAS+ mm, right-angled.
        b_value: s/mm2, as the standard's element; None writes none.
        number: of the series.
        change: called with each dataset and its slice before it is written.
        seed: of the UIDs: series of one seed are of one study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = to_lps @ affine_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    row, column = affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]
    study, frame = (generate_uid(entropy_srcs=[seed, what]) for what in ("study", "frame"))
    series = generate_uid(entropy_srcs=[seed, "series", str(number)])
    paths = []
    for z, pixels in enumerate(voxels_zyx):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[seed, str(number), str(z)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientName, dataset.PatientID, dataset.Modality = SECRET, "SECRETID", "MR"
        dataset.StudyDescription, dataset.SeriesDescription = "SECRET study", "SECRET dwi"
        dataset.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]
        dataset.Manufacturer, dataset.SeriesNumber, dataset.InstanceNumber = "SECRET maker", number, z + 1
        dataset.ImagePositionPatient = [f"{value:.8g}" for value in (affine @ (0, 0, z, 1))[:3]]
        dataset.ImageOrientationPatient = [f"{value:.10g}" for value in (*row, *column)]
        dataset.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
        dataset.SliceThickness = f"{spacing[2]:.6g}"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = int(voxels_zyx.dtype.kind == "i")
        if b_value is not None:
            dataset.DiffusionBValue = float(b_value)
        dataset.PixelData = pixels.tobytes()
        if change:
            change(dataset, z)
        path = folder / f"slice{z:03d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def copy_changed(
    source: Path, target: Path, change: Callable[[pydicom.Dataset], None] | None = None, skip: Iterable[str] = ()
) -> Path:
    """A copy of a folder of files in which every dataset is changed.

    Args:
        source: folder with DICOM files.
        target: made; the copies have the same names.
        change: of each dataset; None copies the bytes.
        skip: names that are left out.
    """
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.name in skip:
            continue
        if change is None:
            shutil.copy(path, target)
            continue
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(target / path.name)
    return target


def voxels(seed: int = 0, shape: tuple[int, int, int] = (10, 12, 9)) -> NDArray[np.uint16]:
    """Seeded values of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4000, shape, dtype=np.uint16)


def on_slice(index: int, **values: Any) -> Callable[[pydicom.Dataset, int], None]:
    """For `write_series`: set elements of one slice."""

    def change(dataset: pydicom.Dataset, z: int) -> None:
        if z == index:
            for name, value in values.items():
                setattr(dataset, name, value)

    return change


def without(name: str) -> Callable[[pydicom.Dataset, int], None]:
    """For `write_series`: remove an element of every slice."""

    def change(dataset: pydicom.Dataset, z: int) -> None:
        delattr(dataset, name)

    return change


def refusal(path: Path, rule: BRule = CARD, choice: DicomChoice | None = None) -> StudyError:
    """The refusal of a folder, whose message is one line without any text of a header or path."""
    with pytest.raises(StudyError) as caught:
        read_dicom(path, rule, choice)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and "SECRET" not in message and str(path) not in message
    return caught.value
