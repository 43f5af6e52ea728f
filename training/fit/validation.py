"""How good the network is on studies that it has not learned from: by the runtime's own masks and measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lnfast.card import ModelCard
from lnfast.geometry import Volume
from lnfast.measure import LymphNode, Rules, measure_nodes
from lnfast.postprocess import Segmentation, segment
from lnfast.preprocess import write_input
from training.data.case import Case, Entry

RULES = Rules()
BFLOAT16 = "bf16-mixed"
# What Lightning's names mean for a forward pass; None is FP32.
_TYPES = {BFLOAT16: torch.bfloat16, "16-mixed": torch.float16, "32-true": None}


@dataclass(frozen=True)
class Score:
    """Counts over cases; they add.

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

    def __add__(self, other: Score) -> Score:
        mine, theirs = asdict(self), asdict(other)
        return Score(**{name: mine[name] + theirs[name] for name in mine})

    def summary(self) -> dict[str, float | int | None]:
        """Ratios (None where there is nothing to divide by) and the counts behind them."""

        def ratio(a: float, b: float) -> float | None:
            return round(a / b, 4) if b else None

        return {
            "dice": ratio(2 * self.both, self.predicted + self.true),
            "node_recall": ratio(self.nodes_found, self.nodes),
            "suspicious_recall": ratio(self.suspicious_found, self.suspicious),
            "suspicious_precision": ratio(self.called_true, self.called),
            **asdict(self),
        }


def predict(model: nn.Module, volume: Volume, card: ModelCard, precision: str = "32-true") -> NDArray[np.float32]:
    """Logits of a whole study, ``card.shape_zyx`` float32; ``model`` in evaluation mode."""
    image = np.empty(card.shape_zyx, np.float32)
    write_input(volume, card, image)
    logits = _logits(model, torch.from_numpy(image)[None, None], precision)
    array: NDArray[np.float32] = np.ascontiguousarray(logits.float()[0, 0].cpu().numpy())
    return array


def found_nodes(
    logits: NDArray[np.float32], volume: Volume, card: ModelCard
) -> tuple[Segmentation, tuple[LymphNode, ...]]:
    """What the runtime makes of the logits of a study, at the card's threshold and by the default rules.

    Raises:
        EngineError: as `lnfast.postprocess.segment`.
    """
    found = segment(logits, volume.grid, card)
    return found, measure_nodes(found.labels, found.count, RULES, orientation=card.orientation, logits=logits)


def judge(model: nn.Module, case: Case, card: ModelCard, precision: str = "32-true") -> Score:
    """Predict one case and compare with its truth; ``model`` in evaluation mode."""
    found, nodes = found_nodes(predict(model, case.volume, card, precision), case.volume, card)
    return score(case, found.labels.array, nodes)


def score(case: Case, labels: NDArray[np.uint16], nodes: Sequence[LymphNode]) -> Score:
    """Compare labelled nodes on the native grid with the case's truth.

    Args:
        case: with its truth.
        labels: ``(z, y, x)``, 0 or the number of a node.
        nodes: measured, in the order of their labels.
    """
    truth = measure_nodes(Volume(case.labels, case.volume.grid), int(case.labels.max()), RULES)
    where = (labels > 0) & (case.labels > 0)
    pairs = np.unique(np.stack((labels[where], case.labels[where]), axis=1).astype(np.int64), axis=0)
    big, true_big = (np.array([False, *(node.suspicious for node in of)]) for of in (nodes, truth))
    good = pairs[big[pairs[:, 0]] & true_big[pairs[:, 1]]]
    return Score(
        both=int(where.sum()),
        predicted=int((labels > 0).sum()),
        true=int((case.labels > 0).sum()),
        nodes=len(truth),
        nodes_found=len(np.unique(pairs[:, 1])),
        suspicious=int(true_big.sum()),
        suspicious_found=len(np.unique(good[:, 1])),
        called=int(big.sum()),
        called_true=len(np.unique(good[:, 0])),
        false_nodes=len(nodes) - len(np.unique(pairs[:, 0])),
        missed_n1=int(true_big.any() and not big.any()),
        false_n1=int(big.any() and not true_big.any()),
        cases=1,
    )


def validate(model: nn.Module, cases: Sequence[Entry], card: ModelCard, precision: str = "32-true") -> Score:
    """The sum over cases."""
    total = Score()
    for case in cases:
        total += judge(model, case.load(), card, precision)
    return total


def _logits(model: nn.Module, image: Tensor, precision: str) -> Tensor:
    """Of a whole study, where the model lies, in the run's precision as far as that is safe."""
    device, kind = next(model.parameters()).device, _TYPES[precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
        logits: Tensor = model(image.to(device).contiguous(memory_format=torch.channels_last_3d))
    return logits
