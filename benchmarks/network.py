"""One inference with the input in place: every backend here against PyTorch with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from copy import deepcopy
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.agreement import DICE_AT_LEAST, Verdict, WrongAnswerError, dice
from benchmarks.onnx_torch import OnnxUNet
from benchmarks.rows import Pair, Row, make_row
from benchmarks.settings import Settings
from benchmarks.timing import Times, interleave
from lnfast.backends import Backend, Candidate, backend_status, candidates, open_backend
from lnfast.card import Model
from lnfast.errors import LnfastError
from lnfast.preprocess import write_input

Logits = NDArray[Any]
Contender = Callable[[], Logits]
# FP32 sums of a few thousand products in another order; logits of a trained network reach some tens.
SAME_WEIGHTS = 1e-3


def run(settings: Settings) -> list[Row]:
    """A row for each subject and peer.

    Raises:
        WrongAnswerError: the torch network does not compute what ONNX Runtime computes, or nobody finds anything.
    """
    torch.set_num_threads(settings.threads)
    study, volume = next(iter(settings.phantoms().items()))
    x = np.empty((1, 1, *settings.model.card.shape_zyx), np.float32)
    write_input(volume, settings.model.card, x[0, 0])
    settings.log("network: the reference, ONNX Runtime FP32")
    reference = reference_logits(settings.model, x, settings.threads)
    with ExitStack() as stack:
        subjects = {}
        for candidate in cpu_candidates(settings.log):
            backend = stack.enter_context(closing(open_backend(settings.model, candidate, threads=settings.threads)))
            np.copyto(backend.input, x, casting="same_kind")
            subjects[f"{backend.info.name} {backend.info.precision}"] = _infer(backend)
        network = OnnxUNet(settings.model.onnx_bytes).eval()
        same_weights(network, x, reference)
        peers = torch_peers(network, x)
        overlaps = check(subjects | peers, reference, settings.model.card.level, settings.log)
        samples = interleave(
            {name: _timed(one) for name, one in (subjects | peers).items()},
            repeats=settings.repeats,
            warmups=settings.warmups,
            log=lambda line: settings.log(f"network: {line}"),
        )
    return [
        make_row(
            Pair("network", study, "infer", subject, peer),
            samples[subject]["infer"],
            samples[peer]["infer"],
            judge(overlaps[subject], overlaps[peer]),
        )
        for subject in subjects
        for peer in peers
    ]


def judge(subject_dice: float, peer_dice: float) -> dict[str, Any]:
    """Both against the reference: a subject that is off is wrong, a peer that is off is different."""
    verdict: Verdict = "same" if peer_dice >= DICE_AT_LEAST else "different"
    if subject_dice < DICE_AT_LEAST:
        verdict = "wrong"
    return {"verdict": verdict, "dice": subject_dice, "peer_dice": peer_dice, "reference": "onnxruntime fp32"}


def reference_logits(model: Model, x: Logits, threads: int) -> Logits:
    """What ONNX Runtime on the CPU makes of ``x``, asked directly and not through lnfast."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.onnx_bytes, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run([model.card.output_name], {model.card.input_name: x})
    return np.asarray(logits)


def same_weights(network: torch.nn.Module, x: Logits, reference: Logits) -> float:
    """Greatest relative difference of logits.

    Raises:
        WrongAnswerError: it is above `SAME_WEIGHTS`.
    """
    with torch.inference_mode():
        logits = network(torch.from_numpy(x)).numpy()
    difference = float(np.abs(logits - reference).max() / max(1.0, float(np.abs(reference).max())))
    if not difference <= SAME_WEIGHTS:
        raise WrongAnswerError(f"the torch network differs from ONNX Runtime by {difference:.3g}, not {SAME_WEIGHTS:g}")
    return difference


def cpu_candidates(log: Callable[[str], None]) -> list[Candidate]:
    """Every backend and precision that this machine's processor can run."""
    found: list[Candidate] = []
    for status in backend_status():
        if not status.installed or "cpu" not in status.devices:
            continue
        for precision in status.precisions:
            try:
                found.extend(candidates(status.name, "cpu", precision))
            except LnfastError as error:
                log(f"network: without {status.name} {precision}: {error}")
    return found


def torch_peers(network: OnnxUNet, x: Logits) -> dict[str, Contender]:
    """The same network as torch users run it on a CPU."""
    plain = torch.from_numpy(x)
    last = torch.from_numpy(x).to(memory_format=torch.channels_last_3d)
    network_last = deepcopy(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def call(model: OnnxUNet, volume: Tensor, bf16: bool) -> Contender:
        def forward() -> Logits:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits: Tensor = model(volume)
                return logits.float().numpy()

        return forward

    return {
        "pytorch eager fp32": call(network, plain, False),
        "pytorch channels_last_3d fp32": call(network_last, last, False),
        "pytorch channels_last_3d bf16 autocast": call(network_last, last, True),
    }


def check(
    contenders: dict[str, Contender], reference: Logits, level: float, log: Callable[[str], None]
) -> dict[str, float]:
    """Dice of each one's mask with the reference's; runs each once."""
    overlaps = {}
    for name, one in contenders.items():
        overlaps[name] = dice(one() > level, reference > level)
        log(f"network: {name}: Dice {overlaps[name]:.4f} with the reference")
    return overlaps


def _infer(backend: Backend) -> Contender:
    def forward() -> Logits:
        backend.infer()
        return backend.output

    return forward


def _timed(one: Contender) -> Callable[[], Times]:
    def run_once() -> Times:
        start = perf_counter()
        one()
        return {"infer": (perf_counter() - start) * 1e3}

    return run_once
