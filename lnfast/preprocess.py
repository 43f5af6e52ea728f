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
from lnfast.window import Window
from lnfast_ext import intensity_statistics, resample_normalize

# A voxel this many times as long one way as another shows which way the slices of a stack lie.
THICK = 1.5


@dataclass(frozen=True)
class Normalization:
    """The affine map of intensities that the network saw: ``(clip(v, lo, hi) - shift) * scale``, stored units."""

    lo: float
    hi: float
    shift: float
    scale: float


def normalization(volume: Volume, card: ModelCard, *, threads: int = 0) -> Normalization:
    """Measure the intensities of a study: percentiles to clip at, then mean and deviation of the clipped voxels.

    Of the clipped ones, because a single stray voxel of 1e6 would make the deviation of all so large that the network
    saw a flat field, found nothing, and the patient was N0.

    A z-score does not change under ``slope * v + inter`` with a positive slope, so stored values serve as they are.

    Raises:
        StudyError: ``non-finite`` for NaN or infinity, ``constant`` where there is nothing to see.
    """
    try:
        low, high, mean, std, (lo, hi) = intensity_statistics(
            volume.array, card.clip_percentiles, clipped=True, threads=threads
        )
    except ValueError as error:
        if "non-finite" not in str(error):
            raise
        raise StudyError("non-finite", "the study has voxels that are NaN or infinite; export it again") from error
    if not (high > low and hi > lo and std > 0.0):
        raise StudyError("constant", f"all but a few voxels have the value {lo:g}: there is nothing to see")
    return Normalization(float(lo), float(hi), mean, 1.0 / std)


def write_input(
    volume: Volume, card: ModelCard, out: NDArray[Any], *, window: Window | None = None, threads: int = 0
) -> Normalization:
    """Write a study, or the part of it in a window, into the network's input buffer.

    Intensities are measured on the whole study: a window has the values that the whole grid has there.

    Args:
        volume: native grid, any strides.
        card: says grid, axes and normalisation.
        out: ``(z, y, x)`` float32 or float16, C-contiguous, of the window's shape; every value is overwritten.
        window: of the grid of ``card.shape_zyx``; None for all of it.
        threads: 0 takes one per core.

    Raises:
        StudyError: ``not-axial`` for thick slices that run another way than the model's; as `normalization`.
        UsageError: ``bad-window`` for a window of another grid, or an output of another shape than the window's.
    """
    if window is not None:
        window.check(out.shape, card.shape_zyx)
    view = volume.oriented(card.orientation)
    _check_slices(view)
    norm = normalization(volume, card, threads=threads)
    resample_normalize(
        view.array,
        out,
        lo=norm.lo,
        hi=norm.hi,
        shift=norm.shift,
        scale=norm.scale,
        grid=None if window is None else window.grid_zyx,
        start=(0, 0, 0) if window is None else window.start_zyx,
        threads=threads,
    )
    return norm


def _check_slices(view: Volume) -> None:
    """Coronal and sagittal stacks look like nothing that the network saw, and nodes are read in axial slices."""
    z, y, x = view.grid.spacing_zyx_mm
    if max(y, x) > THICK * z:
        raise StudyError(
            "not-axial",
            f"got slices of {max(y, x):.3g} mm that stand upright (voxels are {x:.3g} x {y:.3g} x {z:.3g} mm from side "
            "to side, front to back and foot to head), wanted an axial or nearly axial stack; give that series",
        )
