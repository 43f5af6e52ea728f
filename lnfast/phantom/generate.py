"""Generate a digital patient: draw the anatomy, the scan and the nodes, then simulate the acquisition."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import UsageError
from lnfast.geometry import Volume
from lnfast.phantom.acquisition import ANY_SNR, REALISTIC_SNR, acquire
from lnfast.phantom.anatomy.bones import paint_bones
from lnfast.phantom.anatomy.bowel import paint_bowel, paint_rectum, sample_rectal_content, sample_rectal_gas
from lnfast.phantom.anatomy.mimics import paint_mimics
from lnfast.phantom.anatomy.nerves import paint_nerves
from lnfast.phantom.anatomy.trunk import paint_muscles, paint_trunk, sample_skin
from lnfast.phantom.anatomy.urogenital import paint_bladder, paint_perineum, paint_prostate
from lnfast.phantom.anatomy.vessels import paint_vessels
from lnfast.phantom.atlas import AtlasTransform
from lnfast.phantom.domain_randomization import LIFELIKE, Variety
from lnfast.phantom.epi_artefacts import sample_epi_artefacts
from lnfast.phantom.fat_suppression import add_unsuppressed_fat
from lnfast.phantom.field_of_view import any_centre, usual_centre
from lnfast.phantom.nodes.painting import paint_nodes
from lnfast.phantom.nodes.placement import NodePlacer, PhantomNode
from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.protocol import SCANNERS, Protocol, sample_grid
from lnfast.phantom.random_contrast import randomize_contrast
from lnfast.phantom.receive_coil import added_sensitivity, receive_sensitivity
from lnfast.phantom.shapes import Column
from lnfast.phantom.texture import apply_texture
from lnfast.phantom.tissue_image import TissueImage

SHARE_N1 = 37 / 77  # of the paper's hold-out patients


@dataclass(frozen=True)
class Phantom:
    """One digital patient.

    Attributes:
        volume: int16 magnitude at the protocol's b-value, C-contiguous (z, y, x).
        labels: (z, y, x) uint16; a node's label where at least half of the voxel lies in the node, its hilum included,
            else 0. Each node is one 26-connected component, and labels run in raster order of first voxels.
        nodes: the nodes, ``nodes[i].label == i + 1``.
        protocol: how the patient was scanned.
        seed: the seed the patient was generated from.
        requested_stage: "n0", "n1" or "any".
        slice_shift_xy_mm: (z, 2) displacement of each slice along x and y, because the patient moved; shapes of nodes
            are given without it, voxels with it.
        variety: from which the patient was drawn.
    """

    volume: Volume
    labels: NDArray[np.uint16]
    nodes: tuple[PhantomNode, ...]
    protocol: Protocol
    seed: int
    requested_stage: str
    slice_shift_xy_mm: NDArray[np.float64]
    variety: Variety


def make_phantom(
    seed: int,
    scanner: str = "ingenia",
    stage: Literal["n0", "n1", "any"] = "any",
    *,
    protocol: Protocol | None = None,
    variety: Variety = LIFELIKE,
) -> Phantom:
    """Generate a digital patient and scan it.

    The same arguments give the same bytes on the same numpy and processor family (elementary functions may differ in
    the last bit between them), as long as `lnfast.phantom.VERSION` is the same.

    Args:
        seed: not negative.
        scanner: a key of `SCANNERS`; ignored when ``protocol`` is given.
        stage: the stage of the truth mask by the size rule. "any" is N1 for 37 patients of 77.
        protocol: a scan of your own, for instance the small field of a prostate study.
        variety: `LIFELIKE`, the default, is the phantom that the figures of `pelvic-ln-edge` 0.2.0 were measured on;
            `REALISTIC` is nearer to people. `TRAINING` is for what a network learns from: any field, cut and touching
            nodes, other contrasts. Where a node is cut by the edge of the field, ``nodes`` has all of it and
            ``labels`` the part in the field, from which the stage follows.

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
    protocol = protocol or SCANNERS[scanner]
    rng = _generator(seed, protocol, stage, variety)
    patient = variety.sample(rng)
    drawn_stage = stage if stage != "any" else ("n1" if rng.random() < SHARE_N1 else "n0")

    transform = AtlasTransform(rng, rng.normal(0, 15, 3))
    rectal_content = sample_rectal_content(rng)
    gas_at = sample_rectal_gas(rng) if rectal_content == "air" else None
    artefacts = sample_epi_artefacts(rng, gas_at, strong_ghost=bool(patient.ghost))
    centre = (any_centre if patient.any_field else usual_centre)(protocol, transform, rng)
    grid = sample_grid(protocol, centre, float(np.deg2rad(rng.uniform(0, 20))))
    image = TissueImage(grid, transform, artefacts)
    painter = TissuePainter(image, protocol, rng, rectal_content, realistic=bool(patient.realistic))
    skin = _paint_pelvis(painter, patient)
    placer = NodePlacer(image, rng, patient)
    if not placer.populate(drawn_stage):
        raise UsageError(
            "no-room", f"protocol {protocol.name!r} (seed {seed}): no suspicious node fits in its field of view"
        )
    labels, nodes = placer.renumbered()
    paint_nodes(nodes, painter, patient)
    apply_texture(painter)  # over nodes too: a node without texture would be recognisable by that
    array = _scan(painter, skin, patient)
    return Phantom(Volume(array, grid), labels, nodes, protocol, seed, stage, image.slice_shift_mm, variety)


def _generator(seed: int, protocol: Protocol, stage: str, variety: Variety) -> np.random.Generator:
    """Return the generator of a patient's draws.

    The texts of protocol and variety, names of classes and fields included, are part of the seed. The default variety
    is not: its patients were fixed before there was any other.
    """
    suffix = "" if variety == LIFELIKE else f"/{variety}"
    sequence = np.random.SeedSequence([seed, zlib.crc32(f"{protocol}/{stage}{suffix}".encode())])
    return np.random.Generator(np.random.PCG64(sequence))


def _paint_pelvis(painter: TissuePainter, patient: Variety) -> Column:
    """Paint everything but the nodes; return the outline of the trunk."""
    skin = sample_skin(painter)
    subcutaneous = paint_trunk(painter, skin)
    paint_muscles(painter)
    paint_bones(painter)
    paint_vessels(painter)
    paint_nerves(painter)
    if not patient.no_bowel:
        paint_bowel(painter)
    paint_bladder(painter, empty=bool(patient.empty_bladder))
    if not patient.no_prostate:
        paint_prostate(painter)
    paint_rectum(painter)
    if not patient.no_perineum:
        paint_perineum(painter)
    paint_mimics(painter)
    if patient.clusters:
        randomize_contrast(painter.image, painter.rng)
    add_unsuppressed_fat(painter, subcutaneous)
    return skin


def _scan(painter: TissuePainter, skin: Column, patient: Variety) -> NDArray[np.int16]:
    """Simulate what the scanner stores of the painted pelvis, (z, y, x)."""
    image, rng = painter.image, painter.rng
    averages = int(rng.choice((1, 3, 6, 12) if patient.realistic else (1, 3)))
    received = image.signal * image.density * receive_sensitivity(painter, skin)
    received *= added_sensitivity(image, skin, patient, rng)
    return acquire(
        image.artefacts.add_ghost(received),
        painter.muscle,
        rng,
        averages,
        snr=ANY_SNR if patient.any_noise else REALISTIC_SNR if patient.realistic else None,
        blur_vox=float(rng.uniform(0.4, 1.1)) if patient.blur else 0.0,
    )
