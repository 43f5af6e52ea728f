"""Blocks of voxels whose measures can be worked out by hand, and a model card for them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.admission import Admission
from lnfast.card import ModelCard, ZScore
from lnfast.geometry import Grid, Volume
from lnfast.preprocess import Normalization

SHAPE_ZYX = (8, 16, 16)


def make_card(**other: Any) -> ModelCard:
    entries: dict[str, Any] = {
        "name": "test",
        "version": "1",
        "trained_on": "nothing",
        "input_name": "input",
        "output_name": "logits",
        "shape_zyx": SHAPE_ZYX,
        "orientation": "LPS",
        "normalization": ZScore((0.5, 99.5)),
        "b_targets": (800.0,),
        "b_range": (500.0, 1500.0),
        "in_plane_mm": (20.0, 500.0),
        "through_plane_mm": (20.0, 500.0),
        "threshold": 0.5,
        "sha256": {"model.onnx": "0" * 64, "probe.npz": "1" * 64},
    }
    return ModelCard(**(entries | other))


ADMISSION = Admission(
    normalization=Normalization(0.0, 100.0, 50.0, 0.02),
    extent_zyx_mm=(72.0, 30.0, 33.0),
    greys=400,
    body_share=0.4,
    padding_share=0.0,
    bright_share=0.001,
    floor=3.0,
    tissue=40.0,
)


SMALL_ZYX = (6, 40, 48)


def small_patient(shape_zyx: tuple[int, int, int] = SMALL_ZYX, dtype: str = "i2") -> NDArray[Any]:
    """Two bright nodes in a body in air, ``(z, y, x)``; the least that is admitted as a study, with voxels of 3 mm."""
    rng = np.random.default_rng(3)
    y, x = np.ogrid[-1 : 1 : shape_zyx[1] * 1j, -1 : 1 : shape_zyx[2] * 1j]
    values = rng.integers(0, 20, shape_zyx)
    values[:, x * x + y * y < 0.6] += 30
    values += np.where(x * x + y * y < 0.6, 8 * (1 + x), 0).astype(int)
    _, height, width = shape_zyx
    values[1:3, height // 4 : height // 4 + 9, width // 4 : width // 4 + 9] = 220
    values[3:5, height // 2 + 2 : height // 2 + 11, width // 2 + 2 : width // 2 + 11] = 220
    return (values + rng.integers(0, 20, shape_zyx) * (values > 200)).astype(dtype)


def rotation(x_deg: float, y_deg: float, z_deg: float) -> NDArray[np.float64]:
    turn = np.eye(3)
    for (first, second), angle in zip(((1, 2), (2, 0), (0, 1)), np.radians((x_deg, y_deg, z_deg)), strict=True):
        plane_turn = np.eye(3)
        plane_turn[first, first] = plane_turn[second, second] = np.cos(angle)
        plane_turn[first, second], plane_turn[second, first] = -np.sin(angle), np.sin(angle)
        turn = plane_turn @ turn
    return turn


def affine_of(
    spacing_xyz_mm: tuple[float, float, float], *turn_deg: float, origin: tuple[float, ...] = (-40.0, 25.0, 90.0)
) -> NDArray[np.float64]:
    """LPS axes, turned."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(*(turn_deg or (0, 0, 0))) @ np.diag((-1, -1, 1)) @ np.diag(spacing_xyz_mm)
    affine[:3, 3] = origin
    return affine


def block(size_zyx: tuple[int, int, int], affine: NDArray[np.float64], at: tuple[int, int, int] = (3, 4, 5)) -> Volume:
    labels = np.zeros((12, 20, 22), np.uint16)
    labels[tuple(slice(start, start + size) for start, size in zip(at, size_zyx, strict=True))] = 1
    return Volume(labels, Grid(labels.shape, affine))


def stored_in_all_ways(volume: Volume) -> Iterator[Volume]:
    """The same voxels in the same places, for the 48 axis orders and directions."""
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            turn[old, new] = -1 if flip else 1
            turn[old, 3] = volume.grid.shape[2 - old] - 1 if flip else 0
        array = volume.array.transpose([2 - order[2 - axis] for axis in range(3)])
        array = array[tuple(slice(None, None, -1) if flips[2 - axis] else slice(None) for axis in range(3))]
        yield Volume(np.ascontiguousarray(array), Grid(array.shape, volume.grid.affine @ turn))
