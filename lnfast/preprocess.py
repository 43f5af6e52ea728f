"""Preprocess: write a study into the network's own input buffer, once.

Training uses this module too, so there is no second implementation that could differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.card import Body, ModelCard, ZScore
from lnfast.errors import StudyError
from lnfast.geometry import Volume
from lnfast.slabs import grid_for, slabs_of
from lnfast.window import Window
from lnfast_ext import BodyStatistics, body_statistics, intensity_statistics, resample_normalize

# Voxels this many times longer along one axis than along both others show the direction of the slices; the rounding of
# a header must not decide it.
THICK = 1.5 * (1 + 1e-5)


@dataclass(frozen=True)
class Normalization:
    """The map from stored values to the network's input: ``(clip(v, lo, hi) - shift) * scale``.

    Attributes:
        lo, hi, shift, scale: as above.
        padding: values above ``lo`` that fill voxels which were not acquired; at the ends of rows they count as
            ``lo``. Padding below ``lo`` needs no entry: it is clipped.
    """

    lo: float
    hi: float
    shift: float
    scale: float
    padding: tuple[float, ...] = ()


def measure_greys(volume: Volume, card: ModelCard, *, threads: int = 0) -> BodyStatistics:
    """Measure floor, tissue and padding of a study, whatever its axis order.

    Raises:
        StudyError: ``non-finite`` for NaN or infinity.
    """
    try:
        return body_statistics(volume.oriented(card.orientation).array, threads=threads)
    except ValueError as error:
        raise _non_finite(error) from error


def normalization(
    volume: Volume, card: ModelCard, *, greys: BodyStatistics | None = None, threads: int = 0
) -> Normalization:
    """Measure how the intensities of a study become the network's input.

    By ``body`` the floor and the tissue of the patient become the card's values for them. By ``zscore`` all voxels are
    clipped at percentiles, then mean and deviation of the clipped voxels become 0 and 1.

    Neither changes under ``slope * v + inter`` with a positive slope, so stored values serve as they are.

    Args:
        volume: native grid, any strides.
        card: says which normalization.
        greys: as `measure_greys` returns them; measured here if needed and None.
        threads: 0 takes one per core.

    Raises:
        StudyError: ``non-finite`` for NaN or infinity, ``constant`` where nearly all voxels are equal.
    """
    if isinstance(card.normalization, ZScore):
        return _zscore(volume, card.normalization, threads)
    return _body(greys or measure_greys(volume, card, threads=threads), card.normalization)


def write_input(
    volume: Volume,
    card: ModelCard,
    out: NDArray[Any],
    *,
    norm: Normalization | None = None,
    window: Window | None = None,
    threads: int = 0,
) -> Normalization:
    """Write a study, or the part of it in a window, into the network's input buffer.

    Intensities are measured on the whole study, so a window has the same values as the whole grid there.

    Args:
        volume: native grid, any strides.
        card: says grid, axes and normalisation.
        out: ``(z, y, x)`` float32 or float16, C-contiguous, of the window's shape; every value is overwritten. It may
            have more slices than the window: the middle ones are the window's, and the others get the value of air.
        norm: of this very study, as `normalization` returns it; measured here when None.
        window: of a grid of `lnfast.slabs.grid_for`; None for all of the card's.
        threads: 0 takes one per core.

    Raises:
        StudyError: ``not-axial`` for thick slices that run another way than the model's; as `normalization`.
        UsageError: ``bad-window`` for a window of a grid with another plane or too few slices, or an output of another
            shape than the window's.
    """
    part = out
    if window is not None:
        part = window.part_of(out)
        window.check(part.shape, card.least_grid_zyx)
    view = volume.oriented(card.orientation)
    _check_slices(view)
    if norm is None:
        norm = normalization(volume, card, threads=threads)
    resample_normalize(
        without_padding(view, card, norm)[0].array,
        part,
        lo=norm.lo,
        hi=norm.hi,
        shift=norm.shift,
        scale=norm.scale,
        grid=None if window is None else window.grid_zyx,
        start=(0, 0, 0) if window is None else window.start_zyx,
        threads=threads,
    )
    if len(part) < len(out):
        first = (len(out) - len(part)) // 2
        out[:first] = out[first + len(part) :] = (norm.lo - norm.shift) * norm.scale
    return norm


def write_slabs(volume: Volume, card: ModelCard, out: NDArray[Any], *, threads: int = 0) -> Iterator[Window]:
    """Write a study into the network's input buffer slab by slab, and yield each slab when it is written.

    It is one slab, all of the study's grid, unless the study has many thin slices (`lnfast.slabs`). Of the network's
    output `Window.part_of` is the slab's.

    Args:
        volume: native grid, any strides.
        card: says grid, axes and normalisation.
        out: as of `write_input`, of the card's shape.
        threads: 0 takes one per core.

    Raises:
        StudyError: as `write_input`.
    """
    grid_zyx = grid_for(volume.oriented(card.orientation).grid, card.shape_zyx, kept=card.keeps_slices)
    source, norm = without_padding(volume, card, normalization(volume, card, threads=threads))
    for slab in slabs_of(grid_zyx, card.shape_zyx):
        write_input(source, card, out, norm=norm, window=slab, threads=threads)
        yield slab


def _zscore(volume: Volume, wanted: ZScore, threads: int) -> Normalization:
    """Measure mean and deviation of the clipped voxels.

    Without clipping, a single stray voxel of 1e6 would make the deviation so large that the network saw a flat field,
    found nothing, and the patient was N0.
    """
    try:
        low, high, mean, std, (lo, hi) = intensity_statistics(
            volume.array, wanted.clip_percentiles, clipped=True, threads=threads
        )
    except ValueError as error:
        raise _non_finite(error) from error
    if not (high > low and hi > lo and std > 0.0):
        raise StudyError("constant", f"all but a few voxels have the value {lo:g}: there is nothing to see")
    return Normalization(float(lo), float(hi), mean, 1.0 / std)


def _body(greys: BodyStatistics, wanted: Body) -> Normalization:
    height = greys.tissue - greys.floor
    if not height > 0.0:
        raise StudyError("constant", f"all but a few voxels have the value {greys.floor:g}: there is nothing to see")
    scale = (wanted.tissue - wanted.floor) / height
    return Normalization(
        lo=greys.floor,
        hi=greys.floor + (wanted.ceiling - wanted.floor) / scale,
        shift=greys.floor - wanted.floor / scale,
        scale=scale,
        padding=tuple(float(value) for value in greys.padding if value > greys.floor),
    )


def without_padding(volume: Volume, card: ModelCard, norm: Normalization) -> tuple[Volume, Normalization]:
    """Return a study in which runs of padding at the ends of rows have the value of air, and its normalization.

    So interpolation leaves no trace of them at their border. Few studies are padded with anything but their least
    value, and only these are copied, in the card's orientation. Whoever writes several windows of a study calls this
    first, so that it is copied once.
    """
    if not norm.padding:
        return volume, norm
    view = volume.oriented(card.orientation)
    array = view.array
    outside = np.zeros(array.shape, np.bool_)
    for value in norm.padding:
        same = array == value
        for ends in (same, same[:, :, ::-1]):
            run = np.logical_and.accumulate(ends, axis=2)
            outside |= run if ends is same else run[:, :, ::-1]
    copy = np.array(array)
    # The floor of integers is a percentile between two of them; values below it are clipped to it.
    copy[outside] = norm.lo if copy.dtype.kind == "f" else np.floor(norm.lo)
    return Volume(copy, view.grid), replace(norm, padding=())


def _non_finite(error: ValueError) -> StudyError:
    if "non-finite" not in str(error):
        raise error
    return StudyError("non-finite", "the study has voxels that are NaN or infinite; export it again")


def _check_slices(view: Volume) -> None:
    """Refuse coronal and sagittal stacks: the network saw none in training, and nodes are read in axial slices.

    One of their axes in plane is as thick as a slice. An axial stack whose slices are thinner than its pixels has two
    such axes.
    """
    z, y, x = view.grid.spacing_zyx_mm
    if max(y, x) > THICK * max(z, min(y, x)):
        raise StudyError(
            "not-axial",
            f"got slices of {max(y, x):.3g} mm that stand upright (voxels are {x:.3g} x {y:.3g} x {z:.3g} mm from side "
            "to side, front to back and foot to head), wanted an axial or nearly axial stack; give that series",
        )
