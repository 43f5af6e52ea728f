"""One inference with the input in place: every backend and cached engine here against PyTorch with the same weights.

An engine with windows is timed in each of them as well: its time does not depend on the patient, only on the window
that holds the patient. The average cost of patients is then the mean over the windows in the engine's own certificate.
Whether answers are good enough is not decided again: an engine with a certificate has the reference's stage and
suspicious nodes on every study of it, and its logits are only checked for what a certificate does not see, a broken
program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.harness.agreement import CERTIFIED_DICE_AT_LEAST, DICE_AT_LEAST, Verdict, dice
from benchmarks.harness.engines import runnable_candidates
from benchmarks.harness.reference import Logits
from benchmarks.harness.rows import Row, RowKey, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Samples, Times, interleave
from benchmarks.peers.inference import Inference, cpu_peers, gpu_peers
from benchmarks.peers.setup import PeerSetup
from lnfast.backends import Backend, Candidate
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.network import Network
from lnfast.serving import cached_engine
from lnfast.window import Zyx

# The entries of a certificate that the row repeats.
_CERTIFICATE_KEYS = ("studies", "stage_flips", "suspicious", "short_axis_mm", "dice", "windows")


@dataclass(frozen=True)
class NetworkSubject:
    """A backend of lnfast with its input in place.

    Attributes:
        name: backend, precision, and the window where it is not the whole grid.
        backend: loaded.
        certificate: of the engine; None for the model's own graph.
        base_name: the name without the window.
        shape_zyx: of the input.
    """

    name: str
    backend: Backend
    certificate: Mapping[str, Any] | None
    base_name: str
    shape_zyx: Zyx

    @property
    def whole(self) -> bool:
        """Does it run on the whole grid?"""
        return self.name == self.base_name


def run(settings: Settings, setup: PeerSetup) -> list[Row]:
    """Return a row for each subject and peer.

    Raises:
        WrongAnswerError: the masks of a side and of the reference are blank.
    """
    with ExitStack() as stack:
        subjects = {subject.name: subject for subject in _load_subjects(settings, setup.x, stack)}
        peers = _peers(settings, setup, subjects.values())
        if settings.quick:
            peers = dict(list(peers.items())[-1:])
        whole = {name: _inference(subject.backend) for name, subject in subjects.items() if subject.whole}
        windows = {
            name: _inference(subject.backend)
            for name, subject in subjects.items()
            if not subject.whole and not settings.quick
        }
        overlaps = check_overlaps(whole | peers, setup.logits, settings.model.card.level, settings.progress)
        samples = interleave(
            {name: _timed(inference) for name, inference in (whole | windows | peers).items()},
            repeats=settings.repeats,
            warmups=settings.warmups,
            progress=lambda message: settings.progress(f"network: {message}"),
        )
    rows = []
    for name in (*whole, *windows):
        subject = subjects[name]
        for peer in peers:
            agreement = judge(overlaps[subject.base_name], overlaps[peer], subject.certificate)
            key = RowKey("network", setup.study, "infer", name, peer)
            rows.append(make_row(key, samples[name]["infer"], samples[peer]["infer"], agreement))
    if windows:
        rows += _average_over_patients(subjects, samples, peers, overlaps)
    return rows


def network_subjects(network: Network, x: Logits) -> list[NetworkSubject]:
    """Return the network on the whole grid and in each of its windows, its input in place."""
    info, engine = network.info, network.engine
    base_name = f"{info.name} {info.precision}" + ("" if engine is None else " engine")
    subjects = []
    for shape in network.shapes:
        backend = network.at(shape)
        depth, height, width = map(slice, shape)
        np.copyto(backend.input, x[:1, :1, depth, height, width], casting="same_kind")
        name = base_name if shape == network.grid_zyx else f"{base_name} {_sizes(shape)}"
        certificate = None if engine is None else engine.manifest.certificate
        subjects.append(NetworkSubject(name, backend, certificate, base_name, shape))
    return subjects


def open_network(model: Model, candidate: Candidate, settings: Settings) -> Network | None:
    """Open the cached engine of a candidate, else the model's own graph; None where the candidate needs an engine."""
    try:
        engine = cached_engine(model, candidate)
    except EngineError as error:
        settings.progress(f"network: {error}")
        engine = None
    if candidate.needs_engine and engine is None:
        command = f"lnfast export {model.card.name} --target {candidate.backend} --precision {candidate.precision}"
        name = f"{candidate.backend} {candidate.precision}"
        settings.progress(f"network: without {name}, which takes an engine: {command}")
        return None
    return Network(model, candidate, engine=engine, threads=settings.threads)


def judge(subject_dice: float, peer_dice: float, certificate: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the agreement of a row from the Dice of both sides with the reference.

    A subject that differs from the reference is wrong, a peer that differs is different.
    """
    verdict: Verdict = "same" if peer_dice >= DICE_AT_LEAST else "different"
    if subject_dice < DICE_AT_LEAST:
        verdict = "close" if certificate is not None and subject_dice >= CERTIFIED_DICE_AT_LEAST else "wrong"
    agreement = {"verdict": verdict, "dice": subject_dice, "peer_dice": peer_dice, "reference": "onnxruntime fp32"}
    if certificate is None:
        return agreement
    return {**agreement, "certificate": {key: certificate[key] for key in _CERTIFICATE_KEYS}}


def check_overlaps(
    inferences: Mapping[str, Inference], reference: Logits, level: float, progress: Callable[[str], None]
) -> dict[str, float]:
    """Run each inference once; return the Dice of its mask with the reference's.

    Raises:
        WrongAnswerError: both masks are blank.
    """
    overlaps = {}
    for name, inference in inferences.items():
        overlaps[name] = dice(inference() > level, reference > level)
        progress(f"network: {name}: Dice {overlaps[name]:.4f} with the reference")
    return overlaps


def _load_subjects(settings: Settings, x: Logits, stack: ExitStack) -> list[NetworkSubject]:
    subjects: list[NetworkSubject] = []
    for candidate in runnable_candidates(settings.device, settings.progress):
        network = open_network(settings.model, candidate, settings)
        if network is not None:
            subjects += network_subjects(stack.enter_context(closing(network)), x)
    return subjects


def _peers(settings: Settings, setup: PeerSetup, subjects: Iterable[NetworkSubject]) -> dict[str, Inference]:
    if settings.device == "cuda":
        return gpu_peers(setup.network, setup.x, torch.device("cuda:0"), settings.progress)
    # Without BF16 instructions torch falls back to loops that take minutes.
    bf16 = any(subject.backend.info.precision == "bf16" for subject in subjects)
    return cpu_peers(setup.network, setup.x, settings.progress, bf16=bf16, compiled=not settings.quick)


def _average_over_patients(
    subjects: Mapping[str, NetworkSubject],
    samples: Mapping[str, Samples],
    peers: Iterable[str],
    overlaps: Mapping[str, float],
) -> list[Row]:
    """Rows of each engine with windows, averaged over the windows that the studies of its certificate chose."""
    rows = []
    for base_name in dict.fromkeys(subject.base_name for subject in subjects.values() if not subject.whole):
        shapes = [subject for subject in subjects.values() if subject.base_name == base_name]
        certificate = shapes[0].certificate or {}
        counts: Mapping[str, int] = certificate.get("windows", {})
        chosen = [counts.get(_sizes(subject.shape_zyx), 0) for subject in shapes]
        studies = sum(chosen)  # a study of many thin slices has no window, but a deeper grid
        if not studies:
            continue
        weights = [count / studies for count in chosen]
        rounds = zip(*(samples[subject.name]["infer"] for subject in shapes), strict=True)
        averages = [sum(weight * ms for weight, ms in zip(weights, times, strict=True)) for times in rounds]
        for peer in peers:
            agreement = judge(overlaps[base_name], overlaps[peer], certificate)
            study = f"{studies} of the certificate"
            key = RowKey("network", study, "infer", f"{base_name}, in its windows", peer)
            rows.append(make_row(key, averages, samples[peer]["infer"], agreement))
    return rows


def _sizes(shape: Zyx) -> str:
    return "x".join(map(str, shape))


def _inference(backend: Backend) -> Inference:
    def forward() -> Logits:
        backend.infer()
        return backend.output

    return forward


def _timed(inference: Inference) -> Callable[[], Times]:
    def run_once() -> Times:
        start = perf_counter()
        inference()
        return {"infer": (perf_counter() - start) * 1e3}

    return run_once
