"""Phantoms as NIfTI files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib

from benchmarks.harness.settings import Settings
from lnfast.geometry import Volume
from lnfast.phantom import SCANNERS, make_phantom

# After the seeds of the studies on which peers run as well.
FIRST_SEED = 100


def write_study(volume: Volume, path: Path) -> Path:
    """Write a volume as a scanner's converter does, int16 and gzipped; return the path."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def write_cohort(settings: Settings, folder: Path, count: int) -> list[Path]:
    """Write phantoms of every scanner in turn, each another patient; return their files."""
    scanners = sorted(SCANNERS)
    paths = []
    for number in range(count):
        scanner, seed = scanners[number % len(scanners)], settings.seed + FIRST_SEED + number
        paths.append(write_study(make_phantom(seed, scanner).volume, folder / f"{scanner}-{seed}.nii.gz"))
    return paths
