"""Make ``docs/nodes.png``, the README's picture: what `lnfast demo` finds, drawn on the slices where it lies.

python docs/make_picture.py        # needs matplotlib
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

import lnfast
from lnfast.cli.demonstration import SCANNER, SEED
from lnfast.phantom import make_phantom

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SUSPICIOUS, OTHER, BOX, AXIS = "#ff5c5c", "#66d9a0", "#ffd166", "#3a86ff"
MARGIN_MM = 32.0


def main(path: Path) -> None:
    """Draw the slice with the largest node, and that node close up with its minimum-volume box."""
    study = make_phantom(SEED, SCANNER, "n1").volume
    with lnfast.Engine() as engine:
        result = engine.run(study)
    node = max(result.nodes, key=lambda node: node.short_axis_mm)
    to_index = np.linalg.inv(study.grid.affine)
    x, y, z = (to_index @ (*node.centroid_ras_mm, 1.0))[:3]
    slice_z = round(float(z))

    figure, (whole, close) = plt.subplots(1, 2, figsize=(11, 4.6), facecolor="black", width_ratios=(1.5, 1))
    _, dy, dx = study.grid.spacing_zyx_mm
    for axes in (whole, close):
        draw_slice(axes, result, study.array[slice_z], slice_z, dy / dx)
    # The body, and not the air about it.
    rows, columns = study.array[slice_z].shape
    whole.set_ylim(0.75 * rows, 0.25 * rows)
    whole.set_xlim(0.14 * columns, 0.86 * columns)
    draw_box(close, node, to_index)
    close.set_xlim(x - MARGIN_MM / dx, x + MARGIN_MM / dx)
    close.set_ylim(y + MARGIN_MM / dy, y - MARGIN_MM / dy)
    whole.set_title(
        f"{result.n_stage}: {len(result.report.suspicious)} of {len(result.nodes)} nodes suspicious; one slice of "
        f"{study.grid.shape[0]}",
        color="white",
        fontsize=11,
    )
    close.set_title(
        f"node {node.id}: short axis {node.short_axis_mm:.1f} mm, {node.volume_mm3 / 1000:.2f} cm$^3$",
        color="white",
        fontsize=11,
    )
    figure.text(0.5, 0.02, "Digital phantom, no patient. For research use only.", color="#aaaaaa", ha="center", size=9)
    figure.tight_layout(rect=(0, 0.05, 1, 0.94))
    figure.savefig(path, dpi=90, facecolor="black", pil_kwargs={"optimize": True})


def draw_slice(axes: Axes, result: lnfast.Result, image: NDArray[np.int16], slice_z: int, aspect: float) -> None:
    """Draw the slice as a radiologist sees it (the patient's left on the right) with every node's outline."""
    axes.imshow(image, cmap="gray", vmax=float(np.percentile(image, 99.2)), aspect=aspect, interpolation="bilinear")
    labels = result.labels.array[slice_z]
    for node in result.nodes:
        if (labels == node.id).any():
            axes.contour(labels == node.id, [0.5], colors=SUSPICIOUS if node.suspicious else OTHER, linewidths=1.4)
    axes.axis("off")


def draw_box(axes: Axes, node: lnfast.LymphNode, to_index: NDArray[np.float64]) -> None:
    """Draw the minimum-volume box as it projects into the slice, and its short edge through the centre."""
    centre, rows, edges = (np.array(value) for value in (node.box_centre_ras_mm, node.box_axes_ras, node.box_mm))
    corners = [centre + (np.array(signs) * edges / 2) @ rows for signs in product((-1, 1), repeat=3)]
    flat = np.array([(to_index @ (*corner, 1.0))[:2] for corner in corners])
    outline = flat[ConvexHull(flat).vertices]
    axes.plot(*np.vstack((outline, outline[:1])).T, color=BOX, linewidth=1.2, linestyle="--")
    ends = np.array([(to_index @ (*(centre + side * edges[0] / 2 * rows[0]), 1.0))[:2] for side in (-1, 1)])
    axes.plot(*ends.T, color=AXIS, linewidth=1.4, marker="o", markersize=3)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("nodes.png"))
