"""Make ``docs/real-0000.png`` and ``docs/real-0218.png``: every slice of two public studies, and what the model marks.

python docs/make_real_studies.py FOLDER_OF_STUDIES [MODEL]        # needs matplotlib; MODEL is a name or a model folder

The studies are PROSTATEx 0000 and 0218 (The Cancer Imaging Archive, doi 10.7937/K9TCIA.2017.MURS5CL, CC BY 3.0), as
`benchmarks` and the tests use them. No expert has marked their nodes: look at the pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import lnfast
from lnfast.study import read_study

STUDIES = {
    "0000": "prostatex-0000/6_ep2d_diff_tra_DYNDIST.nii.gz",
    "0218": "prostatex-0218/8_*.nii.gz",
}
SUSPICIOUS, OTHER = "#ff5c5c", "#66d9a0"
COLUMNS, PANEL_INCH, DPI = 5, 2.0, 75


def draw(study: Path, model: str, out: Path) -> None:
    """Draw one panel for each slice, feet first, the patient's left on the right, and print the marks."""
    volume = read_study(study).volume
    with lnfast.Engine(model) as engine:
        result = engine.run(volume)
    image, labels = volume.oriented("LPS").array, result.labels.oriented("LPS").array
    _, dy, dx = volume.grid.spacing_zyx_mm
    rows = -(-len(image) // COLUMNS)
    height = PANEL_INCH * image.shape[1] * dy / (image.shape[2] * dx)
    figure = Figure(figsize=(COLUMNS * PANEL_INCH, rows * height), facecolor="black")
    FigureCanvasAgg(figure)
    for z in range(len(image)):
        axes = figure.add_axes((z % COLUMNS / COLUMNS, 1 - (z // COLUMNS + 1) / rows, 1 / COLUMNS, 1 / rows))
        axes.imshow(image[z], cmap="gray", vmin=0, vmax=float(np.percentile(image, 99.5)), aspect="auto")
        axes.text(0.02, 0.95, str(z), color="white", fontsize=7, transform=axes.transAxes)
        axes.set_axis_off()
        for node in result.nodes:
            if (labels[z] == node.id).any():
                axes.contour(labels[z] == node.id, [0.5], colors=SUSPICIOUS if node.suspicious else OTHER, linewidths=1)
    figure.savefig(out, dpi=DPI, facecolor="black", pil_kwargs={"optimize": True})
    print(f"{study.parent.name}: {len(result.nodes)} marks, {len(result.report.suspicious)} suspicious, {out}")
    to_index = np.linalg.inv(volume.grid.affine)
    for node in sorted(result.nodes, key=lambda node: -node.volume_mm3):
        x, y, z = np.rint((to_index @ (*node.centroid_ras_mm, 1.0))[:3]).astype(int)
        print(f"  z {z:2d} y {y:3d} x {x:3d}  {node.volume_mm3:7.0f} mm3  short {node.short_axis_mm:4.1f} mm", end="")
        print(f"  p {node.mean_probability:.2f}{'  suspicious' if node.suspicious else ''}")


def main(folder: Path, model: str) -> None:
    """Draw both studies into the folder of this file."""
    for name, pattern in STUDIES.items():
        draw(next(folder.glob(pattern)), model, Path(__file__).with_name(f"real-{name}.png"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "pelvic-ln-edge")
