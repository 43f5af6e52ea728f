"""Volume and box of a node by the usual libraries: scipy and trimesh."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import QhullError

SUSPICIOUS_MM = 8.0 + 1e-6

Edges = tuple[float, float, float]  # of a box in mm, ascending


@dataclass(frozen=True)
class PeerNode:
    """A node as a peer measures it; ``box_mm`` is None where trimesh could not compute a box."""

    id: int
    volume_mm3: float
    box_mm: Edges | None

    @property
    def suspicious(self) -> bool:
        """Is the short edge of the box above 8 mm?"""
        return self.box_mm is not None and self.box_mm[0] > SUSPICIOUS_MM


def measure_peer_nodes(labels: NDArray[Any], count: int, affine: NDArray[np.float64]) -> tuple[PeerNode, ...]:
    """Return volume and oriented bounding box of every label.

    Args:
        labels: ``(z, y, x)``, 0 to ``count``.
        count: of nodes.
        affine: (4, 4), index ``(x, y, z, 1)`` to mm.
    """
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    nodes = []
    for index, box in enumerate(ndimage.find_objects(labels, count), start=1):
        node = labels[box] == index
        edges = box_edges_mm(voxel_corners_mm(node, box, affine))
        nodes.append(PeerNode(index, float(node.sum() * voxel_mm3), edges))
    return tuple(nodes)


def voxel_corners_mm(
    node: NDArray[np.bool_], box: tuple[slice, slice, slice], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the corners of a node's voxels, each once, ``(n, 3)``.

    Args:
        node: the part of the mask that ``box`` (z, y, x) cuts out.
        box: the node's bounds in the whole mask.
        affine: (4, 4), index ``(x, y, z, 1)`` of the whole mask to mm.
    """
    # Lattice points, one more than voxels along each axis.
    lattice = np.zeros([size + 1 for size in node.shape], bool)
    for z, y, x in product((slice(None, -1), slice(1, None)), repeat=3):
        lattice[z, y, x] |= node
    corners_xyz = (np.argwhere(lattice) + [part.start - 0.5 for part in box])[:, ::-1]
    points: NDArray[np.float64] = corners_xyz @ affine[:3, :3].T + affine[:3, 3]
    return points


def box_edges_mm(points_mm: NDArray[np.float64]) -> Edges | None:
    """Return the edges of trimesh's oriented bounding box; None where it fails."""
    try:
        _, extents = trimesh.bounds.oriented_bounds(points_mm)
    except (QhullError, ValueError):
        return None
    short, middle, long = sorted(float(edge) for edge in extents)
    return short, middle, long


def n_stage_of(nodes: tuple[PeerNode, ...]) -> str:
    """Return "N1" if a node is suspicious, else "N0"."""
    return "N1" if any(node.suspicious for node in nodes) else "N0"
