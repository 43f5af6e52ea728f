"""Reading the high-b volume of a folder of DICOM files with the usual libraries, each as its documentation shows.

Each reader picks the b-value by the headers, since all b-values lie in one series, and gives voxels with their affine.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813

from lnfast.geometry import Grid, Volume

DicomReader = Callable[[Path, float], Volume]

SITK, DCM2NIIX, PYDICOM = "SimpleITK series reader", "dcm2niix + nibabel", "pydicom"
_B_VALUE, _POSITION, _ORIENTATION = "0018|9087", "0020|0032", "0020|0037"
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])


def dicom_readers(progress: Callable[[str], None]) -> dict[str, DicomReader]:
    """Return the readers that can run here, by name; progress names the program that is missing."""
    readers: dict[str, DicomReader] = {SITK: read_with_sitk, PYDICOM: read_with_pydicom}
    if dcm2niix_program() is None:
        progress(f"pipeline: without {DCM2NIIX}: the package dcm2niix is not installed")
    else:
        readers[DCM2NIIX] = read_with_dcm2niix
    return readers


def dcm2niix_program() -> Path | None:
    """Return the program in the package dcm2niix; None where there is none."""
    spec = find_spec("dcm2niix")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for name in ("dcm2niix", "dcm2niix.exe"):
            if (program := Path(folder) / name).is_file():
                return program
    return None


def read_with_sitk(folder: Path, b_value: float) -> Volume:
    """Read the headers with SimpleITK's file reader, then the files of the b-value with its series reader."""
    header = sitk.ImageFileReader()
    places = []
    for path in sorted(folder.iterdir()):
        header.SetFileName(str(path))
        header.ReadImageInformation()
        if float(header.GetMetaData(_B_VALUE)) == b_value:
            position, orientation = (
                [float(number) for number in header.GetMetaData(tag).split("\\")] for tag in (_POSITION, _ORIENTATION)
            )
            places.append((_depth(position, orientation), str(path)))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([path for _, path in sorted(places)])
    image = reader.Execute()
    size = np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = _RAS_FROM_LPS @ (np.array(image.GetDirection()).reshape(3, 3) * size)
    affine[:3, 3] = _RAS_FROM_LPS @ np.array(image.GetOrigin())
    array = sitk.GetArrayFromImage(image)
    return Volume(array, Grid(array.shape, affine))


def read_with_dcm2niix(folder: Path, b_value: float) -> Volume:
    """Convert all b-values with dcm2niix, a process, and read the volume of one with nibabel."""
    with tempfile.TemporaryDirectory(prefix="lnfast-dcm2niix-") as out:
        command = [str(dcm2niix_program()), "-z", "n", "-b", "n", "-f", "dwi", "-o", out, str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        values = [float(number) for number in (Path(out) / "dwi.bval").read_text().split()]
        image: Any = nib.load(Path(out) / "dwi.nii")
        array = np.asarray(image.dataobj[..., values.index(b_value)]).transpose(2, 1, 0)
        return Volume(array, Grid(array.shape, np.asarray(image.affine)))


def read_with_pydicom(folder: Path, b_value: float) -> Volume:
    """Read every file with dcmread, sort those of the b-value along their normal, and stack their pixel_array."""
    read = (pydicom.dcmread(path) for path in folder.iterdir())
    datasets = [dataset for dataset in read if dataset.DiffusionBValue == b_value]
    datasets.sort(key=lambda dataset: _depth(dataset.ImagePositionPatient, dataset.ImageOrientationPatient))
    array = np.stack([dataset.pixel_array for dataset in datasets])
    first, last = datasets[0], datasets[-1]
    between_rows, between_columns = (float(size) for size in first.PixelSpacing)
    orientation = [float(number) for number in first.ImageOrientationPatient]
    start, end = (np.array([float(n) for n in dataset.ImagePositionPatient]) for dataset in (first, last))
    affine = np.eye(4)
    affine[:3, 0] = _RAS_FROM_LPS @ orientation[:3] * between_columns
    affine[:3, 1] = _RAS_FROM_LPS @ orientation[3:] * between_rows
    affine[:3, 2] = _RAS_FROM_LPS @ (end - start) / (len(datasets) - 1)
    affine[:3, 3] = _RAS_FROM_LPS @ start
    return Volume(array, Grid(array.shape, affine))


def _depth(position: list[float], orientation: list[float]) -> float:
    """Return how far along the normal of its plane an image lies."""
    return float(np.dot(np.cross(orientation[:3], orientation[3:]), position))
