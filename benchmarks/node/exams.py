"""Digital patients as DICOM examinations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.harness.series import write_series
from benchmarks.harness.settings import Settings
from lnfast.geometry import Grid, Volume

# A small exam: every second slice and every third pixel of the patient, which leaves the field of view as it is.
STEPS_ZYX = (2, 3, 3)


def patient(settings: Settings) -> Volume:
    """Return the phantom that is sent."""
    return next(iter(settings.phantoms().values()))


def coarse(volume: Volume) -> Volume:
    """Return every n-th voxel along each axis, by `STEPS_ZYX`."""
    array = np.ascontiguousarray(volume.array[tuple(slice(None, None, step) for step in STEPS_ZYX)])
    affine = volume.grid.affine @ np.diag([*map(float, STEPS_ZYX[::-1]), 1.0])
    return replace(volume, array=array, grid=Grid(array.shape, affine))


@contextmanager
def exam(volume: Volume, name: str) -> Iterator[Path]:
    """Write an exam, whose UIDs follow from its name, for as long as it is needed."""
    with TemporaryDirectory(prefix="lnfast-exam-") as folder:
        yield write_series(volume, Path(folder), name)
