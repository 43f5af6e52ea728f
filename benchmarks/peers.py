"""The pipeline as a researcher writes it in an afternoon, every step with the usual library:

    nibabel -> reorient, z-score (numpy) -> resize (torch) -> network (torch, eager FP32)
            -> resize back, sigmoid, threshold (torch) -> label (scipy) -> volume, box (trimesh) -> stage
            -> nibabel, json

It does what the subject does: the model card's axes, clipping, normalization, grid and threshold, logits interpolated
to the native grid (interpolated probabilities cross a threshold of 0.4 elsewhere: masks of Dice 0.97), voxel corners
for boxes. Where a library offers a quick way and a slow way the quick one is taken (``find_objects`` before a node is
looked at, corners without sorting, float32 from the file on).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
import trimesh
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import QhullError
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.timing import Stopwatch, Times
from lnfast.card import ModelCard, ZScore
from lnfast_ext import body_statistics

SUSPICIOUS_MM = 8.0 + 1e-6

Edges = tuple[float, float, float]  # of a box in mm, ascending


@dataclass(frozen=True)
class PeerNode:
    """One node; ``box_mm`` is None where trimesh could not make a box."""

    id: int
    volume_mm3: float
    box_mm: Edges | None

    @property
    def suspicious(self) -> bool:
        return self.box_mm is not None and self.box_mm[0] > SUSPICIOUS_MM


@dataclass(frozen=True)
class PeerResult:
    """Labels on the native grid in storage order ``(z, y, x)``, nodes in the order of labels."""

    labels: NDArray[Any]
    nodes: tuple[PeerNode, ...]
    n_stage: str
    timings_ms: Times


class Pipeline(Protocol):
    """A peer's."""

    @property
    def name(self) -> str: ...

    def run(self, path: Path, folder: Path) -> PeerResult:
        """Read ``path``, write ``labels.nii.gz`` or a volume of another name, and ``report.json``, into ``folder``."""


class TorchPipeline:
    """File on disk to labels and report on disk.

    Args:
        network: maps ``(1, 1, z, y, x)`` float32 to logits.
        card: of the model whose weights the network has.
        name: of the pipeline.
    """

    def __init__(self, network: nn.Module, card: ModelCard, name: str = "pytorch eager fp32 pipeline") -> None:
        self._network = network
        self._card = card
        self.name = name

    def run(self, path: Path, folder: Path) -> PeerResult:
        """Read ``path``, write ``labels.nii.gz`` and ``report.json`` into a new ``folder``."""
        watch = Stopwatch()
        with watch.stage("read"):
            image: Any = nib.load(path)  # type: ignore[attr-defined]
            data = image.get_fdata(dtype=np.float32)
        with watch.stage("preprocess"):
            there = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(self._card.orientation)))
            x = self._preprocess(apply_orientation(data, there))
        with watch.stage("infer"), torch.inference_mode():
            logits = self._network(x)
        with watch.stage("postprocess"):
            back = ornt_transform(axcodes2ornt(tuple(self._card.orientation)), io_orientation(image.affine))
            shape_xyz = apply_orientation(np.empty(data.shape, np.int8), there).shape
            labels, count = self._postprocess(logits, shape_xyz, back)
        with watch.stage("measure"):
            nodes = measure(labels, count, image.affine)
        with watch.stage("write"):
            folder.mkdir(parents=True)
            nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), image.affine), folder / "labels.nii.gz")
            write_report(folder, nodes)
        return PeerResult(labels, nodes, stage_of(nodes), watch.times_ms)

    def _preprocess(self, data_xyz: NDArray[np.float32]) -> Tensor:
        scaled = normalize(data_xyz, self._card)
        volume = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 1, 0), dtype=np.float32))
        return interpolate(volume[None, None], size=self._card.shape_zyx, mode="trilinear", align_corners=False)

    def _postprocess(self, logits: Tensor, shape_xyz: tuple[int, ...], back: NDArray[Any]) -> tuple[NDArray[Any], int]:
        native = interpolate(logits, size=shape_xyz[::-1], mode="trilinear", align_corners=False)
        mask = torch.sigmoid(native)[0, 0].numpy() > self._card.threshold
        stored = apply_orientation(mask.transpose(2, 1, 0), back).transpose(2, 1, 0)
        labels, count = ndimage.label(np.ascontiguousarray(stored), structure=np.ones((3, 3, 3)))
        return labels.astype(np.uint16), int(count)


def normalize(data_xyz: NDArray[np.float32], card: ModelCard) -> NDArray[np.float32]:
    """Intensities as the network saw them.

    No library measures air and tissue as the normalization ``body`` wants them: the peer takes lnfast's own measures
    of them, and is the faster for it.

    Args:
        data_xyz: along the card's axes; not padded.
        card: says which normalization.
    """
    wanted = card.normalization
    if isinstance(wanted, ZScore):
        low, high = np.percentile(data_xyz, wanted.clip_percentiles)
        clipped = np.clip(data_xyz, low, high)
        scaled: NDArray[np.float32] = (clipped - clipped.mean(dtype=np.float64)) / clipped.std(dtype=np.float64)
        return scaled
    greys = body_statistics(data_xyz.transpose(2, 1, 0))
    scale = (wanted.tissue - wanted.floor) / (greys.tissue - greys.floor)
    return np.clip((data_xyz - greys.floor) * scale + wanted.floor, wanted.floor, wanted.ceiling)


def measure(labels: NDArray[Any], count: int, affine: NDArray[np.float64]) -> tuple[PeerNode, ...]:
    """Volume and oriented bounding box of every label.

    Args:
        labels: ``(z, y, x)``, 0 to ``count``.
        count: of nodes.
        affine: (4, 4), index ``(x, y, z, 1)`` to mm.
    """
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    nodes = []
    for index, box in enumerate(ndimage.find_objects(labels, count), start=1):
        node = labels[box] == index
        edges = box_edges(corners_mm(node, box, affine))
        nodes.append(PeerNode(index, float(node.sum() * voxel_mm3), edges))
    return tuple(nodes)


def corners_mm(
    node: NDArray[np.bool_], box: tuple[slice, slice, slice], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The corners of a node's voxels, each once, ``(n, 3)``.

    Args:
        node: the part of the mask that ``box`` (z, y, x) cuts out.
        affine: (4, 4), index ``(x, y, z, 1)`` of the whole mask to mm.
    """
    # Lattice points, one more than voxels along each axis.
    lattice = np.zeros([size + 1 for size in node.shape], bool)
    for z, y, x in product((slice(None, -1), slice(1, None)), repeat=3):
        lattice[z, y, x] |= node
    corners_xyz = (np.argwhere(lattice) + [part.start - 0.5 for part in box])[:, ::-1]
    points: NDArray[np.float64] = corners_xyz @ affine[:3, :3].T + affine[:3, 3]
    return points


def box_edges(points_mm: NDArray[np.float64]) -> Edges | None:
    """The edges of trimesh's box; None where it cannot make one."""
    try:
        _, extents = trimesh.bounds.oriented_bounds(points_mm)
    except (QhullError, ValueError):
        return None
    short, middle, long = sorted(float(edge) for edge in extents)
    return short, middle, long


def stage_of(nodes: tuple[PeerNode, ...]) -> str:
    """N1 with a suspicious node."""
    return "N1" if any(node.suspicious for node in nodes) else "N0"


def write_report(folder: Path, nodes: tuple[PeerNode, ...]) -> None:
    """``report.json``."""
    entries = [
        {
            "id": node.id,
            "volume_mm3": node.volume_mm3,
            "box_mm": node.box_mm,
            "short_axis_mm": node.box_mm[0] if node.box_mm else None,
            "suspicious": node.suspicious,
        }
        for node in nodes
    ]
    report = {"nodes": entries, "n_stage": stage_of(nodes), "suspicious": sum(node.suspicious for node in nodes)}
    (folder / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
