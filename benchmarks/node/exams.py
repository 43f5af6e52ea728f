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
from lnfast.phantom import make_phantom

# An exam of 28 slices and 3 b-values: 84 instances. A small one, of which little is left but the way that it takes.
WHOLE, SMALL = "ingenia", "achieva"
# Every second slice and every third pixel, which leaves the field of view as it is.
STEPS_ZYX = (2, 3, 3)
# Brighter voxels are dimmed, which leaves a few nodes: the objects of many nodes take longer to write than all else.
BRIGHTEST_PERCENTILE = 98.0


def whole_patient(settings: Settings) -> Volume:
    """Return the phantom that takes the time of a patient."""
    return make_phantom(settings.seed, WHOLE).volume


def small_patient(settings: Settings) -> Volume:
    """Return the phantom that is sent a thousand times."""
    return coarse(make_phantom(settings.seed, SMALL).volume)


def coarse(volume: Volume) -> Volume:
    """Return every n-th voxel along each axis, by `STEPS_ZYX`, dimmed above `BRIGHTEST_PERCENTILE`."""
    array = volume.array[tuple(slice(None, None, step) for step in STEPS_ZYX)]
    dimmed = np.minimum(array, np.percentile(array, BRIGHTEST_PERCENTILE)).astype(array.dtype)
    affine = volume.grid.affine @ np.diag([*map(float, STEPS_ZYX[::-1]), 1.0])
    return replace(volume, array=dimmed, grid=Grid(dimmed.shape, affine))


@contextmanager
def exam(volume: Volume, name: str) -> Iterator[Path]:
    """Write an exam, whose UIDs follow from its name, for as long as it is needed."""
    with TemporaryDirectory(prefix="lnfast-exam-") as folder:
        yield write_series(volume, Path(folder), name)
