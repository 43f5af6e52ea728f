"""Seeded inputs of the group ``kernels``: a digital patient with 27 nodes, the paper's average, on the scanner's grid
and on the network's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.harness.grids import NETWORK_ZYX, network_grid
from benchmarks.harness.logits import box_around, centres_mm, logits_around
from benchmarks.harness.settings import Settings
from benchmarks.kernels.peers import normalize, resize
from lnfast.geometry import Grid
from lnfast.phantom import SCANNERS, Phantom, make_phantom
from lnfast.phantom.shapes import Ellipsoid

NODES = 27
# The scanner whose study is resampled to the network's grid and back.
SCANNER = "ingenia"
PERCENTILES = (0.5, 99.5)
THRESHOLD, LEVEL = 0.5, 0.0  # of a probability and of its logit
BIG_NODE_VOXELS = 20_000
Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class KernelScan:
    """Intensities and nodes of one study.

    Attributes:
        image: ``(z, y, x)``; int16 as the scanner stores it, float32 on the network's grid.
        mask: of the same shape, 1 in the first `NODES` nodes.
        grid: of both.
    """

    image: NDArray[Any]
    mask: Mask
    grid: Grid


@dataclass(frozen=True, eq=False)
class KernelInputs:
    """The inputs of all tasks.

    Attributes:
        natives: by scanner; `SCANNER` is always among them.
        network: `SCANNER`'s study on the network's grid; the nodes are those of ``logits > 0``.
        logits: float32 on the same grid, about every node of that study.
        big_node: uint8 on the same grid, one node of about `BIG_NODE_VOXELS`.
        content: the voxels of `SCANNER`'s study as its file stores them.
    """

    natives: Mapping[str, KernelScan]
    network: KernelScan
    logits: NDArray[np.float32]
    big_node: Mask
    content: bytes

    @property
    def native(self) -> KernelScan:
        """The study of the logits."""
        return self.natives[SCANNER]


def make_inputs(settings: Settings) -> KernelInputs:
    """Make, from the seed on, the first patients with at least `NODES` nodes; the quick run makes `SCANNER`'s alone."""
    rng = np.random.default_rng(settings.seed)
    for seed in count(settings.seed):
        phantom = make_phantom(seed, SCANNER, "n1")
        grid = network_grid(phantom.volume.grid)
        # The ellipsoid in each node's box, whatever the node's shape: timings stay those of the same kind of work.
        bodies = [Ellipsoid(node.centre_ras_mm, node.semi_axes_mm, node.axes_ras) for node in phantom.nodes]
        logits = logits_around(bodies, grid, rng)
        labels, components = ndimage.label(logits > 0, np.ones((3, 3, 3)))
        # Neighbours may meet on this grid.
        if min(components, len(phantom.nodes)) >= NODES:
            break
    natives = {SCANNER: _native(phantom)}
    for scanner in () if settings.quick else sorted(SCANNERS.keys() - {SCANNER}):
        natives[scanner] = _native(_phantom_with_nodes(settings.seed, scanner))
    network = KernelScan(resize(normalize(phantom.volume.array, PERCENTILES), NETWORK_ZYX), _first_nodes(labels), grid)
    return KernelInputs(natives, network, logits, _big_node(grid, rng), phantom.volume.array.tobytes())


def with_noise(mask: Mask, share: float, rng: np.random.Generator) -> Mask:
    """Return the mask with that share of all voxels set as well, each independently."""
    return mask | (rng.random(mask.shape, np.float32) < share).view(np.uint8)


def _phantom_with_nodes(first_seed: int, scanner: str) -> Phantom:
    phantoms = (make_phantom(seed, scanner, "n1") for seed in count(first_seed))
    return next(phantom for phantom in phantoms if len(phantom.nodes) >= NODES)


def _native(phantom: Phantom) -> KernelScan:
    return KernelScan(phantom.volume.array, _first_nodes(phantom.labels), phantom.volume.grid)


def _first_nodes(labels: NDArray[Any]) -> Mask:
    return ((labels > 0) & (labels <= NODES)).astype(np.uint8)


def _big_node(grid: Grid, rng: np.random.Generator) -> Mask:
    """An ellipsoid of 1 : 1.2 : 1.5 in the middle of the grid, turned at random."""
    ratios = np.array((1.0, 1.2, 1.5))
    shortest_mm = (BIG_NODE_VOXELS * grid.voxel_mm3 / (4 / 3 * np.pi * ratios.prod())) ** (1 / 3)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    middle = grid.to_ras_mm((np.array(grid.shape[::-1]) - 1) / 2)
    body = Ellipsoid(middle, shortest_mm * ratios, rotation)
    box = box_around(body, grid, 0.0)
    node = np.zeros(grid.shape, np.uint8)
    node[box] = body.distance(centres_mm(grid, box)) <= 0
    return node
