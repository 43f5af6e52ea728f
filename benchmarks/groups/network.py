"""One inference with the input in place: every backend and kept engine here against PyTorch with the same weights.

An engine that has windows is timed in each of them as well: its time does not depend on the patient, only on the window
that holds him. What patients cost on average is then the mean over those of the engine's own certificate. Which answers
are good enough is not asked twice: an engine with a certificate has the reference's stage and suspicious nodes on every
study of it, and its logits are only looked at for what a certificate does not see, a broken program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.harness.agreement import CERTIFIED_DICE_AT_LEAST, DICE_AT_LEAST, Verdict, dice
from benchmarks.harness.engines import found_candidates
from benchmarks.harness.reference import Logits
from benchmarks.harness.rows import Pair, Row, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Samples, Times, interleave
from benchmarks.peers.inference import Contender, cpu_peers, gpu_peers
from benchmarks.peers.setup import Reference
from lnfast.backends import Backend, Candidate
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.network import Network
from lnfast.serving import kept_engine
from lnfast.window import Zyx

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
