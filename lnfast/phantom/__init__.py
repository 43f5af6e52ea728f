"""A digital pelvis: a DWI study whose lymph nodes are exactly known.

    protocol   where the voxels lie              anatomy   trunk, muscles, bones, vessels, nerves
    shapes     implicit bodies, partial volume   organs    bladder, prostate, bowel, mimics of nodes
    canvas     atlas coordinates, painting       bodies    the shapes of nodes
    pen        ellipsoids, tubes, gut            nodes     lymph nodes, their voxels, the stage
    echo       distortion, ghost, motion         physics   tissue signal, coil, blur, noise
    variety    the default, or other kinds       unusual   what only training phantoms have

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
from lnfast.phantom import anatomy, organs, unusual
from lnfast.phantom.canvas import Canvas, Frame
from lnfast.phantom.echo import sample_echo
from lnfast.phantom.nodes import NodeField, PhantomNode
from lnfast.phantom.pen import Pen
from lnfast.phantom.physics import REALISTIC_SNR, acquire
from lnfast.phantom.protocol import SCANNERS, Protocol, sample_grid
from lnfast.phantom.shapes import Column, Union
from lnfast.phantom.variety import LIFELIKE, REALISTIC, TRAINING, Variety

__all__ = [
    "LIFELIKE",
    "REALISTIC",
    "SCANNERS",
    "TRAINING",
    "VERSION",
    "Phantom",
    "PhantomNode",
    "Protocol",
    "Variety",
    "make_phantom",
]

# Identifies the phantoms: raise it by one with every change after which any seed makes another patient. Caches of
# phantoms are kept under it, and `tests/phantom/test_stored_phantoms.py` fails when phantoms change and it does not.
VERSION = 1

SHARE_N1 = 37 / 77  # of the paper's hold-out patients
ANY_SNR = (2.5, 60.0)  # of training phantoms, see `physics.acquire`


@dataclass(frozen=True)
class Phantom:
    """One digital patient.

    Attributes:
        volume: int16 magnitude at the protocol's b-value, C-contiguous (z, y, x).
        labels: (z, y, x) uint16; a node's label where at least half of the voxel lies in the node, its hilum included,
            else 0. Each node is one 26-connected component, and labels run in raster order of first voxels.
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
    variety: Variety = LIFELIKE,
) -> Phantom:
    """Make a digital patient and scan it.

    The same arguments give the same bytes on the same numpy and processor family (elementary functions may differ in
    the last bit between them).

    Args:
        seed: not negative.
        scanner: a key of `SCANNERS`; ignored when ``protocol`` is given.
        stage: what the size rule says of the truth mask. "any" is N1 for 37 patients of 77.
        protocol: a scan of your own, for instance the small field of a prostate study.
        variety: `LIFELIKE`, the default, is the phantom that the figures of `pelvic-ln-edge` 0.2.0 were measured on;
            `REALISTIC` is nearer to people. `TRAINING` is for what a network learns from: any field, cut and touching
            nodes, other contrasts. Where a node is cut by the edge of the field, ``nodes`` has all of it and
            ``labels`` what lies in the field, and it is that which the stage is of.

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
    # The default's patient of a seed is who he was before there was any other.
    kind = "" if variety == LIFELIKE else f"/{variety}"
    mixed = np.random.SeedSequence([seed, zlib.crc32(f"{scan}/{stage}{kind}".encode())])
    rng = np.random.Generator(np.random.PCG64(mixed))
    patient = variety.sample(rng)
    wanted = stage if stage != "any" else ("n1" if rng.random() < SHARE_N1 else "n0")

    frame = Frame(rng, rng.normal(0, 15, 3))
    content = organs.rectal_content(rng)
    gas_at = organs.rectal_gas(rng) if content == "air" else None
    echo = sample_echo(rng, gas_at, strong_ghost=bool(patient.ghost))
    centre = frame.to_ras(unusual.any_centre(scan, rng)) if patient.any_field else _centre(scan, frame, rng)
    canvas = Canvas(sample_grid(scan, centre, float(np.deg2rad(rng.uniform(0, 20)))), frame, echo)
    pen = Pen(canvas, scan, rng, content, realistic=bool(patient.realistic))
    skin = _paint_pelvis(pen, patient)
    field = NodeField(canvas, rng, patient)
    if not field.populate(wanted):
        raise UsageError(
            "no-room", f"protocol {scan.name!r} (seed {seed}): no suspicious node fits in its field of view"
        )
    labels, nodes = field.finish()
    _paint_nodes(nodes, pen, patient)
    organs.texture(pen)  # over nodes too: a flat node would give itself away
    array = _scan(pen, skin, patient)
    return Phantom(Volume(array, canvas.grid), labels, nodes, scan, seed, stage, canvas.slide_mm)


def _scan(pen: Pen, skin: Column, patient: Variety) -> NDArray[np.int16]:
    """What the scanner stores of the painted pelvis, (z, y, x)."""
    canvas, rng = pen.canvas, pen.rng
    averages = int(rng.choice((1, 3, 6, 12) if patient.realistic else (1, 3)))
    received = canvas.signal * canvas.density * organs.gain(pen, skin)
    received *= unusual.coil(canvas, skin, patient, rng)
    return acquire(
        canvas.echo.add_ghost(received),
        pen.muscle,
        rng,
        averages,
        snr=ANY_SNR if patient.any_noise else REALISTIC_SNR if patient.realistic else None,
        blur_vox=float(rng.uniform(0.4, 1.1)) if patient.blur else 0.0,
    )


def _paint_pelvis(pen: Pen, patient: Variety) -> Column:
    """Everything but the nodes; returns the outline of the trunk."""
    skin = anatomy.skin_of(pen)
    subcutaneous = anatomy.trunk(pen, skin)
    anatomy.muscles(pen)
    anatomy.bones(pen)
    anatomy.blood(pen)
    anatomy.nerves(pen)
    if not patient.no_bowel:
        organs.bowel(pen)
    organs.bladder(pen, empty=bool(patient.empty_bladder))
    if not patient.no_prostate:
        organs.prostate(pen)
    organs.rectum(pen)
    if not patient.no_perineum:
        organs.perineum(pen)
    organs.mimics(pen)
    if patient.clusters:
        unusual.clusters(pen.canvas, pen.rng)
    organs.unsuppressed_fat(pen, subcutaneous)
    return skin


def _centre(scan: Protocol, frame: Frame, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the middle of the field lies: mid-pelvis for a staging scan, the prostate for a thin stack."""
    height = 22.0 if scan.slices * scan.slice_mm > 110 else -4.0
    return frame.to_ras(np.array((0.0, -4.0, height)) + rng.normal(0, (6.0, 6.0, 7.0)))


def _paint_nodes(nodes: tuple[PhantomNode, ...], pen: Pen, patient: Variety) -> None:
    """Nodes share a patient's brightness, each with its own, and some show a dark fatty hilum.

    On two public studies the inguinal and iliac nodes were 5 to 24 times as bright as muscle; others hardly show.
    """
    canvas, rng = pen.canvas, pen.rng
    usual = pen.draw("node") * (rng.lognormal(0.25, 0.35) if patient.realistic else rng.lognormal(0.1, 0.3))
    if patient.bright_nodes:
        usual *= np.exp(rng.uniform(0, np.log(4.0)))
    fat = pen.draw("deep fat") if patient.realistic else None
    for node in nodes:
        value = np.float32(usual * rng.lognormal(0.0, 0.35))
        box, part = canvas.part_of(node.body.shape)
        canvas.signal[box] += part * (value - canvas.signal[box])
        dark = _hilum_signal(node, value, fat, rng)
        fatty = Union(node.body.hilum) if len(node.body.hilum) > 1 else next(iter(node.body.hilum), None)
        # A cut node's hilum may lie outside the field.
        if dark is not None and fatty is not None and canvas.reach_of(fatty) is not None:
            within = np.zeros(canvas.grid.shape, dtype=np.float32)
            within[box] = part
            box, part = canvas.part_of(fatty)
            part *= within[box]  # a hilum opens at the surface, and what sticks out of it is no node
            canvas.signal[box] += part * (dark - canvas.signal[box])


def _hilum_signal(
    node: PhantomNode, value: np.float32, fat: float | None, rng: np.random.Generator
) -> np.float32 | None:
    """How bright a node's hilum is; None where it shows none.

    That of a realistic node is as dark as the patient's fat. In the default, where ``fat`` is None, one node of three
    shows its hilum, a part as bright as the node itself.
    """
    if not node.body.hilum:
        return None
    if fat is not None:
        return np.float32(min(fat * rng.uniform(0.7, 1.6), 0.6 * float(value)))
    if node.semi_axes_mm[0] > 2.5 and rng.random() < 0.35:
        return value * np.float32(rng.uniform(0.2, 0.7))
    return None
