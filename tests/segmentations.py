"""Writes DICOM Segmentations of a label map, in any orientation and order of frames."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from lnfast.geometry import Volume


def write_segmentation(
    path: Path,
    sources: Sequence[Path],
    labels: Volume,
    *,
    all_frames: bool = False,
    seed: int | None = None,
    change: Callable[[Any], None] | None = None,
) -> Path:
    """A BINARY Segmentation as a viewer may write it: its slices are those of ``labels``, whatever the images' are.

    Args:
        sources: images of the series that it refers to.
        labels: each value above 0 becomes a segment.
        all_frames: also frames without voxels.
        seed: of a random order of frames; None keeps highdicom's.
        change: called with the dataset before it is written.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ labels.grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    row, column = affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]
    positions = [
        highdicom.PlanePositionSequence("PATIENT", [float(value) for value in (affine @ (0, 0, z, 1))[:3]])
        for z in range(labels.grid.shape[0])
    ]
    numbers = [int(number) for number in np.unique(labels.array) if number] or [1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = highdicom.seg.Segmentation(
            [_source(source) for source in sources],
            np.stack([labels.array == number for number in numbers], axis=-1).astype(np.uint8),
            highdicom.seg.SegmentationTypeValues.BINARY,
            [_segment(number) for number in range(1, len(numbers) + 1)],
            series_instance_uid=generate_uid(),
            series_number=77,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="SECRET maker",
            manufacturer_model_name="viewer",
            software_versions="1",
            device_serial_number="1",
            omit_empty_frames=not all_frames,
            pixel_measures=highdicom.PixelMeasuresSequence(
                [spacing[1], spacing[0]], float(spacing[2]), float(spacing[2])
            ),
            plane_orientation=highdicom.PlaneOrientationSequence("PATIENT", [*row, *column]),
            plane_positions=positions,
        )
    for segment, number in zip(built.SegmentSequence, numbers, strict=True):
        segment.SegmentNumber = number
    buffer = io.BytesIO()
    built.save_as(buffer, enforce_file_format=True)
    built = pydicom.dcmread(io.BytesIO(buffer.getvalue()))  # highdicom's groups of frames share objects
    for groups in (*built.PerFrameFunctionalGroupsSequence, *built.SharedFunctionalGroupsSequence):
        for identification in groups.get("SegmentIdentificationSequence", ()):
            identification.ReferencedSegmentNumber = numbers[identification.ReferencedSegmentNumber - 1]
    if seed is not None:
        order = np.random.default_rng(seed).permutation(int(built.NumberOfFrames))
        set_frames(built, [int(index) for index in order])
    if change:
        change(built)
    path.parent.mkdir(parents=True, exist_ok=True)
    built.save_as(path, enforce_file_format=True)
    return path


def set_frames(dataset: Any, indices: Sequence[int]) -> None:
    """Keep some frames of a dataset, in this order."""
    size = dataset.Rows * dataset.Columns
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: size * int(dataset.NumberOfFrames)].reshape(-1, size)[list(indices)]
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    dataset.PerFrameFunctionalGroupsSequence = [groups[index] for index in indices]
    dataset.NumberOfFrames = len(indices)


def _source(path: Path) -> Any:
    """The dataset of an image, with the elements that highdicom copies, at least empty."""
    dataset = pydicom.dcmread(path)
    for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
        if name not in dataset:
            setattr(dataset, name, None)
    dataset.ReferringPhysicianName = dataset.get("ReferringPhysicianName")
    return dataset


def _segment(number: int) -> Any:
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label="SECRET label",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.LymphNode,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
