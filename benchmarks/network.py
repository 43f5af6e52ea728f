"""One inference with the input in place: every backend here against PyTorch with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from copy import deepcopy
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.agreement import DICE_AT_LEAST, Verdict, dice
from benchmarks.onnx_torch import OnnxUNet
from benchmarks.reference import Logits, Reference
from benchmarks.rows import Pair, Row, make_row
from benchmarks.settings import Settings
from benchmarks.timing import Times, interleave
from lnfast.backends import Backend, Candidate, backend_status, candidates, open_backend
from lnfast.errors import LnfastError

Contender = Callable[[], Logits]


def run(settings: Settings, reference: Reference) -> list[Row]:
    """A row for each subject and peer.

    Raises:
        WrongAnswerError: neither side finds anything.
    """
    with ExitStack() as stack:
        subjects = {}
        for candidate in cpu_candidates(settings.log):
            backend = stack.enter_context(closing(open_backend(settings.model, candidate, threads=settings.threads)))
            np.copyto(backend.input, reference.x, casting="same_kind")
            subjects[f"{backend.info.name} {backend.info.precision}"] = _infer(backend)
        # Without BF16 instructions torch falls back to loops that take minutes.
        peers = torch_peers(reference, bf16=any(name.endswith(" bf16") for name in subjects))
        if settings.quick:
            peers = dict(list(peers.items())[-1:])
        overlaps = check(subjects | peers, reference.logits, settings.model.card.level, settings.log)
        samples = interleave(
            {name: _timed(one) for name, one in (subjects | peers).items()},
            repeats=settings.repeats,
            warmups=settings.warmups,
            log=lambda line: settings.log(f"network: {line}"),
        )
    return [
        make_row(
            Pair("network", reference.study, "infer", subject, peer),
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


def torch_peers(reference: Reference, *, bf16: bool) -> dict[str, Contender]:
    """The same network as torch users run it on a CPU, slowest first."""
    plain = torch.from_numpy(reference.x)
    last = plain.to(memory_format=torch.channels_last_3d)
    network_last = deepcopy(reference.network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def call(model: OnnxUNet, volume: Tensor, autocast: bool = False) -> Contender:
        def forward() -> Logits:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits: Tensor = model(volume)
                return logits.float().numpy()

        return forward

    peers = {
        "pytorch eager fp32": call(reference.network, plain),
        "pytorch channels_last_3d fp32": call(network_last, last),
    }
    if bf16:
        peers["pytorch channels_last_3d bf16 autocast"] = call(network_last, last, autocast=True)
    return peers


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
