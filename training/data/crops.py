"""Crops of the model grid: at widely varied scales, and with boxes of other crops pasted in.

Trained on whole phantoms as they are, a network learns their anatomy, what lies where and how large it is, and fails in
people whose pelvis is different. In a crop that is scaled and stretched at random, with boxes of other crops in it,
location says little, and what remains to be learned is what a node and its surroundings look like. It must be
large: in crops of 112 x 112 a network stays unsure of the nodes of a whole plane.

    case --rotate, scale, shear about a place--> crop --intensity--> crop --paste boxes--> crop and its voxel weights

Hard negatives are not mined. A share of the crops is placed on bright structures that are no nodes instead
(`Crops.about_bright`), each as likely as any other, whatever its size: by voxels, nearly all would lie on bladder and
gut, and none on a lesion in a bone or on displaced fat, which a network takes for nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lnfast.card import ModelCard
from lnfast.errors import StudyError
from lnfast_ext import label_components
from training.data.case import LoadableCase
from training.data.intensity import augment_intensity
from training.data.model_grid import GridCase, to_model_grid
from training.recipe.card import FLOOR, TISSUE
from training.recipe.presets import Crops, Preset

# A structure is bright above a limit between these, in steps from air to tissue. One limit would join a lesion to the
# brighter tissue beside it, or miss it.
BRIGHT_FROM, BRIGHT_TO = 1.5, 6.0
# Fewer bright voxels that touch are noise.
FEWEST_BRIGHT = 20
# Least distance of a place from the edge of its crop, in voxels.
MARGIN = 8
# Side of a pasted box, as a share of the crop's.
BOX_SHARE = (0.25, 0.7)
SLIDE_AT_MOST = 3
# Rows or columns of an empty margin, unless it ends in a node.
WIDEST_MARGIN = 23
# Cases that are drawn for one place in a batch before the training is given up.
TRIES = 8
# Channels of a crop.
IMAGE, TRUTH, BORDERLINE, BETWEEN = range(4)
# A node's voxel is dark where it is less than this share as far above air as the brightest within `AROUND_DARK` of it.
DARK, AROUND_DARK = 0.5, 4


class CropMaker:
    """Makes the crops of one optimizer step; a crop depends on seed, step, item and cases alone.

    Args:
        cases: to cut from; each step takes as many as it has patients, at random.
        card: says the network's grid.
        preset: with crops.
        seed, step: of the run.
    """

    def __init__(self, cases: Sequence[LoadableCase], card: ModelCard, preset: Preset, seed: int, step: int) -> None:
        assert preset.crops is not None and preset.patch_zyx is not None
        self.cases, self.card, self.preset, self.seed, self.step = cases, card, preset, seed, step
        self.crops, self.shape_zyx = preset.crops, preset.patch_zyx
        # Boxes come from any crop of the batch, so a device may need crops that it does not learn from.
        self._patients: dict[int, GridCase] = {}
        self._crops: dict[int, Tensor] = {}

    def item(self, item: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, soft truth and voxel weights of an item of the batch, each ``(1, 1, *patch_zyx)`` float32."""
        rng = self._rng(1, item)
        crop = self._bare(item).clone()
        for _ in range(int(rng.choice(self.crops.boxes))):
            other = self._bare(int(rng.integers(self.preset.batch)))
            size = [max(4, int(n * rng.uniform(*BOX_SHARE))) for n in self.shape_zyx]
            to, of = (_box(self.shape_zyx, size, rng) for _ in range(2))
            crop[to] = other[of]
        return crop[None, [IMAGE]], crop[None, [TRUTH]], voxel_weights(crop, self.preset)[None, None]

    def _patient(self, number: int) -> GridCase:
        """Return patient ``number`` of the step; another is drawn for one that cannot be prepared, such as mere noise.

        Raises:
            StudyError: of the last of several that cannot be prepared.
        """
        rng, left = self._rng(0, number), TRIES
        while number not in self._patients:
            left -= 1
            try:
                self._patients[number] = to_model_grid(self.cases[int(rng.integers(len(self.cases)))].load(), self.card)
            except StudyError:
                if not left:
                    raise
        return self._patients[number]

    def _bare(self, item: int) -> Tensor:
        """Return the crop of an item without boxes, ``(4, *patch_zyx)``."""
        if item not in self._crops:
            self._crops[item] = self._cut(self._patient(item // self.crops.per_patient), self._rng(2, item))
        return self._crops[item]

    def _cut(self, patient: GridCase, rng: np.random.Generator) -> Tensor:
        matrix, tilt = draw_transform(self.crops, rng) if rng.random() < self.crops.move else (np.eye(2), np.zeros(2))
        z, *place = draw_place(patient, self.crops, rng)
        centre = crop_centre((place[0], place[1]), matrix, self.shape_zyx, patient.image.shape, rng)
        tilt = tilt * patient.image.shape[1:] / 2
        rows, columns = footprint(matrix, centre, tilt, self.shape_zyx, patient.image.shape)
        slices, beyond = self._slices(patient.channels[:, :, rows, columns], z, rng)
        crop = cut_crop(slices, matrix, centre - (rows.start, columns.start), tilt, self.shape_zyx)
        if rng.random() < self.crops.mirror:
            crop = crop.flip(-1)
        crop[IMAGE] = augment_intensity(crop[IMAGE], self.crops, rng)
        crop[IMAGE, beyond] = FLOOR
        return empty_margins(crop, rng) if rng.random() < self.crops.margins else crop

    def _slices(self, channels: Tensor, z: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Take as many slices as the crop has: slices about ``z``, or all and air before and behind them.

        Some crops have other distances between slices, interpolated.

        Returns:
            The slices, and which of them lie beyond the stack: the runtime puts air there.
        """
        depth, wanted = channels.shape[1], self.shape_zyx[0]
        least, most = max(0, int(z) - wanted + 1), min(int(z), depth - wanted)
        first = int(rng.integers(min(least, most), max(least, most) + 1))
        if rng.random() < self.crops.slide:
            first += int(rng.integers(-SLIDE_AT_MOST, SLIDE_AT_MOST + 1))
        step = float(np.exp(rng.uniform(-self.crops.depth_log, self.crops.depth_log)))
        if rng.random() >= self.crops.depth:
            step = 1.0
        at = first + (wanted - 1) / 2 + step * (np.arange(wanted) - (wanted - 1) / 2)
        beyond = torch.from_numpy((at < -0.5) | (at > depth - 0.5))
        below = np.floor(at).astype(np.int64)
        low, high = (torch.from_numpy(np.clip(index, 0, depth - 1)) for index in (below, below + 1))
        slices = channels[:, low]
        if step != 1.0:
            slices = slices.lerp(channels[:, high], torch.from_numpy((at - below).astype(np.float32))[:, None, None])
        slices[:, beyond] = 0.0
        slices[IMAGE, beyond] = FLOOR
        return slices, beyond

    def _rng(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.step, number, purpose])


def draw_place(patient: GridCase, crops: Crops, rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw where a crop lies, ``(z, y, x)`` in voxels: on a node, on a bright structure, or anywhere."""
    kind = rng.random()
    points = torch.empty((0, 3))
    if kind < crops.about_node:
        large = rng.random() < crops.suspicious and bool(patient.suspicious.any())
        points = (patient.suspicious if large else patient.truth > 0.5).nonzero()
    elif kind < crops.about_node + crops.about_bright:
        points = bright_structure(patient, rng)
    if len(points):
        z, y, x = points[int(rng.integers(len(points)))].tolist()
        return z + 0.5, y + 0.5, x + 0.5
    depth, height, width = patient.image.shape
    return float(rng.uniform(0, depth)), float(rng.uniform(0, height)), float(rng.uniform(0, width))


def bright_structure(patient: GridCase, rng: np.random.Generator) -> Tensor:
    """Draw a bright structure that touches no node, each as likely as any other; return its voxels, ``(n, 3)`` int64.

    Empty where there is none.
    """
    limit = FLOOR + (TISSUE - FLOOR) * np.exp(rng.uniform(np.log(BRIGHT_FROM), np.log(BRIGHT_TO)))
    structures, count = label_components((patient.image > limit).numpy())
    candidate = np.bincount(structures.ravel(), minlength=count + 1) >= FEWEST_BRIGHT
    candidate[0] = False
    candidate[structures[patient.truth.numpy() > 0]] = False
    numbers = np.flatnonzero(candidate)
    if not len(numbers):
        return torch.empty((0, 3), dtype=torch.int64)
    return torch.from_numpy(np.argwhere(structures == numbers[int(rng.integers(len(numbers)))]))


def draw_transform(crops: Crops, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the map from crop to patient, (2, 2) over ``(y, x)``, and the shear, ``(y, x)`` in half planes.

    All of it is in voxels of the network's grid and not in the patient, whose pixels are square where these are not.
    """
    angle = np.deg2rad(rng.uniform(-crops.turn_deg, crops.turn_deg))
    c, s = np.cos(angle), np.sin(angle)
    scale = np.exp(rng.uniform(-crops.scale_log, crops.scale_log))
    stretch = np.exp(rng.uniform(-crops.stretch_log, crops.stretch_log, 2))
    matrix = np.array(((c, s), (-s, c))) @ np.diag(scale * stretch)
    return matrix, rng.uniform(-crops.tilt_share, crops.tilt_share, 2)


def crop_centre(
    at_yx: tuple[float, float],
    matrix: NDArray[np.float64],
    shape_zyx: tuple[int, int, int],
    grid_zyx: Sequence[int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw the centre of a crop that contains a place, ``(y, x)`` in voxels of the patient.

    A crop hangs over the edge of the grid only where it is too large for it.
    """
    size, grid = np.array(shape_zyx[1:]), np.array(grid_zyx[1:])
    reach = np.maximum(size / 2 - MARGIN, 0)
    centre = np.array(at_yx) - matrix @ rng.uniform(-reach, reach)
    half = np.minimum(np.abs(matrix) @ (size / 2), grid / 2)
    return np.clip(centre, half, grid - half)


def footprint(
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    tilt: NDArray[np.float64],
    shape_zyx: tuple[int, int, int],
    grid_zyx: Sequence[int],
) -> tuple[slice, slice]:
    """Return the rows and columns of the patient that a crop is made of: slices are only interpolated there.

    Args:
        matrix, centre, tilt, shape_zyx: as for `cut_crop`.
        grid_zyx: of the patient.
    """
    reach = np.abs(matrix) @ np.array(shape_zyx[1:]) / 2 + np.abs(tilt) + 2  # two for the voxel beside the last
    first = np.clip(np.floor(centre - reach), 0, np.array(grid_zyx[1:]) - 1).astype(int)
    end = np.clip(np.ceil(centre + reach), first + 1, grid_zyx[1:]).astype(int)
    return slice(int(first[0]), int(end[0])), slice(int(first[1]), int(end[1]))


def cut_crop(
    channels: Tensor,
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    tilt: NDArray[np.float64],
    shape_zyx: tuple[int, int, int],
) -> Tensor:
    """Cut a crop, bilinear in each slice; outside the grid its border voxels are repeated.

    Args:
        channels: ``(c, z, y, x)``, with the crop's own number of slices.
        matrix: of `draw_transform`.
        centre: of `crop_centre`.
        tilt: how far the outermost slices slide, ``(y, x)`` in voxels of the patient.
        shape_zyx: of the crop.
    """
    depth, height, width = shape_zyx
    grid = np.array(channels.shape[2:])
    # grid_sample counts (x, y) from -1 to 1 over the faces, in the crop as in the patient.
    slope = (matrix * np.array((height, width)) / grid[:, None])[::-1, ::-1]
    middle = (2 * centre / grid - 1)[None] + np.linspace(-1, 1, depth)[:, None] * (2 * tilt / grid)
    theta = np.concatenate((np.broadcast_to(slope, (depth, 2, 2)), middle[:, ::-1, None]), axis=2).astype(np.float32)
    points = affine_grid(torch.from_numpy(theta), [depth, 1, height, width], align_corners=False)
    slices = channels.permute(1, 0, 2, 3)
    cut = grid_sample(slices, points, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.permute(1, 0, 2, 3).contiguous()


def empty_margins(crop: Tensor, rng: np.random.Generator) -> Tensor:
    """Empty rows or columns at one or two sides, as a distortion correction leaves them; a node there is cut.

    Half of the margins end in a node, if there is one within a third of the crop from that side.

    Args:
        crop: ``(4, z, y, x)``; changed.
    """
    for _ in range(int(rng.integers(1, 3))):
        axis, far, in_node = int(rng.integers(2, 4)), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
        size = crop.shape[axis]
        wide = int(rng.integers(1, WIDEST_MARGIN + 1))
        if in_node:
            rows = (crop[TRUTH].amax((0, 4 - axis)) > 0.5).nonzero()[:, 0]
            ends = size - rows if far else rows + 1
            ends = ends[ends <= size // 3]
            wide = int(ends[int(rng.integers(len(ends)))]) if len(ends) else wide
        margin = crop.narrow(axis, size - wide if far else 0, wide)
        margin.zero_()
        margin[IMAGE] = FLOOR
    return crop


def voxel_weights(crop: Tensor, preset: Preset) -> Tensor:
    """Return each voxel's weight, ``(z, y, x)``: 1, and more where a mistake changes the number of nodes or their size.

    That is at the edge of a node of `BORDERLINE_MM`, between two nodes, and in a node's dark hilum: without it a
    network marks the bright rim alone.

    Args:
        crop: ``(4, z, y, x)``.
        preset: says how much more each of these counts.
    """
    image, truth, borderline, between = crop
    weights: Tensor = 1 + preset.between * (between > 0.5).float()
    if not bool((truth > 0.5).any()):
        return weights
    edge = highest_around(truth) + highest_around(1 - truth) > 1.5
    if bool(borderline.any()):
        weights += preset.rim * (edge & (highest_around(borderline) > 0)).float()
    above_air = image - FLOOR
    dark = above_air < DARK * highest_around(above_air, AROUND_DARK)
    # Not at the edge: what weighs more on one side of it moves it.
    weights += preset.hilum * (dark & (truth > 0.5) & ~edge).float()
    return weights


def highest_around(volume: Tensor, reach: int = 1) -> Tensor:
    """Return the maximum of ``(z, y, x)`` within ``reach`` rows and columns of each voxel of a slice.

    Shifted maxima take a fifth of the time of ``max_pool2d`` on one core, which does not vectorize this layout.
    """
    for axis in (1, 2):
        size = volume.shape[axis]
        highest = volume.clone()
        for shift in range(1, min(reach, size - 1) + 1):
            before, after = (volume.narrow(axis, start, size - shift) for start in (0, shift))
            for place, values in ((shift, before), (0, after)):
                part = highest.narrow(axis, place, size - shift)
                torch.maximum(part, values, out=part)
        volume = highest
    return volume


def _box(shape: Sequence[int], size: Sequence[int], rng: np.random.Generator) -> tuple[slice, ...]:
    starts = [int(rng.integers(0, n - k + 1)) for n, k in zip(shape, size, strict=True)]
    return (slice(None), *(slice(a, a + k) for a, k in zip(starts, size, strict=True)))
