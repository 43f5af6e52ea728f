"""Studies as files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib

from lnfast.geometry import Volume


def write_study(volume: Volume, path: Path) -> Path:
    """A phantom as a scanner's converter leaves it: int16, gzipped; the path."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path
