"""How good the network is on studies that it has not learned from, on the grid and by the rule that count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lnfast.card import ModelCard
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast_ext import label_components, measure_components, threshold_resample
from training import data
from training.case import Case
from training.unet import UNet

SUSPICIOUS_MM = Rules().suspicious_mm
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


def recalibrate(
    model: UNet,
    cases: Sequence[Case],
    card: ModelCard,
    volumes: int,
    seed: int,
    precision: str = BFLOAT16,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Measure the batch statistics anew on whole studies, in place.

    What the running averages hold after training is of patches, most of them centred near a node: brighter and busier
    than a whole pelvis. The runtime shows whole studies, so the statistics are taken there: the plain mean over
    ``volumes`` of them, of all protocols, cropped and augmented like the patches. ``check`` is called before each of
    them and may raise.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    model.train()
    rng = np.random.default_rng([seed, 0])
    for index in np.linspace(0, len(cases) - 1, volumes).round().astype(int):
        check()
        _logits(model, data.whole(cases[index], card, rng)[0], precision)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def predict(model: UNet, case: Case, card: ModelCard, precision: str = BFLOAT16) -> NDArray[np.float32]:
    """Logits of a whole study, ``card.shape_zyx`` float32."""
    logits = _logits(model, data.whole(case, card)[0], precision)
    array: NDArray[np.float32] = np.ascontiguousarray(logits.float()[0, 0].cpu().numpy())
    return array


def judge(model: UNet, case: Case, card: ModelCard, threshold: float, precision: str = BFLOAT16) -> Score:
    """Predict one case and compare with its truth; ``model`` in evaluation mode."""
    return score(case, segment(predict(model, case, card, precision), case.volume.grid, card, threshold))


def segment(logits: NDArray[np.float32], grid: Grid, card: ModelCard, threshold: float) -> NDArray[np.uint8]:
    """Native mask: the logits interpolated back, then compared with the threshold."""

    mask = np.zeros(grid.shape, np.uint8)
    threshold_resample(
        logits, Volume(mask, grid).oriented(card.orientation).array, math.log(threshold / (1 - threshold))
    )
    return mask


def score(case: Case, mask: NDArray[np.uint8]) -> Score:
    """Compare a native mask with the case's truth."""
    labels, count = label_components(mask)
    affine = case.volume.grid.affine
    true_count = int(case.labels.max())
    short = _short_axes_mm(labels, count, affine)
    true_short = _short_axes_mm(case.labels.astype(labels.dtype), true_count, affine)
    where = (mask > 0) & (case.labels > 0)
    pairs = np.unique(np.stack((labels[where], case.labels[where]), axis=1).astype(np.int64), axis=0)
    big, true_big = short > SUSPICIOUS_MM + 1e-6, true_short > SUSPICIOUS_MM + 1e-6
    good = pairs[big[pairs[:, 0]] & true_big[pairs[:, 1]]]
    return Score(
        both=int(where.sum()),
        predicted=int(mask.sum()),
        true=int((case.labels > 0).sum()),
        nodes=true_count,
        nodes_found=len(np.unique(pairs[:, 1])),
        suspicious=int(true_big.sum()),
        suspicious_found=len(np.unique(good[:, 1])),
        called=int(big.sum()),
        called_true=len(np.unique(good[:, 0])),
        false_nodes=count - len(np.unique(pairs[:, 0])),
        missed_n1=int(true_big.any() and not big.any()),
        false_n1=int(big.any() and not true_big.any()),
        cases=1,
    )


def _short_axes_mm(labels: NDArray[np.int32], count: int, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """By label, with 0 for the background."""
    return np.concatenate(([0.0], measure_components(labels, count, affine)["box_mm"][:, 0]))


def validate(model: UNet, cases: Sequence[Case], card: ModelCard, threshold: float, precision: str = BFLOAT16) -> Score:
    """The sum over cases."""
    total = Score()
    for case in cases:
        total += judge(model, case, card, threshold, precision)
    return total


def _logits(model: UNet, image: Tensor, precision: str) -> Tensor:
    """Of a whole study, where the model lies, in the run's precision as far as that is safe."""
    device, kind = next(model.parameters()).device, _TYPES[precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
        logits: Tensor = model(image.to(device).contiguous(memory_format=torch.channels_last_3d))
    return logits
