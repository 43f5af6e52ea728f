"""The data that the page's script draws, as plain numbers.

The picture is an axial slice in radiological display, and its frame is that of the grid reoriented to LPS:

    u, x   to the patient's left, to the right in the picture      millimetres from the outer edge of the first voxel,
    v, y   to the back, down in the picture                        so that the centre of voxel i lies at
    w, z   to the head, slice 1 at the feet                        (i + 0.5) * spacing
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Grid, Volume
from lnfast.measure import LymphNode
from lnfast.report.lengths import SIGNS, length_text
from lnfast.report.page.diameters import AxialDiameters, axial_diameters
from lnfast.report.page.voxels import PackedVoxels
from lnfast.report.record import Report

ORIENTATION = "LPS"


def scene_of(report: Report, nodes: list[LymphNode], labels: Volume, voxels: PackedVoxels | None) -> dict[str, Any]:
    """Return the data to draw.

    Args:
        report: whose rule selects what is drawn first.
        nodes: in the order of the table.
        labels: in `ORIENTATION`, value = node id.
        voxels: of the study in the same orientation; None for a page without pictures.
    """
    diameters = axial_diameters(labels)
    spacing = np.array(labels.grid.spacing_zyx_mm[::-1])
    return {
        "shape": labels.grid.shape,
        "spacing": spacing.tolist(),
        "heights": _heights(labels.grid),
        "voxels": voxels and {"slope": voxels.slope, "inter": voxels.inter, "window": voxels.window},
        "measure": "box" if report.rules.short_axis == "box" else "axial",
        "nodes": [_node(node, report, labels.grid, spacing, diameters[node.id]) for node in nodes],
    }


def _heights(grid: Grid) -> list[str]:
    """Return the height of the middle of each slice."""
    z, y, x = grid.shape
    middle = np.array([[(x - 1) / 2, (y - 1) / 2, k, 1.0] for k in range(z)])
    return [f"{SIGNS[2][height < 0]} {abs(height):.1f} mm" for height in (middle @ grid.affine.T)[:, 2].tolist()]


def _node(
    node: LymphNode, report: Report, grid: Grid, spacing: NDArray[np.float64], axial: AxialDiameters
) -> dict[str, Any]:
    ras_to_index = np.linalg.inv(grid.affine)
    centre = ((ras_to_index @ (*node.box_centre_ras_mm, 1.0))[:3] + 0.5) * spacing
    axes = np.array(node.box_axes_ras) @ ras_to_index[:3, :3].T * spacing
    return {
        "id": node.id,
        "suspicious": node.suspicious,
        "slice": axial.slice,
        "box": {
            "centre": centre.round(4).tolist(),
            "axes": axes.round(6).tolist(),
            "edges": node.box_mm,
            "text": [length_text(node.box_mm[0], report.rules), *(f"{edge_mm:.1f}" for edge_mm in node.box_mm[1:])],
        },
        "axial": {
            "short": (axial.short_ends_vox * spacing[:2]).round(4).tolist(),
            "long": (axial.long_ends_vox * spacing[:2]).round(4).tolist(),
            "text": [length_text(node.axial_short_mm, report.rules), f"{node.axial_long_mm:.1f}"],
        },
    }
