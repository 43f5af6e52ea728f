"""From native studies to augmented patches of the network's grid, through the preprocessing of the runtime itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from lnfast.card import ModelCard
from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.preprocess import write_input
from lnfast_ext import resample_normalize
from training.case import Case

Floats = NDArray[np.float32]
# No crop is smaller than the field that the card admits, in mm along (z, y, x).
SMALLEST_FIELD_MM = (50.0, 150.0, 150.0)
SMALLEST_SHARE = (0.3, 0.42, 0.42)
CROPPED = 0.3
# What a patch lies about: a node in half of them, something bright (gut, bladder, prostate, nerves: what a network
# takes for nodes) in a third, anything in the rest. Half of the bright things are mimics that an earlier network fell
# for, where that is known.
AROUND_NODE, AROUND_BRIGHT, FALLEN_FOR = 1 / 2, 1 / 3, 1 / 2
BRIGHT = 2.0  # standard deviations above the mean, as the network sees the study


def whole(case: Case, card: ModelCard, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Input and soft truth of a whole study, ``(1, 1, *card.shape_zyx)``; with ``rng`` cropped and augmented."""
    if rng is None:
        full = _network_grid(case, card, (0, 0, 0), case.labels.shape, None)
    else:
        full, _, _ = _varied(case, card, rng)
    return full[:, :1], full[:, 1:]


def patch(
    case: Case, card: ModelCard, rng: np.random.Generator, patch_zyx: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Input and soft truth of an augmented patch, each ``(1, 1, *patch_zyx)`` float32."""
    full, start, stop = _varied(case, card, rng)
    centre = _centre(case, full, start, stop, rng, patch_zyx)
    cut = _cut(full, centre, patch_zyx, rng)
    image, truth = cut[:, :1], cut[:, 1:]
    image = image * rng.uniform(0.8, 1.25) + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.5:
        image, truth = image.flip(-1), truth.flip(-1)
    return image, truth


def _centre(
    case: Case,
    full: Tensor,
    start: tuple[int, ...],
    stop: tuple[int, ...],
    rng: np.random.Generator,
    patch_zyx: tuple[int, int, int],
) -> NDArray[np.float64]:
    """Where a patch lies, in voxels of the network's grid, faces at integers."""
    size = np.array(full.shape[2:])
    half = np.array(patch_zyx) / 2
    kind = rng.random()
    target = None
    if kind < AROUND_NODE:
        # Suspicious nodes are one in ten; they are what counts.
        target = _one_inside(case.centres, np.sqrt(case.voxels), start, stop, rng)
    elif kind < AROUND_NODE + AROUND_BRIGHT:
        if len(case.mimics) and rng.random() < FALLEN_FOR:
            target = _one_inside(case.mimics, np.ones(len(case.mimics)), start, stop, rng)
        if target is None:
            target = _one_bright(full[0, 0].numpy(), start, stop, rng)
    if target is None:
        return rng.uniform(half, size - half)
    # Cases are stored as the card orients them, so native axes are the network's.
    target = (target + 0.5 - start) * size / (np.array(stop) - start)
    # Anywhere in the patch, so that the network sees nodes near borders as well.
    return np.clip(target + rng.uniform(-0.75, 0.75, 3) * half, half, size - half)


def _one_inside(
    places: Floats,
    weights: NDArray[np.float64],
    start: tuple[int, ...],
    stop: tuple[int, ...],
    rng: np.random.Generator,
) -> NDArray[np.float64] | None:
    """One of the native places that lie between ``start`` and ``stop``, the more likely the greater its weight."""
    inside = ((places >= start) & (places < stop)).all(axis=1)
    if not inside.any():
        return None
    share = weights[inside] / weights[inside].sum()
    return places[inside][rng.choice(len(share), p=share)].astype(np.float64)


def _one_bright(
    image: Floats, start: tuple[int, ...], stop: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """A bright voxel of the network's input, as a native place."""
    step = np.array((2, 4, 4))  # every voxel would cost more than the patch itself
    bright = np.argwhere(image[:: step[0], :: step[1], :: step[2]] > BRIGHT)
    if not len(bright):
        return None
    voxel = bright[rng.integers(len(bright))] * step
    place: NDArray[np.float64] = (voxel + 0.5) * (np.array(stop) - start) / np.array(image.shape) + start - 0.5
    return place


def _crop(case: Case, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Now and then a smaller field of view, as if less had been scanned; ``(start, stop)`` in voxels."""
    shape = case.labels.shape
    if rng.random() >= CROPPED:
        return (0, 0, 0), shape
    floor = np.ceil(np.array(SMALLEST_FIELD_MM) / case.volume.grid.spacing_zyx_mm)
    wanted = np.round(rng.uniform(SMALLEST_SHARE, 1.0) * shape)
    length = np.minimum(np.maximum(wanted, floor), shape).astype(int)
    start = rng.integers(0, np.array(shape) - length + 1)
    return tuple(int(i) for i in start), tuple(int(i) for i in start + length)


def _network_grid(
    case: Case, card: ModelCard, start: tuple[int, ...], stop: tuple[int, ...], rng: np.random.Generator | None
) -> Tensor:
    """``(1, 2, *card.shape_zyx)``: input and soft truth of a part of a study."""
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    array = case.volume.array[box]
    if rng is not None:
        array = _vary(array.astype(np.float32), rng)
    affine = case.volume.grid.affine.copy()
    affine[:3, 3] = case.volume.grid.to_ras_mm(start[::-1])
    grid = Grid(array.shape, affine)
    out = np.empty((2, *card.shape_zyx), np.float32)
    write_input(Volume(array, grid), card, out[0], threads=1)
    # The same trilinear weights for the truth. Its soft values are kept: their 0.5 is where the surface is, and
    # rounding them on a grid coarser than the native one would move it by up to half a voxel.
    mask = Volume((case.labels[box] > 0).astype(np.uint8), grid).oriented(card.orientation)
    resample_normalize(mask.array, out[1], lo=0.0, hi=1.0, shift=0.0, scale=1.0, threads=1)
    return torch.from_numpy(out)[None]


def _varied(case: Case, card: ModelCard, rng: np.random.Generator) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """`_network_grid` of a part of a study and augmented, and from where to where that part goes.

    A part may be what the runtime refuses, nothing but air, say. The whole study, which has been checked, is taken
    then as it is: the same step would meet the same part at every try.
    """
    start, stop = _crop(case, rng)
    try:
        return _network_grid(case, card, start, stop, rng), start, stop
    except StudyError:
        start, stop = (0, 0, 0), case.labels.shape
        return _network_grid(case, card, start, stop, None), start, stop


def _vary(array: Floats, rng: np.random.Generator) -> Floats:
    """Other scanners and patients in intensity: contrast, coil shading, sharpness, noise. Works in place."""
    top = float(np.percentile(array[::2, ::4, ::4], 99.5)) or 1.0
    array /= np.float32(top)
    if rng.random() < 0.5:
        np.power(np.maximum(array, 0, out=array), np.float32(np.exp(rng.uniform(-0.4, 0.4))), out=array)
    if rng.random() < 0.3:
        for axis, length in enumerate(array.shape):
            t = np.linspace(-1, 1, length, dtype=np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
            a, b = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
            array *= np.exp(a * t + b * (t * t - np.float32(1 / 3)))
    if rng.random() < 0.2:
        side = np.float32(rng.uniform(0.05, 0.25))
        for axis in (1, 2):
            array += side * (np.roll(array, 1, axis) + np.roll(array, -1, axis) - 2 * array)
    if rng.random() < 0.4:
        # Magnitude images: noise in both channels, then the absolute value (Rician).
        sigma = np.float32(rng.uniform(0.005, 0.05))
        array += sigma * rng.standard_normal(array.shape, dtype=np.float32)
        np.hypot(array, sigma * rng.standard_normal(array.shape, dtype=np.float32), out=array)
    array *= np.float32(top)
    return array


def _cut(
    full: Tensor, centre: NDArray[np.float64], patch_zyx: tuple[int, int, int], rng: np.random.Generator
) -> Tensor:
    """The patch about ``centre`` (in voxels, faces at integers), half the time turned and sheared by up to 5 degrees.

    Degrees are those of the network's grid, whose voxels are no cubes: see `_turn`.

    Sampling from the whole volume brings true neighbours in at the patch's edges, where turning the patch would smear.
    """
    size = np.array(full.shape[2:], dtype=np.float64)
    if rng.random() < 0.5:
        low = np.floor(centre - np.array(patch_zyx) / 2).astype(int)
        box = tuple(slice(int(a), int(a) + n) for a, n in zip(low, patch_zyx, strict=True))
        return full[:, :, box[0], box[1], box[2]].clone()
    turn = _turn(rng)
    axes = [torch.arange(n, dtype=torch.float32) + 0.5 - n / 2 for n in patch_zyx]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    points = offsets @ torch.from_numpy(turn.T.astype(np.float32)) + torch.from_numpy(centre.astype(np.float32))
    # grid_sample wants (x, y, z) in -1..1 over the faces.
    unit = points / torch.from_numpy(size.astype(np.float32)) * 2 - 1
    return grid_sample(full, unit.flip(-1)[None], mode="bilinear", padding_mode="border", align_corners=False)


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3) over (z, y, x): the paper's skewing and shearing of 0-5 degrees, and a scale of 0.9-1.1.

    All of it is in voxels of the network's grid and not in the patient. A slice there is square whatever was scanned,
    so a turn in it is a turn and some shear in millimetres; one of the two shears is through the slices.
    """
    angle, sideways, tilt = np.deg2rad(rng.uniform(-5, 5, 3))
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array(((1.0, 0, 0), (0, c, -s), (0, s, c)))
    shear = np.array(((1.0, 0, 0), (np.tan(tilt), 1.0, 0), (0, np.tan(sideways), 1.0)))
    matrix: NDArray[np.float64] = rotation @ shear @ np.diag(rng.uniform(0.9, 1.1, 3))
    return matrix
