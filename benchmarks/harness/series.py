"""A phantom as a classic DICOM series with three b-values, one file a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from lnfast.geometry import Volume

B_VALUES, HIGH_B = (50, 400, 800), 800
# Of tissue in mm2/s: the lower b-values are as much brighter.
DIFFUSIVITY = 1e-3
# With these a header has as many elements as an anonymised one of a Siemens scanner, 126; others have up to 440.
FURTHER_ELEMENTS = 80
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(volume: Volume, folder: Path, exam: str = "") -> Path:
    """Write a volume as the high-b images of a series and brighter ones of the lower b-values; return the folder.

    The files are explicit VR little endian and uncompressed, as most scanners export them, and of no real patient.

    Args:
        volume: of whole numbers from 0 to 65535, at `HIGH_B`.
        folder: made where it is missing.
        exam: the UIDs follow from it: another one is another patient's examination.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = _LPS_FROM_RAS @ volume.grid.affine
    seeds = ["lnfast benchmark", *([exam] if exam else [])]
    uids = {name: generate_uid(entropy_srcs=[*seeds, name]) for name in ("study", "series", "frame")}
    for number, b_value in enumerate(B_VALUES):
        scaled = volume.array * np.exp((HIGH_B - b_value) * DIFFUSIVITY)
        voxels = volume.array if b_value == HIGH_B else np.round(scaled)
        for z, pixels in enumerate(np.clip(voxels, 0, 65535).astype("<u2")):
            dataset = _dataset(affine, z, uids)
            dataset.InstanceNumber = number * len(voxels) + z + 1
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*seeds, f"{b_value} {z}"])
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.SequenceName, dataset.DiffusionBValue = f"*ep_b{b_value}t", float(b_value)
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.PixelData = pixels.tobytes()
            dataset.save_as(folder / f"IM{dataset.InstanceNumber:04d}.dcm", enforce_file_format=True)
    return folder


def _dataset(affine: np.ndarray, z: int, uids: dict[str, pydicom.uid.UID]) -> FileDataset:
    """Return what the images of one place have in common; the affine is in DICOM's left, posterior, superior."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.Modality, dataset.Manufacturer = MRImageStorage, "MR", "SIEMENS"
    dataset.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "NORM", "DIS2D"]
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uids["study"], uids["series"]
    dataset.FrameOfReferenceUID, dataset.SeriesNumber = uids["frame"], 6
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "PHANTOM", "PHANTOM", ""
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "", "", ""
    dataset.ReferringPhysicianName, dataset.StudyDate, dataset.StudyTime = "", "20260101", "120000"
    dataset.SeriesDate, dataset.SeriesTime, dataset.AcquisitionTime = "20260101", "120000", "120000"
    dataset.SeriesDescription, dataset.ProtocolName = "ep2d_diff_tra_TRACEW", "ep2d_diff_tra"
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.MRAcquisitionType = "EP", "SK", "2D"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    row, column = affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]
    dataset.ImagePositionPatient = [f"{value:.8g}" for value in (affine @ (0, 0, z, 1))[:3]]
    dataset.ImageOrientationPatient = [f"{value:.10g}" for value in (*row, *column)]
    dataset.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = f"{spacing[2]:.8g}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    block = dataset.private_block(0x0099, "LNFAST PHANTOM", create=True)
    for number in range(FURTHER_ELEMENTS):
        block.add_new(number, "LO", f"element {number:08d}")
    return dataset
