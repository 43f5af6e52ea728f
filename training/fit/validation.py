"""Validation on cases that were not trained on, by the runtime's own masks, measures and matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lnfast.card import ModelCard
from lnfast.geometry import Volume
from lnfast.matching import NodeMap, compare, dice_of_counts
from lnfast.measure import measure_nodes, n_stage
from lnfast.postprocess import segment
from lnfast.preprocess import normalization, without_padding, write_slabs
from lnfast.slabs import add_slab
from lnfast.window import Window
from training.data.case import Case, LoadableCase
from training.data.model_grid import RULES, true_nodes

BFLOAT16 = "bf16-mixed"
# What Lightning's names mean for a forward pass; None is FP32.
_TYPES = {BFLOAT16: torch.bfloat16, "16-mixed": torch.float16, "32-true": None}


@dataclass(frozen=True)
class ValidationCounts:
    """Counts over validation cases; they can be added.

    Attributes:
        both, predicted, true: voxels of intersection and of either mask, native grid.
        nodes, nodes_found: truth nodes, and those that a prediction touches.
        suspicious, suspicious_found: truth nodes above 8 mm, and those that a *suspicious* prediction touches.
        called, called_true: predicted suspicious nodes, and those that touch a truth-suspicious one.
        false_nodes: predicted nodes, of any size, that touch no truth.
        missed_n1, false_n1: patients with the wrong stage.
        cases: how many.
    """

    both: int = 0
    predicted: int = 0
    true: int = 0
    nodes: int = 0
    nodes_found: int = 0
    suspicious: int = 0
    suspicious_found: int = 0
    called: int = 0
    called_true: int = 0
    false_nodes: int = 0
    missed_n1: int = 0
    false_n1: int = 0
    cases: int = 0

    def __add__(self, other: ValidationCounts) -> ValidationCounts:
        counts, added = asdict(self), asdict(other)
        return ValidationCounts(**{name: counts[name] + added[name] for name in counts})

    def summary(self) -> dict[str, float | int | None]:
        """Return ratios (None where there is nothing to divide by) and the counts behind them."""

        dice = dice_of_counts(self.both, self.predicted, self.true)

        def ratio(a: float, b: float) -> float | None:
            return round(a / b, 4) if b else None

        return {
            "dice": None if dice is None else round(dice, 4),
            "node_recall": ratio(self.nodes_found, self.nodes),
            "suspicious_recall": ratio(self.suspicious_found, self.suspicious),
            "suspicious_precision": ratio(self.called_true, self.called),
            **asdict(self),
        }


def predict(model: nn.Module, volume: Volume, card: ModelCard, precision: str = "32-true") -> NDArray[np.float32]:
    """Return the logits of a whole study, ``model`` in evaluation mode.

    Returns:
        ``(z, y, x)`` float32 on the study's grid (`lnfast.slabs.grid_for`).
    """
    image, joined = np.empty(card.shape_zyx, np.float32), None
    for slab in write_slabs(volume, card, image):
        if joined is None:
            joined = np.zeros(slab.grid_zyx, np.float32)
        logits = _logits(model, torch.from_numpy(image)[None, None], precision)
        add_slab(joined, slab, slab.part_of(logits.float()[0, 0].cpu().numpy()))
    assert joined is not None
    return joined


def find_nodes(logits: NDArray[np.float32], volume: Volume, card: ModelCard) -> NodeMap:
    """Make nodes of the logits of `predict` as the runtime does, at the card's threshold and by the default rules.

    Raises:
        EngineError: as `lnfast.postprocess.segment`.
    """
    depth, height, width = logits.shape
    norm = normalization(volume, card)
    image, _ = without_padding(volume, card, norm)
    window = Window.whole((depth, height, width))
    segmentation = segment(logits, volume.grid, card, image=image, floor=norm.lo, window=window)
    nodes = measure_nodes(segmentation.labels, segmentation.count, RULES, orientation=card.orientation, logits=logits)
    return NodeMap(segmentation.labels, nodes)


def validate_case(model: nn.Module, case: Case, card: ModelCard, precision: str = "32-true") -> ValidationCounts:
    """Predict one case and compare with its truth; ``model`` in evaluation mode."""
    return compare_with_truth(find_nodes(predict(model, case.volume, card, precision), case.volume, card), case, card)


def compare_with_truth(predicted: NodeMap, case: Case, card: ModelCard) -> ValidationCounts:
    """Compare the nodes of a prediction with the case's truth.

    Args:
        predicted: on the case's own grid, as `find_nodes` returns it.
        case: with its truth.
        card: says how axes run.
    """
    truth = true_nodes(case, card.orientation)
    comparison = compare(predicted, truth)
    detection = comparison.detection
    is_predicted, is_true = predicted.labels.array > 0, truth.labels.array > 0
    return ValidationCounts(
        both=int((is_predicted & is_true).sum()),
        predicted=int(is_predicted.sum()),
        true=int(is_true.sum()),
        nodes=len(truth.nodes),
        nodes_found=sum(match.predicted is not None for match in comparison.matches),
        suspicious=detection.detected + detection.missed,
        suspicious_found=detection.detected,
        called=detection.right + detection.wrong,
        called_true=detection.right,
        false_nodes=len(comparison.unmatched),
        missed_n1=int(n_stage(truth.nodes, RULES) == "N1" and n_stage(predicted.nodes, RULES) == "N0"),
        false_n1=int(n_stage(truth.nodes, RULES) == "N0" and n_stage(predicted.nodes, RULES) == "N1"),
        cases=1,
    )


def validate(
    model: nn.Module, cases: Sequence[LoadableCase], card: ModelCard, precision: str = "32-true"
) -> ValidationCounts:
    """Return the sum of the counts over cases."""
    total = ValidationCounts()
    for case in cases:
        total += validate_case(model, case.load(), card, precision)
    return total


def _logits(model: nn.Module, image: Tensor, precision: str) -> Tensor:
    """Run the network on its own device, in the run's precision."""
    device, kind = next(model.parameters()).device, _TYPES[precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
        logits: Tensor = model(image.to(device).contiguous(memory_format=torch.channels_last_3d))
    return logits
