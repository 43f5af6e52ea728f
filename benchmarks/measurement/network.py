"""The same rules on the nodes that the shipped network marks in whole phantoms.

The phantom leaves out nodes between 7.5 and 8.8 mm *by the box rule on its truth mask*, which would flatter that rule.
Here nodes of every size are placed, by whatever rule they may be suspicious.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.harness.reference import reference_logits
from benchmarks.harness.settings import Settings
from benchmarks.measurement.ellipsoids import band_of, orientation_of
from benchmarks.measurement.rules import box_and_axial_mm, surface_mm
from benchmarks.measurement.summary import NodeMeasurement
from lnfast.geometry import Volume
from lnfast.phantom import LIFELIKE, REALISTIC, SCANNERS, Phantom, PhantomNode, Variety, generate, make_phantom
from lnfast.phantom.nodes import placement
from lnfast.postprocess import segment
from lnfast.preprocess import normalization, write_slabs
from lnfast_ext import ellipsoid_short_axes, measure_components

# Seeds on which training validates: a rule chosen by these phantoms is not chosen by those held out for tests.
FIRST_SEED, PHANTOMS, QUICK_PHANTOMS = 9000, 24, 1
NODES_PER_PHANTOM, TRIES_PER_NODE = 25, 40
SIZES_MM = (4.0, 14.0)
# A node is detected when a component holds half of it, or it holds half of the component; of several components, the
# one that shares most voxels is measured.
OVERLAP = 0.5
AROUND = 2  # voxels about a node within which it is measured
# The mask of a `NodeMeasurement`, and the phantoms that it stands for.
VARIETIES = {"network, realistic phantoms": REALISTIC, "network, default phantoms": LIFELIKE}

Logits = NDArray[np.float32]


class UniformNodePlacer(placement.NodePlacer):
    """Nodes with uniformly distributed sizes, where the phantom's own rules place them."""

    def populate(self, stage: str) -> bool:
        """Place `NODES_PER_PHANTOM` nodes, whatever the stage."""
        remaining = NODES_PER_PHANTOM
        for _ in range(TRIES_PER_NODE * remaining):
            remaining -= self._try_placing(float(self.rng.uniform(*SIZES_MM)), large=False)
            if remaining == 0:
                break
        return True


def phantom_of_every_size(seed: int, scanner: str, variety: Variety = LIFELIKE) -> Phantom:
    """Make a phantom without the gap about 8 mm."""
    gap: Any = {"CLEARLY_BENIGN_MM": math.inf, "CLEARLY_SUSPICIOUS_MM": 0.0}
    with mock.patch.multiple(placement, **gap), mock.patch.object(generate, "NodePlacer", UniformNodePlacer):
        return make_phantom(seed, scanner, variety=variety)


def measure_network_nodes(settings: Settings) -> Iterator[NodeMeasurement]:
    """Measure the detected nodes of all phantoms; missed nodes are not this benchmark's subject."""
    scanners = sorted(SCANNERS)
    for mask, variety in VARIETIES.items():
        for seed in range(FIRST_SEED, FIRST_SEED + (QUICK_PHANTOMS if settings.quick else PHANTOMS)):
            scanner = scanners[seed % len(scanners)]
            phantom = phantom_of_every_size(seed, scanner, variety)
            settings.progress(f"measurement: {mask}, {seed}")
            yield from measure_detected_nodes(phantom, mask, scanner, settings)


def measure_detected_nodes(phantom: Phantom, mask: str, scanner: str, settings: Settings) -> Iterator[NodeMeasurement]:
    """Measure what the model marks in one phantom."""
    card = settings.model.card
    x = np.empty((1, 1, *card.shape_zyx), np.float32)
    (slab,) = write_slabs(phantom.volume, card, x[0, 0], threads=settings.threads)
    norm = normalization(phantom.volume, card, threads=settings.threads)
    logits = slab.part_of(reference_logits(settings.model, x, settings.threads)[0, 0])
    segmentation = segment(
        logits,
        phantom.volume.grid,
        card,
        image=phantom.volume,
        floor=norm.lo,
        window=slab,
        threads=settings.threads,
    )
    truth = Volume(phantom.labels, phantom.volume.grid).oriented(card.orientation)
    labels = segmentation.labels.oriented(card.orientation)
    matches = match_nodes(labels.array, truth.array, phantom.nodes)
    affine = labels.grid.affine
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    bounds = measure_components(labels.array, segmentation.count, affine)["bounds_zyx"]
    ellipsoids = ellipsoid_short_axes(labels.array, bounds, logits, affine)
    for label, node in sorted(matches.items(), key=lambda item: item[0]):
        short_mm = 2 * float(node.semi_axes_mm[0])
        size = band_of(short_mm)
        if size is None:
            continue
        group = (scanner, size, orientation_of(float(node.axes_ras[0] @ normal)))
        values = single_node_mm(labels, label, bounds[label - 1], logits, card.level)
        for rule, value in {**values, "ellipsoid": ellipsoids[label - 1]}.items():
            yield NodeMeasurement(mask, rule, "box", *group, short_mm, value)


def match_nodes(
    labels: NDArray[np.uint16], truth: NDArray[np.uint16], nodes: tuple[PhantomNode, ...]
) -> dict[int, PhantomNode]:
    """Match nodes and components that share most voxels; each is in one match at most.

    The benchmarks' own matcher, independent of `lnfast.matching`.

    Returns:
        The node of each matched component, by the component's label.
    """
    pairs, shared = np.unique(np.stack((labels, truth))[:, (labels > 0) & (truth > 0)], axis=1, return_counts=True)
    of_label, of_truth = np.bincount(labels.ravel()), np.bincount(truth.ravel())
    matches: dict[int, PhantomNode] = {}
    for position in np.argsort(-shared, kind="stable"):
        label, node = (int(value) for value in pairs[:, position])
        enough = shared[position] >= OVERLAP * min(of_label[label], of_truth[node])
        if enough and label not in matches and nodes[node - 1] not in matches.values():
            matches[label] = nodes[node - 1]
    return matches


def single_node_mm(
    labels: Volume, label: int, bounds_zyx: NDArray[np.int32], logits: Logits, level: float
) -> dict[str, float]:
    """Return the short axis of a detected node by the rules that measure one node at a time.

    Args:
        labels: native grid in the network's axes.
        label: of the node.
        bounds_zyx: (3, 2), first and one past the last.
        logits: ``(z, y, x)`` on the grid with the same outer edges.
        level: above which a voxel belongs to a node.
    """
    box = tuple(slice(max(a - AROUND, 0), b + AROUND) for a, b in bounds_zyx)
    mask = np.pad(labels.array[box] == label, 1)
    box_mm, axial_mm = box_and_axial_mm(mask, labels.grid.affine)
    start = np.array([axis.start - 1 for axis in box])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in mask.shape), indexing="ij")) + start[:, None, None, None]
    ratio = np.array(logits.shape) / np.array(labels.array.shape)
    place = (index + 0.5) * ratio[:, None, None, None] - 0.5
    field = ndimage.map_coordinates(logits, place, order=1, mode="nearest", output=np.float64)
    return {"box": box_mm, "axial": axial_mm, "surface": surface_mm(field, mask, level, labels.grid.affine)}
