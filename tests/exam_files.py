"""Small exams and a fast model for tests of a node: a run takes milliseconds, and what it must find is known.

Every exam has two series (a b = 50 and a b = 800 image), UIDs of its own, and SECRET in every element that takes text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from dicom_files import write_series
from model_files import blob_network, make_model_folder
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

SLICES = 8
SHAPE_ZYX = (SLICES, 32, 32)
AFFINE_RAS = np.array([[-4.0, 0, 0, 64], [0, -4.0, 0, 64], [0, 0, 4.0, -16], [0, 0, 0, 1]])
# Edges of the block of bright voxels, of 4 mm: 16 mm is suspicious, 4 mm is not.
NODES = {"N1": (4, 4, 4), "N0": (1, 1, 1), "no nodes": (0, 0, 0)}
_B_VALUES = (50.0, 800.0)
# Text elements of patient, study, series and equipment that an MR image may have, by their keywords.
_TEXTS = (
    "AccessionNumber",
    "InstitutionName",
    "InstitutionAddress",
    "ReferringPhysicianName",
    "StationName",
    "StudyDescription",
    "SeriesDescription",
    "InstitutionalDepartmentName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "ManufacturerModelName",
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "EthnicGroup",
    "Occupation",
    "AdditionalPatientHistory",
    "PatientComments",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ProtocolName",
    "StudyID",
    "RequestedProcedureDescription",
    "PerformedProcedureStepDescription",
    "ImageComments",
    "BodyPartExamined",
    "Manufacturer",
)


def small_model(folder: Path) -> Path:
    """A model folder whose network marks what is 4 deviations above the mean; it takes exams of any size."""
    return make_model_folder(
        folder, blob_network(SHAPE_ZYX, at=4.0), shape_zyx=SHAPE_ZYX, clip_percentiles=[0.0, 100.0], b_targets=[800]
    )


def exam_voxels(stage: str = "N1", seed: int = 0) -> NDArray[np.uint16]:
    """Tissue with noise, and the block of `NODES`."""
    voxels = np.random.default_rng(seed).integers(90, 110, SHAPE_ZYX, dtype=np.uint16)
    block = tuple(
        slice(n // 2 - edge // 2, n // 2 - edge // 2 + edge) for n, edge in zip(SHAPE_ZYX, NODES[stage], strict=True)
    )
    voxels[block] = 1000
    return voxels


def write_exam(folder: Path, seed: str, stage: str = "N1", *, slices: int = SLICES) -> list[Path]:
    """Write one exam: a series of b = 50 and one of b = 800.

    Args:
        folder: made where it is missing; each series is a folder in it.
        seed: of all its UIDs, and of its noise.
        stage: of `NODES`: what a run must find.
        slices: of the b = 800 series; the other one has all.

    Returns:
        All files, in the order in which a scanner sends them.
    """
    noise = int.from_bytes(seed.encode(), "big") % 2**32
    paths: list[Path] = []
    for number, b_value in enumerate(_B_VALUES, 5):
        voxels = exam_voxels(stage if b_value == _B_VALUES[-1] else "no nodes", noise + number)
        series = folder / f"series{number}"
        paths += write_series(
            series, voxels, AFFINE_RAS, b_value=b_value, number=number, change=add_secrets, seed=seed
        )[: slices if b_value == _B_VALUES[-1] else None]
        for path in set(series.iterdir()) - set(paths):
            path.unlink()
    return paths


def add_secrets(dataset: Dataset, z: int = 0) -> None:
    """Put SECRET into every text element of `_TEXTS`, and into a private block, of a dataset."""
    for keyword in _TEXTS:
        vr = pydicom.datadict.dictionary_VR(keyword)
        setattr(dataset, keyword, "SECRET^NAME" if vr == "PN" else "SECRET")
    dataset.PatientBirthDate, dataset.PatientSex = "19420613", "M"
    dataset.private_block(0x0011, "SECRET CREATOR", create=True).add_new(0x01, "LO", "SECRET PRIVATE")
    request = Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepDescription = "SECRET", "SECRET"
    dataset.RequestAttributesSequence = Sequence([request])


def uids_of(paths: list[Path]) -> set[str]:
    """Every UID that tells of the patient: of studies, series, instances and frames of reference."""
    found: set[str] = set()
    for path in paths:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            found.add(str(dataset[keyword].value))
    return found
