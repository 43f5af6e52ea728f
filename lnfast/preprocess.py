"""A study into the network's own input buffer, written once.

Training uses this very module, so there is no second implementation to drift away from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lnfast.card import ModelCard
from lnfast.errors import StudyError
from lnfast.geometry import Volume
from lnfast_ext import intensity_statistics, resample_normalize


@dataclass(frozen=True)
class Normalization:
    """The affine map of intensities that the network saw: ``(clip(v, lo, hi) - shift) * scale``, stored units."""

    lo: float
    hi: float
    shift: float
    scale: float


def normalization(volume: Volume, card: ModelCard) -> Normalization:
    """Measure the intensities of a study: percentiles to clip at, mean and deviation of what is clipped for the z-score.

    Of the clipped voxels, because one stray voxel of 1e6 would make the deviation of all so large that the network saw
    a flat field, found nothing, and the patient was N0.

    A z-score does not change under ``slope * v + inter`` with a positive slope, so stored values serve as they are.

    Raises:
        StudyError: ``non-finite`` for NaN or infinity, ``constant`` where there is nothing to see.
    """
    try:
        low, high, mean, std, (lo, hi) = intensity_statistics(volume.array, card.clip_percentiles, clipped=True)
    except ValueError as error:
        if "non-finite" not in str(error):
            raise
        raise StudyError("non-finite", "the study has voxels that are NaN or infinite; export it again") from error
    if not (high > low and hi > lo and std > 0.0):
        raise StudyError("constant", f"all but a few voxels have the value {lo:g}: there is nothing to see")
    return Normalization(float(lo), float(hi), mean, 1.0 / std)


def write_input(volume: Volume, card: ModelCard, out: NDArray[Any], *, threads: int = 0) -> Normalization:
    """Write a study into the network's input buffer.

    Args:
        volume: native grid, any strides.
        card: says grid, axes and normalisation.
        out: ``(z, y, x)`` float32 or float16, C-contiguous, of ``card.shape_zyx``; every value is overwritten.
        threads: 0 takes one per core.

    Raises:
        StudyError: as `normalization`.
    """
    norm = normalization(volume, card)
    resample_normalize(
        volume.oriented(card.orientation).array,
        out,
        lo=norm.lo,
        hi=norm.hi,
        shift=norm.shift,
        scale=norm.scale,
        threads=threads,
    )
    return norm
