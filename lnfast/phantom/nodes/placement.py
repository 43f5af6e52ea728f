"""Placement of lymph nodes on the voxel grid: position, size and voxels, within the limits of the clinical rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.domain_randomization import LIFELIKE, Variety
from lnfast.phantom.nodes.shape import NodeShape, sample_node_chain, sample_node_shape, sample_realistic_node_shape
from lnfast.phantom.nodes.stations import STATIONS, station_path
from lnfast.phantom.rasterization import Box
from lnfast.phantom.tissue_image import TissueImage
from lnfast_ext import label_components, measure_components

# The rule says 8 mm. No node measures between these two: at 8.01 mm the stage would be a coin toss for any reader.
CLEARLY_BENIGN_MM, CLEARLY_SUSPICIOUS_MM = 7.5, 8.8

FEWEST_VOXELS = 3

# Nodes of people are long along their vessel for the most part; this share of the realistic ones lies in any direction,
# mostly in plane.
ANY_DIRECTION = 0.4

# Realistic nodes of this size and more may show a fatty hilum. In the groin most do, and it is much of the node.
HILUM_FROM_MM = 5.0


@dataclass(frozen=True, eq=False)
class PhantomNode:
    """One lymph node, exactly known.

    Attributes:
        label: its value in `Phantom.labels`, 1..n.
        shape: in RAS mm, without the motion between slices (`TissueImage.slice_shift_mm`).
        centre_ras_mm: (3,) float64, of the shape's minimum-volume box.
        axes_ras: (3, 3) float64, unit rows in the order of ``semi_axes_mm``.
        semi_axes_mm: (3,) float64, ascending: half the edges of that box. An ellipsoid's are its semi-axes.
        volume_mm3: of the shape, not of its voxels.
        station: such as "external iliac left".
    """

    label: int
    shape: NodeShape
    centre_ras_mm: NDArray[np.float64]
    axes_ras: NDArray[np.float64]
    semi_axes_mm: NDArray[np.float64]
    volume_mm3: float
    station: str


class NodePlacer:
    """Places nodes one after the other; accepts a node only if it is distinct from all others on the voxel grid.

    Attributes:
        labels: (z, y, x) uint16, in the order of placement.
        nodes: accepted so far.
    """

    def __init__(self, image: TissueImage, rng: np.random.Generator, patient: Variety = LIFELIKE) -> None:
        self.image, self.rng, self.grid, self.patient = image, rng, image.grid, patient
        self.labels = np.zeros(self.grid.shape, dtype=np.uint16)
        self.nodes: list[PhantomNode] = []

    def populate(self, stage: str) -> bool:
        """Place a patient's nodes; return False when no suspicious node of an N1 patient fits in the field."""
        rng = self.rng
        if stage == "n1":
            remaining = int(np.clip(rng.poisson(5.0), 1, 12))
            for _ in range(60 * remaining):
                remaining -= self._try_placing(self._sample_suspicious_mm(), large=True, chain=self._is_chain())
                if remaining == 0:
                    break
            if not self.nodes:
                return False
        if self.patient.rim_nodes:
            remaining = int(rng.integers(1, 5))
            for _ in range(10 * remaining):
                size = self._sample_suspicious_mm() if rng.random() < 0.4 else self._sample_benign_mm()
                remaining -= self._try_placing(size, large=False, rim=True)
                if remaining == 0:
                    break
        # Half of the attempts are too small for the voxels or meet an organ; a small field of view contains only some.
        remaining = int(np.clip(rng.normal(25.0, 6.0), 8, 40))
        for _ in range(5 * remaining):
            remaining -= self._try_placing(self._sample_benign_mm(), large=False, chain=self._is_chain())
            if remaining == 0:
                break
        return True

    def _sample_suspicious_mm(self) -> float:
        """Draw the short axis of a clearly suspicious node."""
        if self.patient.all_sizes:
            return float(np.exp(self.rng.uniform(np.log(9.0), np.log(28.0))))
        return float(self.rng.triangular(9.0, 10.0, 16.0))

    def _sample_benign_mm(self) -> float:
        """Draw the short axis of a clearly benign node."""
        return float(np.clip(self.rng.lognormal(np.log(4.9), 0.22), 3.0, 7.2))

    def _is_chain(self) -> bool:
        return bool(self.patient.chains) and self.rng.random() < 0.15

    def renumbered(self) -> tuple[NDArray[np.uint16], tuple[PhantomNode, ...]]:
        """Return labels and nodes, numbered 1..n in raster order of each node's first voxel."""
        first = np.unique(self.labels, return_index=True)
        order = [int(label) for label, _ in sorted(zip(*first, strict=True), key=lambda pair: int(pair[1])) if label]
        table = np.zeros(len(self.nodes) + 1, dtype=np.uint16)
        table[order] = np.arange(1, len(order) + 1)
        nodes = (replace(self.nodes[old - 1], label=new) for new, old in enumerate(order, start=1))
        labels = table[self.labels]
        components, count = label_components(labels > 0)
        assert count == len(self.nodes) and np.array_equal(components, labels), "nodes are separate components"
        return labels, tuple(nodes)

    def _try_placing(self, short_mm: float, *, large: bool, chain: bool = False, rim: bool = False) -> bool:
        shape, station = self._sample(short_mm, chain=chain)
        if rim:
            shape = self._at_rim(shape)
        bounding_box = self.image.bounding_box(shape)
        if bounding_box is None:
            return False
        cut = any(s.start == 0 or s.stop == n for s, n in zip(bounding_box, self.grid.shape, strict=True))
        if cut and not self.patient.rim_nodes:
            return False  # a node at the edge of the field would be measured as it is cut
        box, part = self.image.coverage_of(shape)
        mask = part >= 0.5
        if mask.sum() < FEWEST_VOXELS or not _connected(mask) or not self._free(box, mask):
            return False
        if rim and not self._in_tissue(box, mask):
            return False
        measured = measure_components(mask.astype(np.uint16), 1, self.grid.affine)
        edge = float(measured["box_mm"][0][0])
        if (edge < CLEARLY_SUSPICIOUS_MM) if large else (edge > CLEARLY_BENIGN_MM):
            return False
        node = PhantomNode(len(self.nodes) + 1, shape, *shape.minimum_box(), shape.volume_mm3(), station)
        self.labels[box][mask] = node.label
        self.nodes.append(node)
        return True

    def _at_rim(self, shape: NodeShape) -> NodeShape:
        """Return the shape translated to a face of the field, so that about half of it is cut off."""
        nz, ny, nx = self.grid.shape
        centre, _, half_edges = shape.minimum_box()
        index = np.linalg.inv(self.grid.affine)[:3] @ np.append(centre, 1.0)
        sizes = np.array((nx, ny, nz))
        # Small fields end at the sides in the groin; at the front and the back there is mostly air.
        axis = int(self.rng.choice(3, p=(0.6, 0.1, 0.3)))
        half = float(half_edges[0]) / self.grid.spacing_zyx_mm[2 - axis]
        inward = self.rng.uniform(-0.4, 0.9) * half
        index = np.clip(index, 2, sizes - 3)
        index[axis] = -0.5 + inward if self.rng.random() < 0.5 else sizes[axis] - 0.5 - inward
        return shape.translated(self.grid.to_ras_mm(index) - centre)

    def _in_tissue(self, box: Box, mask: NDArray[np.bool_]) -> bool:
        """Return whether the mask is not in the air beside the patient."""
        return bool((self.image.signal[box][mask] > 0).mean() > 0.9)

    def _free(self, box: Box, mask: NDArray[np.bool_]) -> bool:
        """Return whether no other node is within a voxel and at most a tenth lies inside an organ, a bone or bowel.

        In patients with bulky nodes a third may, because these displace what is there.
        """
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        occupied = self.labels[around] > 0
        if occupied.any():
            own = np.zeros(occupied.shape, dtype=bool)
            inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True))
            own[inner] = mask
            if (_dilate(own) & occupied).any():
                return False
        return bool(self.image.solid[box][mask].mean() < (0.33 if self.patient.all_sizes else 0.1))

    def _sample(self, short_mm: float, *, chain: bool = False) -> tuple[NodeShape, str]:
        """Draw a shape beside the vessels of a station, often touching them; return it and the station's name."""
        rng = self.rng
        side, s = SIDES[rng.integers(2)]
        station = str(rng.choice(list(STATIONS), p=list(STATIONS.values())))
        path, radius = station_path(station, s)
        i = int(rng.integers(len(path) - 1))
        along = path[i + 1] - path[i]
        away = rng.standard_normal(3)
        away -= along * (away @ along) / (along @ along)
        away /= np.linalg.norm(away)
        # Iliac nodes lie on their vessels; those of the groin are spread through its fat.
        spread_mm = 7.0 if station == "inguinal" else 3.0
        centre = path[i] + rng.random() * along + away * (radius + 0.4 * short_mm + abs(rng.normal(0, spread_mm)))
        if self.patient.realistic and rng.random() < ANY_DIRECTION:
            long = rng.standard_normal(3) * (1.0, 1.0, 0.4)
        else:
            long = along / np.linalg.norm(along) + rng.normal(0, 0.35, 3)
        axes = _orthonormal(long, away + rng.normal(0, 0.3, 3))
        shape = self._sample_shape(short_mm, station, chain=chain)
        return shape.placed(self.image.to_ras(centre), axes), f"{station} {side}"

    def _sample_shape(self, short_mm: float, station: str, *, chain: bool) -> NodeShape:
        share = _hilum_share(self.rng, station, short_mm) if self.patient.realistic else 0.0
        if chain:
            return sample_node_chain(self.rng, short_mm, share)
        if self.patient.realistic:
            return sample_realistic_node_shape(self.rng, short_mm, share)
        return sample_node_shape(self.rng, short_mm)


def _hilum_share(rng: np.random.Generator, station: str, short_mm: float) -> float:
    """Draw the share of a realistic node that is its fatty hilum; 0 for none."""
    probability, least, most = (0.8, 0.3, 0.75) if station == "inguinal" else (0.4, 0.1, 0.65)
    visible = short_mm >= HILUM_FROM_MM and rng.random() < probability
    return float(rng.uniform(least, most)) if visible else 0.0


def _orthonormal(long: NDArray[np.float64], short: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit rows (short, middle, long) from two directions that are not parallel."""
    third = long / np.linalg.norm(long)
    first = short - third * (short @ third)
    first /= np.linalg.norm(first)
    return np.stack((first, np.cross(third, first), third))


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dilate by one voxel in all 26 directions."""
    for axis in range(3):
        dilated = mask.copy()
        head = [slice(None)] * 3
        tail = [slice(None)] * 3
        head[axis], tail[axis] = slice(1, None), slice(None, -1)
        dilated[tuple(head)] |= mask[tuple(tail)]
        dilated[tuple(tail)] |= mask[tuple(head)]
        mask = dilated
    return mask


def _connected(mask: NDArray[np.bool_]) -> bool:
    """Return whether the mask is one 26-connected component; a thin oblique node can fall apart at half a voxel."""
    reached = np.zeros_like(mask)
    reached[np.unravel_index(int(mask.argmax()), mask.shape)] = True
    count = 0
    while count != int(reached.sum()):
        count = int(reached.sum())
        reached = _dilate(reached) & mask
    return count == int(mask.sum())
