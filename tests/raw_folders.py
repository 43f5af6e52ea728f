"""Folders in nnU-Net's raw layout with studies of a few thousand voxels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from blocks import affine_of
from nifti_files import write_nifti

from lnfast.geometry import Grid, Volume

SHAPE_ZYX = (10, 34, 36)
GRID = Grid(SHAPE_ZYX, affine_of((4.5, 4.6, 5.0)))


def image_of(seed: int) -> Volume:
    """A patient as far as the runtime can tell: noise, brighter in the middle, some of it much brighter."""
    rng = np.random.default_rng(seed)
    y, x = (np.linspace(-1, 1, size) for size in SHAPE_ZYX[1:])
    body = np.hypot(y[:, None], x[None]) < 0.75
    values = rng.integers(10, 50, SHAPE_ZYX) + body * rng.gamma(8.0, 30.0, SHAPE_ZYX)
    return Volume(values.astype(np.int16), GRID)


def labels_of(*boxes: tuple[slice, slice, slice], values: tuple[int, ...] | None = None) -> Volume:
    """One value a box, 1 to n where none are given."""
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    for value, box in zip(values or range(1, len(boxes) + 1), boxes, strict=True):
        labels[box] = value
    return Volume(labels, GRID)


ONE = (slice(2, 5), slice(3, 7), slice(4, 9))
TWO = (slice(6, 8), slice(12, 15), slice(15, 18))


def put(folder: Path, name: str, image: Volume | None, labels: Volume | None, **options: Any) -> None:
    """Add a case; ``options`` are those of `write_nifti`, of the image."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if image is not None:
        put_map(folder / "imagesTr" / f"{name}_0000.nii.gz", image, **({"bval": "800"} | options))
    if labels is not None:
        put_map(folder / "labelsTr" / f"{name}.nii.gz", labels)


def put_map(path: Path, volume: Volume, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {
        "srow": tuple(volume.grid.affine[:3].ravel()),
        "pixdim": (1, *volume.grid.spacing_zyx_mm[::-1], 1, 1, 1, 1),
    }
    write_nifti(path, np.ascontiguousarray(volume.array), **(fields | options))


def describe(folder: Path, **entries: Any) -> Path:
    """Write ``dataset.json``, counting the images that are there."""
    content = {
        "channel_names": {"0": "DWI"},
        "labels": {"background": 0, "lymph_node": 1},
        "instance_labels": True,
        "numTraining": len(list((folder / "imagesTr").glob("*_0000.nii*"))),
        "file_ending": ".nii.gz",
    } | entries
    entries = {name: value for name, value in content.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder
