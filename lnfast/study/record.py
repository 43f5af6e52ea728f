"""`Study` and `Provenance`: one diffusion-weighted volume, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from lnfast.geometry import Volume


@dataclass(frozen=True)
class DicomSource:
    """Which images of a DICOM series a study is made of.

    Attributes:
        series_number: the scanner's; None where the images have none.
        computed_b: the image was computed for its b-value and not acquired.
        frames: ``(path, index within the file)`` of each slice, in the order of the volume's slices.
        instances: hex digest of the patient, study and instance of each slice: another's files may take their place.
        twins: the files of each other volume that has slices at exactly the same places.
    """

    series_number: int | None
    computed_b: bool
    frames: tuple[tuple[str, int], ...]
    instances: str = ""
    twins: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where a study came from. It has nothing from the patient header.

    Attributes:
        format: ``"nifti-1"``, ``"nifti-2"``, ``"dicom"`` or ``"array"``.
        path: as the caller gave it; None for an array.
        sha256: hex digest of the file's bytes; None for an array.
        volume_index: which volume of a 4D file, from 0; None where the file has one.
        b_values: of all volumes in s/mm2, where a ``.bval`` file gives them.
        notes: lines for a person about what was chosen.
        warnings: ``(code, message)`` for the report, about what a person should check.
        dicom: which images it was made of, where it was read from DICOM.
    """

    format: str
    path: str | None = None
    sha256: str | None = None
    volume_index: int | None = None
    b_values: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    dicom: DicomSource | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """One diffusion-weighted volume.

    Attributes:
        name: file name without ``.nii``, ``.nii.gz`` and a trailing ``_0000``.
        volume: stored values on the native grid, ``(z, y, x)``; a read-only view of the bytes that were read.
        slope, inter: real value = slope * stored + inter; slope is above 0.
        b_value: s/mm2, where known.
        provenance: what was read and what was chosen.
    """

    name: str
    volume: Volume
    slope: float
    inter: float
    b_value: float | None
    provenance: Provenance
