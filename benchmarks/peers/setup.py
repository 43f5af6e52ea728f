"""The same weights and the same input for every peer, proven before anything is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.reference import Logits, reference_logits
from benchmarks.harness.settings import Settings
from benchmarks.peers.onnx_to_torch import OnnxModule
from lnfast.geometry import Volume
from lnfast.preprocess import write_slabs

# FP32 sums of a few thousand products in another order; logits of a trained network reach some tens.
SAME_WEIGHTS = 1e-3


@dataclass(frozen=True, eq=False)
class PeerSetup:
    """What the groups ``network`` and ``pipeline`` start from.

    Attributes:
        volumes: a study for each scanner, by name.
        study: the name of the study from which ``x`` was made.
        x: ``(1, 1, z, y, x)`` float32, the network's input.
        logits: the reference's logits of ``x``: FP32 on ONNX Runtime.
        network: the peers' network, which computes the same.
    """

    volumes: Mapping[str, Volume]
    study: str
    x: Logits
    logits: Logits
    network: OnnxModule


def prepare_peers(settings: Settings) -> PeerSetup:
    """Make the studies, run the reference, read the weights into torch and compare.

    Raises:
        WrongAnswerError: the torch network does not compute what ONNX Runtime computes.
    """
    torch.set_num_threads(settings.threads)
    volumes = settings.phantoms()
    study, volume = next(iter(volumes.items()))
    x = np.empty((1, 1, *settings.model.card.shape_zyx), np.float32)
    (_,) = write_slabs(volume, settings.model.card, x[0, 0])
    logits = reference_logits(settings.model, x, settings.threads)
    network = OnnxModule(settings.model.onnx_bytes).eval()
    difference = check_same_weights(network, x, logits)
    settings.progress(f"the torch network equals ONNX Runtime within {difference:.2g} of the largest logit")
    return PeerSetup(volumes, study, x, logits, network)


def check_same_weights(network: torch.nn.Module, x: Logits, reference: Logits) -> float:
    """Return the greatest difference of logits as a part of the largest logit.

    Raises:
        WrongAnswerError: it is above `SAME_WEIGHTS`, or not a number.
    """
    with torch.inference_mode():
        logits = network(torch.from_numpy(x)).numpy()
    difference = float(np.abs(logits - reference).max() / max(1.0, float(np.abs(reference).max())))
    if not difference <= SAME_WEIGHTS:
        raise WrongAnswerError(f"the torch network differs from ONNX Runtime by {difference:.3g}, not {SAME_WEIGHTS:g}")
    return difference
