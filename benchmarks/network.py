"""One inference with the input in place: every backend and kept engine here against PyTorch with the same weights.

An engine that has windows is timed in each of them as well: its time does not depend on the patient, only on the window
that holds him. What patients cost on average is then the mean over those of the engine's own certificate. Which answers
are good enough is not asked twice: an engine with a certificate has the reference's stage and suspicious nodes on every
study of it, and its logits are only looked at for what a certificate does not see, a broken program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.agreement import CERTIFIED_DICE_AT_LEAST, DICE_AT_LEAST, Verdict, dice
from benchmarks.engines import found_candidates
from benchmarks.onnx_torch import OnnxUNet
from benchmarks.reference import Logits, Reference
from benchmarks.rows import Pair, Row, make_row
from benchmarks.settings import Settings
from benchmarks.timing import Samples, Times, interleave
from lnfast.backends import Backend, Candidate
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.network import Network
from lnfast.serving import kept_engine
from lnfast.window import Zyx

Contender = Callable[[], Logits]
# Of a certificate, for the row.
_TOLD = ("studies", "stage_flips", "suspicious", "short_axis_mm", "dice", "windows")


@dataclass(frozen=True)
class Subject:
    """One of ours.

    Attributes:
        name: backend, precision, and the window where it is not the whole grid.
        backend: loaded.
        certificate: of the engine; None for the model's own graph.
        of: the name without the window.
        shape_zyx: of the input.
    """

    name: str
    backend: Backend
    certificate: Mapping[str, Any] | None
    of: str
    shape_zyx: Zyx


def run(settings: Settings, reference: Reference) -> list[Row]:
    """A row for each subject and peer.

    Raises:
        WrongAnswerError: neither side finds anything.
    """
    with ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for candidate in found_candidates(settings.device, settings.log):
            network = open_network(settings.model, candidate, settings)
            if network is not None:
                subjects |= {one.name: one for one in subjects_of(stack.enter_context(closing(network)), reference.x)}
        whole = {name: _infer(one.backend) for name, one in subjects.items() if name == one.of}
        windows = {name: _infer(one.backend) for name, one in subjects.items() if name != one.of}
        if settings.device == "cuda":
            peers = gpu_peers(reference.network, reference.x, torch.device("cuda:0"), settings.log)
        else:  # without BF16 instructions torch falls back to loops that take minutes
            bf16 = any(one.backend.info.precision == "bf16" for one in subjects.values())
            peers = cpu_peers(reference.network, reference.x, settings.log, bf16=bf16, compiled=not settings.quick)
        if settings.quick:
            peers, windows = dict(list(peers.items())[-1:]), {}
        overlaps = check(whole | peers, reference.logits, settings.model.card.level, settings.log)
        samples = interleave(
            {name: _timed(one) for name, one in (whole | windows | peers).items()},
            repeats=settings.repeats,
            warmups=settings.warmups,
            log=lambda line: settings.log(f"network: {line}"),
        )
    rows = []
    for name in (*whole, *windows):
        one = subjects[name]
        for peer in peers:
            agreement = judge(overlaps[one.of], overlaps[peer], one.certificate)
            pair = Pair("network", reference.study, "infer", name, peer)
            rows.append(make_row(pair, samples[name]["infer"], samples[peer]["infer"], agreement))
    if windows:
        rows += _patients(subjects, samples, peers, overlaps)
    return rows


def subjects_of(network: Network, x: Logits) -> list[Subject]:
    """The network on the whole grid and in each of its windows, its input in place."""
    info, engine = network.info, network.engine
    name = f"{info.name} {info.precision}" + ("" if engine is None else " engine")
    found = []
    for shape in network.shapes:
        backend = network.at(shape)
        np.copyto(backend.input, x[(0, 0, *map(slice, shape))], casting="same_kind")
        shown = name if shape == network.grid_zyx else f"{name} {_text(shape)}"
        certificate = None if engine is None else engine.manifest.certificate
        found.append(Subject(shown, backend, certificate, name, shape))
    return found


def open_network(model: Model, candidate: Candidate, settings: Settings) -> Network | None:
    """The engine that is kept for a candidate, else the model's own graph; None where that takes an engine."""
    try:
        engine = kept_engine(model, candidate)
    except EngineError as error:
        settings.log(f"network: {error}")
        engine = None
    if candidate.needs_engine and engine is None:
        told = f"lnfast export {model.card.name} --target {candidate.backend} --precision {candidate.precision}"
        settings.log(f"network: without {candidate.backend} {candidate.precision}, which takes an engine: {told}")
        return None
    return Network(model, candidate, engine=engine, threads=settings.threads)


def judge(subject_dice: float, peer_dice: float, certificate: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Both against the reference: a subject that is off is wrong, a peer that is off is different."""
    verdict: Verdict = "same" if peer_dice >= DICE_AT_LEAST else "different"
    if subject_dice < DICE_AT_LEAST:
        verdict = "close" if certificate is not None and subject_dice >= CERTIFIED_DICE_AT_LEAST else "wrong"
    told = {"verdict": verdict, "dice": subject_dice, "peer_dice": peer_dice, "reference": "onnxruntime fp32"}
    return told if certificate is None else {**told, "certificate": {key: certificate[key] for key in _TOLD}}


def _patients(
    subjects: Mapping[str, Subject],
    samples: Mapping[str, Samples],
    peers: Mapping[str, Contender],
    overlaps: Mapping[str, float],
) -> list[Row]:
    """Each engine with windows as the studies of its certificate chose among them."""
    rows = []
    for of in dict.fromkeys(one.of for one in subjects.values() if one.name != one.of):
        mine = [one for one in subjects.values() if one.of == of]
        certificate = mine[0].certificate or {}
        chosen: Mapping[str, int] = certificate.get("windows", {})
        studies = sum(chosen.values())
        parts = [chosen.get(_text(one.shape_zyx), 0) / studies for one in mine]
        turns = zip(*(samples[one.name]["infer"] for one in mine), strict=True)
        ours = [sum(part * ms for part, ms in zip(parts, turn, strict=True)) for turn in turns]
        for peer in peers:
            agreement = judge(overlaps[of], overlaps[peer], certificate)
            pair = Pair("network", f"{studies} of the certificate", "infer", f"{of}, in its windows", peer)
            rows.append(make_row(pair, ours, samples[peer]["infer"], agreement))
    return rows


def _text(shape: Zyx) -> str:
    return "x".join(map(str, shape))


def cpu_peers(
    network: OnnxUNet, x: Logits, log: Callable[[str], None], *, bf16: bool, compiled: bool
) -> dict[str, Contender]:
    """The same network as torch users run it on a CPU.

    Args:
        network: with the model's weights.
        x: its input.
        log: told why `torch.compile` is left out.
        bf16: under autocast as well.
        compiled: by `torch.compile` as well, which takes up to half a minute.
    """
    plain = torch.from_numpy(x)
    last = plain.to(memory_format=torch.channels_last_3d)
    network_last = deepcopy(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def call(model: Callable[[Tensor], Tensor], volume: Tensor, autocast: bool = False) -> Contender:
        def forward() -> Logits:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return model(volume).float().numpy()

        return forward

    peers = {
        "pytorch eager fp32": call(network, plain),
        "pytorch channels_last_3d fp32": call(network_last, last),
    }
    if bf16:
        peers["pytorch channels_last_3d bf16 autocast"] = call(network_last, last, autocast=True)
    if compiled:
        kind = "bf16 autocast" if bf16 else "fp32"
        name = f"pytorch compile channels_last_3d {kind}"
        peers |= _where_it_works(name, lambda: call(torch.compile(deepcopy(network_last)), last, bf16), log)
    return peers


def gpu_peers(network: OnnxUNet, x: Logits, device: torch.device, log: Callable[[str], None]) -> dict[str, Contender]:
    """The same network as torch users run it on a GPU, from voxels in host memory to logits in host memory."""
    host = torch.from_numpy(x)
    host = host.pin_memory() if device.type == "cuda" else host
    plain = deepcopy(network).to(device)
    last = deepcopy(network).to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def call(model: Callable[[Tensor], Tensor], memory_format: torch.memory_format, autocast: bool) -> Contender:
        def forward() -> Logits:
            with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=autocast):
                volume = host.to(device, non_blocking=True).to(memory_format=memory_format)
                logits = model(volume).float().cpu()  # waits for the GPU
                return logits.numpy()

        return forward

    contiguous, channels_last = torch.contiguous_format, torch.channels_last_3d
    peers = {
        "pytorch eager fp32": call(plain, contiguous, False),
        "pytorch amp fp16": call(plain, contiguous, True),
        "pytorch channels_last_3d amp fp16": call(last, channels_last, True),
    }
    name = "pytorch compile amp fp16"
    return peers | _where_it_works(name, lambda: call(torch.compile(plain), contiguous, True), log)


def _where_it_works(name: str, make: Callable[[], Contender], log: Callable[[str], None]) -> dict[str, Contender]:
    try:
        compiled = make()
        compiled()  # compiles now
    except Exception as error:  # whatever its compilers say
        log(f"network: without {name}: {' '.join(str(error).split())}")
        return {}
    return {name: compiled}


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
