"""A digital pelvis: a DWI study whose lymph nodes are exactly known.

    protocol   where the voxels lie              anatomy   trunk, muscles, bones, vessels, nerves
    shapes     implicit bodies, partial volume   organs    bladder, prostate, bowel, mimics of nodes
    canvas     atlas coordinates, painting       bodies    the shapes of nodes
    pen        ellipsoids, tubes, gut            nodes     lymph nodes, their voxels, the stage
    echo       distortion, ghost, motion         physics   tissue signal, coil, blur, noise

It is for demonstration, tests, training and benchmarks. It is no patient, and a model trained on it has proved nothing
about patients.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import UsageError
from lnfast.geometry import Volume
from lnfast.phantom import anatomy, organs
from lnfast.phantom.canvas import Canvas, Frame
from lnfast.phantom.echo import sample_echo
from lnfast.phantom.nodes import NodeField, PhantomNode
from lnfast.phantom.pen import Pen
from lnfast.phantom.physics import acquire, signal
from lnfast.phantom.protocol import SCANNERS, Protocol, sample_grid
from lnfast.phantom.shapes import Column

__all__ = ["SCANNERS", "Phantom", "PhantomNode", "Protocol", "make_phantom"]

SHARE_N1 = 37 / 77  # of the paper's hold-out patients


@dataclass(frozen=True)
class Phantom:
    """One digital patient.

    Attributes:
        volume: int16 magnitude at the protocol's b-value, C-contiguous (z, y, x).
        labels: (z, y, x) uint16; a node's label where at least half of the voxel lies in the node, else 0. Each node
            is one 26-connected component, and labels run in raster order of first voxels.
        nodes: ``nodes[i].label == i + 1``.
        protocol: what it was scanned with.
        seed: what it was made from.
        stage_asked: "n0", "n1" or "any".
        slide_xy_mm: (z, 2) how far each slice lies beside its place along x and y, for the patient moved; bodies of
            nodes are given without it, voxels with it.
    """

    volume: Volume
    labels: NDArray[np.uint16]
    nodes: tuple[PhantomNode, ...]
    protocol: Protocol
    seed: int
    stage_asked: str
    slide_xy_mm: NDArray[np.float64]


def make_phantom(
    seed: int,
    scanner: str = "ingenia",
    stage: Literal["n0", "n1", "any"] = "any",
    *,
    protocol: Protocol | None = None,
) -> Phantom:
    """Make a digital patient and scan it.

    The same arguments give the same bytes on the same numpy and processor family (elementary functions may differ in
    the last bit between them).

    Args:
        seed: not negative.
        scanner: a key of `SCANNERS`; ignored when ``protocol`` is given.
        stage: what the size rule says of the truth mask. "any" is N1 for 37 patients of 77.
        protocol: a scan of your own, for instance the small field of a prostate study.

    Raises:
        UsageError: ``unknown-scanner``, ``unknown-stage``, ``bad-seed``; ``no-room`` when a field of view is too
            small to hold a suspicious node.
    """
    if protocol is None and scanner not in SCANNERS:
        raise UsageError("unknown-scanner", f"got scanner {scanner!r}, wanted one of {', '.join(sorted(SCANNERS))}")
    if stage not in ("n0", "n1", "any"):
        raise UsageError("unknown-stage", f"got stage {stage!r}, wanted n0, n1 or any")
    if seed < 0:
        raise UsageError("bad-seed", f"got seed {seed}, wanted a number that is not negative")
    scan = SCANNERS[scanner] if protocol is None else protocol
    mixed = np.random.SeedSequence([seed, zlib.crc32(f"{scan}/{stage}".encode())])
    rng = np.random.Generator(np.random.PCG64(mixed))
    wanted = stage if stage != "any" else ("n1" if rng.random() < SHARE_N1 else "n0")

    frame = Frame(rng, rng.normal(0, 15, 3))
    content = organs.rectal_content(rng)
    echo = sample_echo(rng, organs.rectal_gas(rng) if content == "air" else None)
    canvas = Canvas(sample_grid(scan, _centre(scan, frame, rng), float(np.deg2rad(rng.uniform(0, 20)))), frame, echo)
    pen = Pen(canvas, scan, rng, content)
    skin = _paint_pelvis(pen)
    field = NodeField(canvas, rng)
    if not field.populate(wanted):
        raise UsageError(
            "no-room", f"protocol {scan.name!r} (seed {seed}): no suspicious node fits in its field of view"
        )
    labels, nodes = field.finish()
    _paint_nodes(nodes, canvas, scan, rng)
    organs.texture(pen)  # over nodes too: a flat node would give itself away
    averages = int(rng.choice((1, 3)))
    image = echo.add_ghost(canvas.signal * canvas.density * organs.gain(pen, skin))
    array = acquire(image, pen.muscle, rng, averages)
    return Phantom(Volume(array, canvas.grid), labels, nodes, scan, seed, stage, canvas.slide_mm)


def _paint_pelvis(pen: Pen) -> Column:
    """Everything but the nodes; returns the outline of the trunk."""
    skin = anatomy.skin_of(pen)
    subcutaneous = anatomy.trunk(pen, skin)
    for stage in (
        anatomy.muscles,
        anatomy.bones,
        anatomy.blood,
        anatomy.nerves,
        organs.bowel,
        organs.bladder,
        organs.prostate,
        organs.rectum,
        organs.perineum,
        organs.mimics,
    ):
        stage(pen)
    organs.unsuppressed_fat(pen, subcutaneous)
    return skin


def _centre(scan: Protocol, frame: Frame, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the middle of the field lies: mid-pelvis for a staging scan, the prostate for a thin stack."""
    height = 22.0 if scan.slices * scan.slice_mm > 110 else -4.0
    return frame.to_ras(np.array((0.0, -4.0, height)) + rng.normal(0, (6.0, 6.0, 7.0)))


def _paint_nodes(nodes: tuple[PhantomNode, ...], canvas: Canvas, scan: Protocol, rng: np.random.Generator) -> None:
    """Nodes share a patient's brightness, each with its own, and some with a dark fatty hilum.

    On two public studies the inguinal and iliac nodes were 5 to 24 times as bright as muscle; others hardly show.
    """
    usual = signal("node", scan, rng) * rng.lognormal(0.1, 0.3)
    for node in nodes:
        value = np.float32(usual * rng.lognormal(0.0, 0.35))
        box, part = canvas.part_of(node.body.shape)
        canvas.signal[box] += part * (value - canvas.signal[box])
        if node.semi_axes_mm[0] > 2.5 and rng.random() < 0.35:
            within = np.zeros(canvas.grid.shape, dtype=np.float32)
            within[box] = part
            box, part = canvas.part_of(node.body.hilum)
            part *= within[box]  # a hilum opens at the surface, and what sticks out of it is no node
            canvas.signal[box] += part * (value * np.float32(rng.uniform(0.2, 0.7)) - canvas.signal[box])
