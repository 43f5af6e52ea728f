"""Lymph nodes: where they lie, how big they are, which voxels are theirs, and what the clinical rule says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy import SIDES, vessels
from lnfast.phantom.bodies import Body, sample_body, sample_chain, sample_realistic_body
from lnfast.phantom.canvas import Canvas
from lnfast.phantom.shapes import Box
from lnfast.phantom.variety import LIFELIKE, Variety
from lnfast_ext import label_components, measure_components

# The rule says 8 mm. No node measures between these two: at 8.01 mm the stage would be a coin toss for any reader.
CLEARLY_BENIGN_MM, CLEARLY_SUSPICIOUS_MM = 7.5, 8.8
FEWEST_VOXELS = 3
# Realistic nodes of this size and more may show a fatty hilum. In the groin most do, and it is much of the node.
HILUM_FROM_MM = 5.0

# Share of the nodes that are tried at each station.
STATIONS = {"common iliac": 0.11, "external iliac": 0.33, "internal iliac": 0.13, "obturator": 0.18, "inguinal": 0.25}


@dataclass(frozen=True, eq=False)
class PhantomNode:
    """One lymph node, exactly known.

    Attributes:
        label: its value in `Phantom.labels`, 1..n.
        body: itself, in RAS mm, as it lies where nothing moves between two slices (`Canvas.slide_mm`).
        centre_ras_mm: (3,) float64, of the body's minimum-volume box.
        axes_ras: (3, 3) float64, unit rows in the order of ``semi_axes_mm``.
        semi_axes_mm: (3,) float64, ascending: half the edges of that box. An ellipsoid's are its semi-axes.
        volume_mm3: of the body, not of its voxels.
        station: such as "external iliac left".
    """

    label: int
    body: Body
    centre_ras_mm: NDArray[np.float64]
    axes_ras: NDArray[np.float64]
    semi_axes_mm: NDArray[np.float64]
    volume_mm3: float
    station: str


class NodeField:
    """Places nodes one by one, each accepted only if the voxel grid can tell it from all others.

    Attributes:
        labels: (z, y, x) uint16, in order of placing until `finish`.
        nodes: accepted so far.
    """

    def __init__(self, canvas: Canvas, rng: np.random.Generator, patient: Variety = LIFELIKE) -> None:
        self.canvas, self.rng, self.grid, self.patient = canvas, rng, canvas.grid, patient
        self.labels = np.zeros(self.grid.shape, dtype=np.uint16)
        self.nodes: list[PhantomNode] = []

    def populate(self, stage: str) -> bool:
        """Place a patient's nodes; False when the stage asked for found no room in the field."""
        rng = self.rng
        if stage == "n1":
            wanted = int(np.clip(rng.poisson(5.0), 1, 12))
            for _ in range(60 * wanted):
                wanted -= self._try(self._large_mm(), large=True, chain=self._is_chain())
                if wanted == 0:
                    break
            if not self.nodes:
                return False
        if self.patient.rim_nodes:
            wanted = int(rng.integers(1, 5))
            for _ in range(10 * wanted):
                size = self._large_mm() if rng.random() < 0.4 else self._small_mm()
                wanted -= self._try(size, large=False, rim=True)
                if wanted == 0:
                    break
        # Half of what is tried is too small for the voxels or meets an organ; a small field of view sees only some.
        wanted = int(np.clip(rng.normal(25.0, 6.0), 8, 40))
        for _ in range(5 * wanted):
            wanted -= self._try(self._small_mm(), large=False, chain=self._is_chain())
            if wanted == 0:
                break
        return True

    def _large_mm(self) -> float:
        """Short axis of a node that is clearly suspicious."""
        if self.patient.all_sizes:
            return float(np.exp(self.rng.uniform(np.log(9.0), np.log(28.0))))
        return float(self.rng.triangular(9.0, 10.0, 16.0))

    def _small_mm(self) -> float:
        """Short axis of a node that is clearly benign."""
        return float(np.clip(self.rng.lognormal(np.log(4.9), 0.22), 3.0, 7.2))

    def _is_chain(self) -> bool:
        return bool(self.patient.chains) and self.rng.random() < 0.15

    def finish(self) -> tuple[NDArray[np.uint16], tuple[PhantomNode, ...]]:
        """Renumber 1..n in raster order of each node's first voxel."""
        first = np.unique(self.labels, return_index=True)
        order = [int(label) for label, _ in sorted(zip(*first, strict=True), key=lambda pair: int(pair[1])) if label]
        table = np.zeros(len(self.nodes) + 1, dtype=np.uint16)
        table[order] = np.arange(1, len(order) + 1)
        nodes = (replace(self.nodes[old - 1], label=new) for new, old in enumerate(order, start=1))
        labels = table[self.labels]
        found, count = label_components(labels > 0)
        assert count == len(self.nodes) and np.array_equal(found, labels), "nodes are apart on the grid"
        return labels, tuple(nodes)

    def _try(self, short_mm: float, *, large: bool, chain: bool = False, rim: bool = False) -> bool:
        body, station = self._sample(short_mm, chain=chain)
        if rim:
            body = self._at_rim(body)
        reach = self.canvas.reach_of(body.shape)
        if reach is None:
            return False
        cut = any(s.start == 0 or s.stop == n for s, n in zip(reach, self.grid.shape, strict=True))
        if cut and not self.patient.rim_nodes:
            return False  # at the rim of the field a node would be measured by its cut
        box, part = self.canvas.part_of(body.shape)
        mask = part >= 0.5
        if mask.sum() < FEWEST_VOXELS or not _connected(mask) or not self._free(box, mask):
            return False
        if rim and not self._in_tissue(box, mask):
            return False
        measured = measure_components(mask.astype(np.uint16), 1, self.grid.affine)
        edge = float(measured["box_mm"][0][0])
        if (edge < CLEARLY_SUSPICIOUS_MM) if large else (edge > CLEARLY_BENIGN_MM):
            return False
        node = PhantomNode(len(self.nodes) + 1, body, *body.box(), body.volume_mm3(), station)
        self.labels[box][mask] = node.label
        self.nodes.append(node)
        return True

    def _at_rim(self, body: Body) -> Body:
        """The body moved straight to a face of the field, so that a half of it or less or more is cut off."""
        nz, ny, nx = self.grid.shape
        index = np.linalg.inv(self.grid.affine)[:3] @ np.append(body.box()[0], 1.0)
        sizes = np.array((nx, ny, nz))
        # Small fields end at the sides in the groin; at the front and the back there is mostly air.
        axis = int(self.rng.choice(3, p=(0.6, 0.1, 0.3)))
        half = float(body.box()[2][0]) / self.grid.spacing_zyx_mm[2 - axis]
        inward = self.rng.uniform(-0.4, 0.9) * half
        index = np.clip(index, 2, sizes - 3)
        index[axis] = -0.5 + inward if self.rng.random() < 0.5 else sizes[axis] - 0.5 - inward
        return body.moved(self.grid.to_ras_mm(index) - body.box()[0])

    def _in_tissue(self, box: Box, mask: NDArray[np.bool_]) -> bool:
        """Not in the air beside the patient."""
        return bool((self.canvas.signal[box][mask] > 0).mean() > 0.9)

    def _free(self, box: Box, mask: NDArray[np.bool_]) -> bool:
        """No other node within a voxel, and at most a tenth of the node inside an organ, a bone or bowel.

        In patients with bulky nodes a third may, for those push aside what is there.
        """
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        others = self.labels[around] > 0
        if others.any():
            own = np.zeros(others.shape, dtype=bool)
            inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True))
            own[inner] = mask
            if (_dilate(own) & others).any():
                return False
        return bool(self.canvas.solid[box][mask].mean() < (0.33 if self.patient.all_sizes else 0.1))

    def _sample(self, short_mm: float, *, chain: bool = False) -> tuple[Body, str]:
        """A body beside the vessels of a station, often touching them, and the station's name."""
        rng = self.rng
        side, s = SIDES[rng.integers(2)]
        station = str(rng.choice(list(STATIONS), p=list(STATIONS.values())))
        path, radius = chain_of(station, s)
        i = int(rng.integers(len(path) - 1))
        along = path[i + 1] - path[i]
        away = rng.standard_normal(3)
        away -= along * (away @ along) / (along @ along)
        away /= np.linalg.norm(away)
        # Iliac nodes lie on their vessels; those of the groin are spread through its fat.
        spread_mm = 7.0 if station == "inguinal" else 3.0
        centre = path[i] + rng.random() * along + away * (radius + 0.4 * short_mm + abs(rng.normal(0, spread_mm)))
        long = along / np.linalg.norm(along) + rng.normal(0, 0.35, 3)
        axes = _right_angled(long, away + rng.normal(0, 0.3, 3))
        body = self._sample_shape(short_mm, station, chain=chain)
        return body.placed(self.canvas.to_ras(centre), axes), f"{station} {side}"

    def _sample_shape(self, short_mm: float, station: str, *, chain: bool) -> Body:
        share = _hilum_share(self.rng, station, short_mm) if self.patient.realistic else 0.0
        if chain:
            return sample_chain(self.rng, short_mm, share)
        if self.patient.realistic:
            return sample_realistic_body(self.rng, short_mm, share)
        return sample_body(self.rng, short_mm)


def _hilum_share(rng: np.random.Generator, station: str, short_mm: float) -> float:
    """How much of a realistic node is its fatty hilum; 0 for none."""
    usual, least, most = (0.8, 0.3, 0.75) if station == "inguinal" else (0.4, 0.1, 0.65)
    shows = short_mm >= HILUM_FROM_MM and rng.random() < usual
    return float(rng.uniform(least, most)) if shows else 0.0


def chain_of(station: str, s: float) -> tuple[NDArray[np.float64], float]:
    """The line (n, 3) in atlas mm along which a station's nodes lie on one side, and the radius of its vessel."""
    common, external, internal, obturator = vessels(s)
    if station == "inguinal":
        return np.array([(s * 82, 62, 2), (s * 74, 68, -22), (s * 72, 64, -70)]), 1.0
    path, radius = {
        "common iliac": common,
        "external iliac": external,
        "internal iliac": internal,
        "obturator": obturator,
    }[station]
    points = np.array(path, dtype=np.float64)
    return (points[:-1] if station == "external iliac" else points), radius


def _right_angled(long: NDArray[np.float64], short: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit rows (short, middle, long) from two directions that are not parallel."""
    third = long / np.linalg.norm(long)
    first = short - third * (short @ third)
    first /= np.linalg.norm(first)
    return np.stack((first, np.cross(third, first), third))


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow by one voxel in all 26 directions."""
    for axis in range(3):
        grown = mask.copy()
        head = [slice(None)] * 3
        tail = [slice(None)] * 3
        head[axis], tail[axis] = slice(1, None), slice(None, -1)
        grown[tuple(head)] |= mask[tuple(tail)]
        grown[tuple(tail)] |= mask[tuple(head)]
        mask = grown
    return mask


def _connected(mask: NDArray[np.bool_]) -> bool:
    """Is the mask one 26-connected piece? A thin oblique node can fall apart at half a voxel."""
    seen = np.zeros_like(mask)
    seen[np.unravel_index(int(mask.argmax()), mask.shape)] = True
    count = 0
    while count != int(seen.sum()):
        count = int(seen.sum())
        seen = _dilate(seen) & mask
    return count == int(mask.sum())
