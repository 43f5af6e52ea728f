"""Nodes drawn at random, seen and measured: on the scanners' grids and on ever thinner slices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.grids import network_grid
from benchmarks.measurement.ellipsoids import BANDS_MM, Node, band_name, draw_node
from benchmarks.measurement.imaging import (
    HALF,
    THIN_MM,
    Field,
    imaged,
    largest_piece,
    part_of,
    random_place,
    scanner_grid,
    thin_grid,
)
from benchmarks.measurement.rules import corners_mm, surface_mm
from benchmarks.measurement.summary import Measured
from lnfast.ellipsoid import equivalent_short_mm
from lnfast.geometry import Grid
from lnfast.phantom import SCANNERS

# The rule, and the truth that it is compared with. Axial twice: what a slice shows may be wider than the body is.
COMPARISONS = (("box", "box"), ("axial", "axial"), ("axial", "box"), ("surface", "box"), ("ellipsoid", "box"))


def on_scanners(seed: int, nodes: int) -> Iterator[Measured]:
    """Every scanner and band, ``nodes`` in each: as they are, and imaged."""
    for number, scanner in enumerate(sorted(SCANNERS)):
        grid = scanner_grid(scanner)
        for band, band_mm in enumerate(BANDS_MM):
            rng = np.random.default_rng([seed, 0, number, band])
            for _ in range(nodes):
                node = _draw(grid, band_mm, rng)
                part, local = part_of(node.body, grid)
                soft = {"ellipsoid": ellipsoid_of(node, grid)}
                yield from _measured("truth", scanner, band_mm, node, {**by_mask(part, local.affine), **soft})
                yield from _measured("imaged", scanner, band_mm, node, by_mask(imaged(part, rng), local.affine))


def on_thin_slices(seed: int, nodes: int) -> Iterator[Measured]:
    """Every slice thickness and band with the same nodes at each, so that the slices alone make the difference."""
    for slice_mm in THIN_MM:
        grid = thin_grid(slice_mm)
        for band, band_mm in enumerate(BANDS_MM):
            rng = np.random.default_rng([seed, 1, band])
            for _ in range(nodes):
                node = _draw(grid, band_mm, rng)
                part, local = part_of(node.body, grid)
                yield from _measured("truth", f"{slice_mm:g} mm", band_mm, node, by_mask(part, local.affine))


def by_mask(field: Field, affine: NDArray[np.float64]) -> dict[str, float | None]:
    """What can be measured of a soft field and the voxels in which it is at half or more."""
    mask = largest_piece(field)
    if not mask.any():
        return {"box": None, "axial": None, "surface": None}
    box_mm, axial_mm = corners_mm(mask, affine)
    return {"box": box_mm, "axial": axial_mm, "surface": surface_mm(field, mask, HALF, affine)}


def ellipsoid_of(node: Node, grid: Grid) -> float:
    """By the part of each of the network's voxels that is filled: more than any network can read off thick slices."""
    part, local = part_of(node.body, network_grid(grid))
    return equivalent_short_mm(part, local.affine[:3, :3])


def _draw(grid: Grid, band_mm: tuple[float, float], rng: np.random.Generator) -> Node:
    normal = grid.affine[:3, 2] / np.linalg.norm(grid.affine[:3, 2])
    return draw_node(rng, band_mm, random_place(grid, rng), normal)


def _measured(
    mask: str, scanner: str, band_mm: tuple[float, float], node: Node, values: dict[str, float | None]
) -> Iterator[Measured]:
    truths = {"box": node.box_short_mm, "axial": node.axial_short_mm}
    for rule, truth in COMPARISONS:
        if rule in values:
            where = (scanner, band_name(band_mm), node.orientation)
            yield Measured(mask, rule, truth, *where, truths[truth], values[rule])
