"""Random nodes, imaged and measured on the scanners' grids and on ever thinner slices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.grids import network_grid
from benchmarks.measurement.ellipsoids import BANDS_MM, EllipsoidNode, band_name, draw_node
from benchmarks.measurement.imaging import (
    HALF,
    THIN_MM,
    Field,
    imaged,
    largest_component,
    part_of,
    random_place,
    scanner_grid,
    thin_grid,
)
from benchmarks.measurement.rules import box_and_axial_mm, surface_mm
from benchmarks.measurement.summary import NodeMeasurement
from lnfast.geometry import Grid
from lnfast.phantom import SCANNERS
from lnfast_ext import equivalent_short_axis

# A rule, and the truth that it is compared with. Axial twice: a section may be wider than the body's short axis.
COMPARISONS = (("box", "box"), ("axial", "axial"), ("axial", "box"), ("surface", "box"), ("ellipsoid", "box"))


def measure_on_scanners(seed: int, nodes: int) -> Iterator[NodeMeasurement]:
    """Measure ``nodes`` for every scanner and band: exact, and imaged."""
    for number, scanner in enumerate(sorted(SCANNERS)):
        grid = scanner_grid(scanner)
        for band, band_mm in enumerate(BANDS_MM):
            rng = np.random.default_rng([seed, 0, number, band])
            for _ in range(nodes):
                node = _draw(grid, band_mm, rng)
                part, local = part_of(node.body, grid)
                ellipsoid = {"ellipsoid": ellipsoid_short_axis_mm(node, grid)}
                yield from _measurements("truth", scanner, band_mm, node, {**by_mask(part, local.affine), **ellipsoid})
                yield from _measurements("imaged", scanner, band_mm, node, by_mask(imaged(part, rng), local.affine))


def measure_on_thin_slices(seed: int, nodes: int) -> Iterator[NodeMeasurement]:
    """Measure the same ``nodes`` of every band at each slice thickness, so that only the slices differ."""
    for slice_mm in THIN_MM:
        grid = thin_grid(slice_mm)
        for band, band_mm in enumerate(BANDS_MM):
            rng = np.random.default_rng([seed, 1, band])
            for _ in range(nodes):
                node = _draw(grid, band_mm, rng)
                part, local = part_of(node.body, grid)
                yield from _measurements("truth", f"{slice_mm:g} mm", band_mm, node, by_mask(part, local.affine))


def by_mask(field: Field, affine: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the short axis by each rule, from a field and the voxels in which it is at half or more; None if blank."""
    mask = largest_component(field)
    if not mask.any():
        return {"box": None, "axial": None, "surface": None}
    box_mm, axial_mm = box_and_axial_mm(mask, affine)
    return {"box": box_mm, "axial": axial_mm, "surface": surface_mm(field, mask, HALF, affine)}


def ellipsoid_short_axis_mm(node: EllipsoidNode, grid: Grid) -> float:
    """Return the short axis by the ellipsoid rule from the filled part of each voxel of the network's grid.

    That is more than any network can know from thick slices.
    """
    part, local = part_of(node.body, network_grid(grid))
    return equivalent_short_axis(part, local.affine[:3, :3])


def _draw(grid: Grid, band_mm: tuple[float, float], rng: np.random.Generator) -> EllipsoidNode:
    normal = grid.affine[:3, 2] / np.linalg.norm(grid.affine[:3, 2])
    return draw_node(rng, band_mm, random_place(grid, rng), normal)


def _measurements(
    mask: str, scanner: str, band_mm: tuple[float, float], node: EllipsoidNode, values: dict[str, float | None]
) -> Iterator[NodeMeasurement]:
    truths = {"box": node.box_short_mm, "axial": node.axial_short_mm}
    for rule, truth in COMPARISONS:
        if rule in values:
            group = (scanner, band_name(band_mm), node.orientation)
            yield NodeMeasurement(mask, rule, truth, *group, truths[truth], values[rule])
