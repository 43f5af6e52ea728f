"""What the pipelines of peers share: their result, the normalization, the report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.timing import Times
from benchmarks.peers.nodes import PeerNode, n_stage_of
from benchmarks.peers.outlines import numbered, outline_at_half_maximum
from lnfast.card import ModelCard, ZScore
from lnfast.geometry import Grid, Volume
from lnfast.postprocess import JOIN, SURE
from lnfast.preprocess import normalization
from lnfast_ext import body_statistics


@dataclass(frozen=True)
class PeerResult:
    """Labels on the native grid in storage order ``(z, y, x)``, nodes in the order of labels."""

    labels: NDArray[Any]
    nodes: tuple[PeerNode, ...]
    n_stage: str
    timings_ms: Times


class PeerPipeline(Protocol):
    """From file on disk to labels and report on disk."""

    @property
    def name(self) -> str:
        """The pipeline's name in the rows."""

    def run(self, path: Path, folder: Path) -> PeerResult:
        """Read ``path``, write ``labels.nii.gz`` or a volume of another name, and ``report.json``, into ``folder``."""


def normalize_for_network(data_xyz: NDArray[np.float32], card: ModelCard) -> NDArray[np.float32]:
    """Return intensities as the network was trained on them.

    No library measures air and tissue as the normalization ``body`` defines them: the peer takes lnfast's own measures
    of them, and is the faster for it.

    Args:
        data_xyz: along the card's axes; not padded.
        card: defines the normalization.
    """
    normalization = card.normalization
    if isinstance(normalization, ZScore):
        low, high = np.percentile(data_xyz, normalization.clip_percentiles)
        clipped = np.clip(data_xyz, low, high)
        scaled: NDArray[np.float32] = (clipped - clipped.mean(dtype=np.float64)) / clipped.std(dtype=np.float64)
        return scaled
    greys = body_statistics(data_xyz.transpose(2, 1, 0))
    scale = (normalization.tissue - normalization.floor) / (greys.tissue - greys.floor)
    levels = (data_xyz - greys.floor) * scale + normalization.floor
    return np.asarray(np.clip(levels, normalization.floor, normalization.ceiling))


def slices_of(card: ModelCard, native: int) -> tuple[int, int]:
    """Return how many of the network's slices a study takes, and the first of them; the others are air.

    Args:
        card: says whether a study's slices are kept.
        native: slices of the study.
    """
    depth = card.shape_zyx[0]
    taken = min(native, depth) if card.keeps_slices else depth
    return taken, (depth - taken) // 2


def drop_faint(
    labels: NDArray[np.uint16], count: int, probability: NDArray[Any], card: ModelCard
) -> NDArray[np.uint16]:
    """Drop the nodes whose probability nowhere exceeds the card's peak; the others keep their order.

    Args:
        labels: ``(z, y, x)``, 1 to ``count``.
        count: of the nodes.
        probability: ``(z, y, x)``.
        card: has the peak, or None.
    """
    if card.peak is None:
        return labels
    reached = np.zeros(count + 1, np.uint16)
    reached[labels[probability > card.peak]] = 1
    reached[0] = 0
    return (np.cumsum(reached, dtype=np.uint16) * reached)[labels]


def outline(
    labels: NDArray[np.uint16], image: NDArray[Any], probability: NDArray[Any], affine: NDArray[Any], card: ModelCard
) -> tuple[NDArray[np.uint16], int]:
    """Outline nodes as the card asks; return labels and how many there are.

    Args:
        labels: ``(z, y, x)``, the nodes.
        image, probability: of the same shape.
        affine: of all three.
        card: has threshold, peak and outline.
    """
    if not card.outlines_at_half_maximum:
        return labels, int(labels.max(initial=0))

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        return Volume(array, Grid(array.shape, affine)).oriented(card.orientation).array

    likely = turned(probability)
    join, sure = min(JOIN, card.threshold), max(SURE, card.threshold)
    masks = likely > join, likely > (card.peak or card.threshold), likely > sure
    floor = normalization(Volume(image, Grid(image.shape, affine)), card).lo
    result = np.zeros_like(labels)
    spacing_mm = Volume(labels, Grid(labels.shape, affine)).oriented(card.orientation).grid.spacing_zyx_mm
    turned(result)[:] = outline_at_half_maximum(turned(labels), turned(np.maximum(image, floor)), masks, spacing_mm)
    return numbered(result), int(result.max(initial=0))


def write_peer_report(folder: Path, nodes: tuple[PeerNode, ...]) -> None:
    """Write ``report.json``."""
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
    report = {"nodes": entries, "n_stage": n_stage_of(nodes), "suspicious": sum(node.suspicious for node in nodes)}
    (folder / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
