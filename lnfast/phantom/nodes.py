"""Lymph nodes: where they lie, how big they are, which voxels are theirs, and what the clinical rule says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy import SIDES, vessels
from lnfast.phantom.bodies import Body, sample_body
from lnfast.phantom.canvas import Canvas
from lnfast.phantom.shapes import Box
from lnfast_ext import label_components, measure_components

# The rule says 8 mm. No node measures between these two: at 8.01 mm the stage would be a coin toss for any reader.
CLEARLY_BENIGN_MM, CLEARLY_SUSPICIOUS_MM = 7.5, 8.8
FEWEST_VOXELS = 3

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

    def __init__(self, canvas: Canvas, rng: np.random.Generator) -> None:
        self.canvas, self.rng, self.grid = canvas, rng, canvas.grid
        self.labels = np.zeros(self.grid.shape, dtype=np.uint16)
        self.nodes: list[PhantomNode] = []

    def populate(self, stage: str) -> bool:
        """Place a patient's nodes; False when the stage asked for found no room in the field."""
        rng = self.rng
        if stage == "n1":
            wanted = int(np.clip(rng.poisson(5.0), 1, 12))
            for _ in range(60 * wanted):
                wanted -= self._try(float(rng.triangular(9.0, 10.0, 16.0)), large=True)
                if wanted == 0:
                    break
            if not self.nodes:
                return False
        # Half of what is tried is too small for the voxels or meets an organ; a small field of view sees only some.
        wanted = int(np.clip(rng.normal(25.0, 6.0), 8, 40))
        for _ in range(5 * wanted):
            wanted -= self._try(float(np.clip(rng.lognormal(np.log(4.9), 0.22), 3.0, 7.2)), large=False)
            if wanted == 0:
                break
        return True

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

    def _try(self, short_mm: float, *, large: bool) -> bool:
        body, station = self._sample(short_mm)
        reach = self.canvas.reach_of(body.shape)
        if reach is None or any(s.start == 0 or s.stop == n for s, n in zip(reach, self.grid.shape, strict=True)):
            return False  # at the rim of the field a node would be measured by its cut
        box, part = self.canvas.part_of(body.shape)
        mask = part >= 0.5
        if mask.sum() < FEWEST_VOXELS or not _connected(mask) or not self._free(box, mask):
            return False
        measured = measure_components(mask.astype(np.uint16), 1, self.grid.affine)
        edge = float(measured["box_mm"][0][0])
        if (edge < CLEARLY_SUSPICIOUS_MM) if large else (edge > CLEARLY_BENIGN_MM):
            return False
        node = PhantomNode(len(self.nodes) + 1, body, *body.box(), body.volume_mm3(), station)
        self.labels[box][mask] = node.label
        self.nodes.append(node)
        return True

    def _free(self, box: Box, mask: NDArray[np.bool_]) -> bool:
        """No other node within a voxel, and at most a tenth of the node inside an organ, a bone or bowel."""
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        others = self.labels[around] > 0
        if others.any():
            own = np.zeros(others.shape, dtype=bool)
            inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True))
            own[inner] = mask
            if (_dilate(own) & others).any():
                return False
        return bool(self.canvas.solid[box][mask].mean() < 0.1)

    def _sample(self, short_mm: float) -> tuple[Body, str]:
        """A body beside the vessels of a station, often touching them, and the station's name."""
        rng = self.rng
        side, s = SIDES[rng.integers(2)]
        station = str(rng.choice(list(STATIONS), p=list(STATIONS.values())))
        path, radius = _chain(station, s)
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
        return sample_body(rng, short_mm).placed(self.canvas.to_ras(centre), axes), f"{station} {side}"


def _chain(station: str, s: float) -> tuple[NDArray[np.float64], float]:
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
