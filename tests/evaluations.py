"""Small cohorts of predictions and truths, and the page of their evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from blocks import affine_of
from nifti_files import write_nifti
from numpy.typing import NDArray

from lnfast.evaluate.evaluation import evaluate
from lnfast.evaluate.inputs.pairing import pair_up
from lnfast.evaluate.output.metrics import metrics
from lnfast.evaluate.output.page import render
from lnfast.evaluate.output.page.drawing import grey_png
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.study.label_writer import label_map_bytes

SHAPE_ZYX, SPACING_MM = (8, 40, 40), 3.0
AFFINE = affine_of((SPACING_MM,) * 3, 5, 10, 20)
FIGURES = {f"{name}.png": grey_png(np.zeros((2, 3), np.uint8)) for name in ("correlation", "bland_altman", "roc")}
# A cube of 3 voxels is suspicious (9 mm), of 2 it is not (6 mm); where they begin in (z, y, x).
A, B, C = (1, 4, 4), (1, 4, 20), (1, 20, 20)
# By name: true cubes, predicted cubes, each (place, edge). In the order of the page.
COHORT = {
    "d called N0": ([(A, 3)], [(A, 2)]),
    "c called N1": ([(A, 2)], [(A, 2), (C, 3)]),
    "z misses two": ([(A, 3), (B, 3), (C, 3)], [(A, 3)]),
    "y misses one, one false": ([(A, 3), (B, 3)], [(A, 3), (C, 3)]),
    "x misses one": ([(A, 3), (B, 3)], [(A, 3)]),
    "a one false": ([(A, 3)], [(A, 3), (C, 3)]),
    "w poor overlap": ([(A, 3)], [((1, 5, 5), 3)]),
    "v small poor": ([(B, 2)], [((1, 5, 20), 2)]),
    "b small better": ([(B, 2), (C, 2)], [((1, 5, 20), 2), (C, 2)]),
}
RIGHT = {"e right": ([(A, 3), (B, 2)], [(A, 3), (B, 2)]), "f empty": ([], [])}


def write_labels(folder: Path, name: str, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> None:
    """Write a label map."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.nii.gz").write_bytes(label_map_bytes(Volume(array, Grid(array.shape, affine))))


def write_image(folder: Path, name: str, affine: NDArray[np.float64] = AFFINE, slices: int = SHAPE_ZYX[0]) -> None:
    """Write an image of noise. Not by `label_map_bytes`, whose header says that it is a label map."""
    folder.mkdir(parents=True, exist_ok=True)
    pixdim = (1.0, *np.linalg.norm(affine[:3, :3], axis=0), 1.0, 1.0, 1.0, 1.0)
    array = np.random.default_rng(1).integers(0, 1000, SHAPE_ZYX).astype(np.uint16)[:slices]
    write_nifti(folder / f"{name}.nii.gz", array, srow=tuple(affine[:3].ravel()), pixdim=pixdim)


def cubes(nodes: list[tuple[tuple[int, int, int], int]]) -> NDArray[np.uint16]:
    """Labels of cubes, each given by its first voxel and its edge."""
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    for number, (place, edge) in enumerate(nodes, 1):
        labels[tuple(slice(start, start + edge) for start in place)] = number
    return labels


def write_cohort(folder: Path, cohort: dict[str, Any], images: bool = True) -> tuple[Path, Path]:
    """Write predictions and truths; return both folders."""
    for name, (true, predicted) in cohort.items():
        write_labels(folder / "truth" / "labelsTr", name, cubes(true))
        write_labels(folder / "pred", name, cubes(predicted))
        if images:
            write_image(folder / "truth" / "imagesTr", f"{name}_0000")
    return folder / "pred", folder / "truth"


def evaluation_page(pred: Path, truth: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    """The page of an evaluation, and the content of its metrics.json."""
    evaluation = evaluate(pair_up(pred, truth), Rules(), **options)
    content = metrics(evaluation)
    return render(evaluation, content, FIGURES).decode(), content
