"""Admission: check whether a study may be staged at all, before the network sees it.

A network gives an answer for any input: noise, a mask, an inverted image or a volume of three millimetres would be N0
without a warning. A study that cannot be a pelvic DWI is refused here with a code, and the measured facts are reported.

    extent       no-pelvis                             millimetres and slices that a pelvis needs
    greys        bad-scaling, constant, few-greys      numbers that an image has
    body         no-body, inverted-greys               a patient who is brighter than what lies around him
    trust        untrusted-greys                       the network would not see what it was trained on

The limits were set so that digital patients of every protocol and the real studies that the tests use pass with room to
spare: each names the extremes that were seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lnfast.card import ModelCard, ZScore
from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.preprocess import Normalization, measure_greys, normalization
from lnfast_ext import BodyStatistics

# The narrowest real field was 168 mm and the shortest stack 57 mm. A pelvis is 250 to 400 mm wide; a whole body in one
# stack, or axes that were given in another order, make longer ones.
IN_PLANE_MM = (100.0, 700.0)
THROUGH_PLANE_MM = (25.0, 700.0)
FEWEST_SLICES, FEWEST_PIXELS = 4, 32
# Real studies have 170 greys and more, digital patients 189; a mask has two, a label map one for each node.
FEWEST_GREYS = 16
CELL = 4  # pixels along an edge, as `lnfast_ext.body_statistics` has them
LARGEST, LEAST = 1e30, 1e-30  # beyond them float32 arithmetic ends
# Noise alone fills nine tenths of the field with cells whose darkest are 0.9 times as bright as the central ones. Where
# signal hardly exceeds noise a patient reaches 0.86 times, but fills 0.6 of the field; where he fills 0.8 of it
# the darkest are 0.5 times as bright.
AIR_IS_BODY = (0.75, 0.7)
LEAST_BODY = 0.08  # share of the field; measured: 0.31 and more
# How far the brightest voxels lie above the median, over how far the darkest lie below it: 2.0 and more in any DWI,
# since nodes, bowel and bladder are brighter than muscle. With inverted greys it is below one half.
LEAST_SKEW = 1.0
# How much the patient's cells differ, over the height of tissue above the floor: 0.057 and more. Less means that the
# floor lies far below anything that was acquired.
LEAST_SPREAD = 0.02
# Of the field: how much is at least four times as bright as tissue (0.8 % at most in 160 digital patients, 0.1 % in
# real studies), the largest patch of that (2100 mm2), and voxels of one such value side by side, which only the limit
# of a scanner or of a data type makes.
UNUSUAL_SHARE, UNUSUAL_PATCH_MM2, UNUSUAL_SATURATED = 0.012, 2500.0, 0.0005
UNTRUSTED_SHARE = 0.10
# Height of tissue above the floor in deviations of the whole study: 0.79 to 2.2.
ZSCORE_HEIGHT = (0.55, 3.0)
# Where the normalization is a z-score: how far padding may lie below the floor, in heights of tissue above the floor.
ZSCORE_PADDING = 1.0


@dataclass(frozen=True)
class Admission:
    """The facts on which a study was admitted, and how its greys become the network's input.

    Attributes:
        normalization: for `lnfast.preprocess.write_input`.
        extent_zyx_mm: size of the field of view.
        greys: different values among the voxels, counted up to 65536.
        body_share: of the field that is patient and not air.
        padding_share: of the voxels that fill what was not acquired.
        bright_share: of the field that is at least four times as bright as tissue.
        floor, tissue: stored units; what is darkest, and the typical grey of the patient.
        checked: whether the study was checked to be a pelvic DWI; False where the model's card asks for no check.
        warnings: ``(code, message)`` for the report.
    """

    normalization: Normalization
    extent_zyx_mm: tuple[float, float, float]
    greys: int
    body_share: float
    padding_share: float
    bright_share: float
    floor: float
    tissue: float
    checked: bool = True
    warnings: tuple[tuple[str, str], ...] = ()

    def facts(self) -> dict[str, object]:
        """Return the facts for the report."""
        names = ("extent_zyx_mm", "greys", "body_share", "padding_share", "bright_share", "floor", "tissue", "checked")
        return {name: getattr(self, name) for name in names}


def admit(volume: Volume, card: ModelCard, *, threads: int = 0) -> Admission:
    """Admit a study to the network, or refuse it.

    Args:
        volume: native grid.
        card: of the model that is to see it.
        threads: 0 takes one per core.

    Raises:
        StudyError: ``no-pelvis``, ``non-finite``, ``bad-scaling``, ``constant``, ``few-greys``, ``no-body``,
            ``inverted-greys`` or ``untrusted-greys``.
    """
    grid = volume.oriented(card.orientation).grid
    checked = card.admission == "pelvis"
    if checked:
        _check_extent(grid)
    greys = measure_greys(volume, card, threads=threads)
    if checked:
        _check_numbers(greys)
        _check_body(greys)
    norm = normalization(volume, card, greys=greys, threads=threads)
    if checked and isinstance(card.normalization, ZScore):
        _check_zscore(greys, norm)
    size = volume.array.size
    return Admission(
        normalization=norm,
        extent_zyx_mm=volume.grid.extent_zyx_mm,
        greys=greys.greys,
        body_share=greys.body_share,
        padding_share=(size - greys.voxels) / size,
        bright_share=greys.bright_share,
        floor=greys.floor,
        tissue=greys.tissue,
        checked=checked,
        warnings=tuple(_warnings(greys, grid)) if checked else (),
    )


def _check_extent(grid: Grid) -> None:
    through, *in_plane = grid.extent_zyx_mm
    slices, *pixels = grid.shape
    low, high = IN_PLANE_MM
    least, most = THROUGH_PLANE_MM
    fits = all(low <= extent <= high for extent in in_plane) and least <= through <= most
    if fits and slices >= FEWEST_SLICES and min(pixels) >= FEWEST_PIXELS:
        return
    raise StudyError(
        "no-pelvis",
        f"got {pixels[1]} x {pixels[0]} x {slices} voxels of {in_plane[1]:.4g} x {in_plane[0]:.4g} x {through:.4g} mm "
        f"(across, front to back, foot to head), wanted at least {FEWEST_PIXELS} x {FEWEST_PIXELS} x {FEWEST_SLICES} "
        f"voxels, {low:g} to {high:g} mm in plane and {least:g} to {most:g} mm through it; check the order of the axes "
        "and the size of a voxel, or give the whole pelvic series",
    )


def _check_numbers(greys: BodyStatistics) -> None:
    values = greys.greys + greys.padding.size
    if 1 < values < FEWEST_GREYS:
        raise StudyError(
            "few-greys",
            f"got {values} different values, wanted at least {FEWEST_GREYS}: it looks like a mask or a label map; give "
            "the diffusion-weighted image",
        )
    if greys.voxels == 0 or not greys.high > greys.low:
        raise StudyError("constant", f"all but a few voxels have the value {greys.low:g}: there is nothing to see")
    if max(abs(greys.low), abs(greys.high)) > LARGEST or greys.high - greys.low < LEAST:
        raise StudyError(
            "bad-scaling",
            f"got greys from {greys.low:.3g} to {greys.high:.3g}, wanted numbers that single precision holds; export "
            "the study again",
        )


def _check_body(greys: BodyStatistics) -> None:
    height = greys.tissue - greys.floor
    dark, central = greys.darkest_cells - greys.floor, greys.central_cells - greys.floor
    alike, filled = AIR_IS_BODY
    noise = dark > alike * central and greys.body_share > filled
    if not height > 0 or greys.body_share < LEAST_BODY or noise:
        raise StudyError(
            "no-body",
            f"no patient can be told from the noise ({100 * greys.body_share:.0f} % of the field is brighter than the "
            "rest); check the coil and the series",
        )
    if greys.high - greys.median < LEAST_SKEW * (greys.median - greys.low):
        raise StudyError(
            "inverted-greys",
            "the greys reach farther below the median than above it, so nodes are not the bright things here; give the "
            "diffusion-weighted image, bright on dark, not an inverted one or a map",
        )
    if greys.spread < LEAST_SPREAD * height:
        raise _untrusted(
            f"all tissue lies within {100 * greys.spread / height:.1f} % of the way from the darkest voxels to it"
        )
    if greys.bright_share > UNTRUSTED_SHARE:
        raise _untrusted(f"{100 * greys.bright_share:.0f} % of the field are at least four times as bright as tissue")


def _check_zscore(greys: BodyStatistics, norm: Normalization) -> None:
    """Check the field around the patient: a z-score depends on the whole field, so it changes the network's input."""
    height = greys.tissue - greys.floor
    for value, voxels in zip(greys.padding, greys.padding_voxels, strict=True):
        if value < greys.floor - ZSCORE_PADDING * height or value > greys.floor + height:
            raise _untrusted(f"{voxels} voxels are filled with {value:g}, far from air; replace it by that of air")
    low, high = ZSCORE_HEIGHT
    if not low <= height * norm.scale <= high:
        raise _untrusted(
            f"tissue lies {height * norm.scale:.2g} deviations above the darkest voxels, wanted {low:g} to {high:g}: "
            "something much brighter or darker than the patient is in the field"
        )


def _untrusted(reason: str) -> StudyError:
    return StudyError(
        "untrusted-greys",
        f"{reason}; look at the study for padding, an artefact of the coil or of fat, and export it without",
    )


def _warnings(greys: BodyStatistics, grid: Grid) -> Iterator[tuple[str, str]]:
    _, y, x = grid.spacing_zyx_mm
    patch_mm2 = greys.bright_patch * CELL * CELL * y * x
    saturated = greys.saturated / (grid.shape[0] * grid.shape[1] * grid.shape[2])
    reasons = []
    if greys.bright_share > UNUSUAL_SHARE:
        reasons.append(f"{100 * greys.bright_share:.1f} % of the field are at least four times as bright as tissue")
    if patch_mm2 > UNUSUAL_PATCH_MM2:
        reasons.append(f"a patch of {patch_mm2 / 100:.0f} cm2 is at least four times as bright as tissue")
    if saturated > UNUSUAL_SATURATED:
        reasons.append(f"{100 * saturated:.2g} % of the voxels share one bright value")
    if reasons:
        advice = "look for a flare, a pile-up or a limit of the signal, which can hide nodes or look like one"
        yield "unusual-greys", f"{' and '.join(reasons)}: {advice}"
