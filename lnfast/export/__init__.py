"""From a model to an engine: fast, and proven to find the same nodes, the same millimetres and the same stage.

    source.py        a model folder, a bare .onnx with a card, or an engine folder that shall be made again
    studies.py       what is calibrated and certified on
    graph.py         the network, to be changed; half.py and quantize.py change it, ranges.py says how far values go
    recipes.py       the graphs to try for a precision
    workshop.py      a target on this machine: what it offers, how a draft is made
    certificate.py   FP32 beside the engine, study by study
    forecast.py      how long it will take
    folder.py        manifest and files, whole or not at all

Needs the package onnx for fp16, bf16 on TensorRT and int8 (extra ``export``), and ONNX Runtime for the FP32 answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from lnfast.backends import Candidate, candidates
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.machine import device_kind
from lnfast.backends.registry import TARGET_PRECISIONS
from lnfast.backends.trt import toolkit
from lnfast.card import Model
from lnfast.errors import BackendError, EngineError, ModelError, UsageError
from lnfast.export.certificate import Certificate, Difference, Reference, certify, differ, make_references
from lnfast.export.forecast import Phase, planned
from lnfast.export.publish import check_replaceable, publish
from lnfast.export.studies import CERTIFICATE_STUDIES, Studies, split_folder, split_phantoms
from lnfast.export.target import Workshop, open_workshop
from lnfast.export.variants import Kitchen, draft_opener
from lnfast.network import Network
from lnfast.selftest import prove

__all__ = ["Attempt", "Exported", "Progress", "Request", "export", "export_to_cache", "plan_of"]

Progress = Callable[[str, int, int], None]
ROUNDS = 5  # of timing, interleaved


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        target: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        precision: ``fp32``, ``bf16``, ``fp16``, ``int8``; ``auto`` makes all that the target has and keeps the fastest
            that passes.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        calibration: a folder of the user's own studies instead of phantoms.
        studies: how many phantoms the certificate rests on.
        capabilities: GPUs that tensorrt-rtx builds for; empty for its portable set.
        windows: whether to make programs for parts of the grid as well, so that air costs no time.
        threads: on a CPU; 0 takes one per core.
    """

    target: str
    precision: str = "auto"
    device: str = "auto"
    calibration: Path | None = None
    studies: int = CERTIFICATE_STUDIES
    capabilities: tuple[str, ...] = ()
    windows: bool = True
    threads: int = 0


@dataclass(frozen=True)
class Attempt:
    """A precision that was tried.

    Attributes:
        precision: which.
        engine: a draft that passed, or that nobody can run here; None when it failed.
        certificate: None when it failed before, or nobody can run it here.
        infer_ms: median of a study's time in the network; None where nothing was timed.
        why: it was refused; None when it was not.
    """

    precision: str
    engine: EngineFolder | None
    certificate: Certificate | None
    infer_ms: float | None
    why: str | None


@dataclass(frozen=True)
class Exported:
    """An engine in its place.

    Attributes:
        engine: the folder.
        certificate: None when the machine cannot run it.
        attempts: all that were tried, the kept one among them.
    """

    engine: EngineFolder
    certificate: Certificate | None
    attempts: tuple[Attempt, ...]


def export(model: Model, out: Path, request: Request, say: Progress = lambda what, done, of: None) -> Exported:
    """Make an engine of a model in a folder of its own, with the model's files.

    Args:
        model: whose network it is.
        out: the folder, complete or absent; an older engine folder is replaced. Where the cache of this machine holds
            the engine that is asked for, it gets a copy of that with its certificate, and ``attempts`` is empty.
        request: what is wanted.
        say: told of each step, ``(what, done, of)``.

    Raises:
        UsageError: ``output-exists``, ``unknown-target``, ``unknown-precision``, ``bad-studies`` or ``proves-nothing``.
        EngineError: ``not-certified`` when no candidate passed; nothing is written then.
        ModelError, BackendError, StudyError: what the target, ONNX Runtime or a study of the user's says.
        OSError: what the disk said.
    """
    check_replaceable(out)
    # Which studies of the user's own a certificate rests on it does not say: those of today may be others.
    there = _there(model, request) if request.calibration is None else None
    if there is not None:
        return Exported(publish(there, there.manifest, model, out, with_model=True), None, ())
    return _export(model, request, say, lambda key: out, with_model=True)


def export_to_cache(model: Model, request: Request, say: Progress = lambda what, done, of: None) -> Exported:
    """Make an engine where `lnfast.Engine` looks for one; what is there already is kept.

    Two processes that ask for the same engine make it once: the second waits.

    Raises:
        As `export`; UsageError ``bad-device`` where nothing here can run it, for a cache serves one machine, and
            ``no-cache`` for a user without a home folder.
    """
    workshop = open_workshop(request.target, request.device, request.capabilities, request.threads)
    _check_precision(workshop, request.precision)
    possible = [one for one in map(workshop.candidate, _wanted(request)) if one is not None]
    if not possible:
        raise UsageError("bad-device", f"no device here runs {request.target} in {request.precision}; give -o DIR")
    device = possible[0].device

    def key(precision: str) -> str:
        return engine_cache.key_of(model, workshop.target, workshop.version, (device_kind(device),), precision)

    with engine_cache.making(key(request.precision)):
        there = _there(model, request)
        if there is not None:
            return Exported(there, None, ())
        return _export(model, request, say, lambda precision: engine_cache.folder_of(key(precision)), with_model=False)


def plan_of(model: Model, request: Request) -> list[Phase]:
    """What an export will do, as far as that can be known before; for `lnfast.export.forecast.Forecast`.

    Raises:
        UsageError, BackendError, StudyError: as `export`.
    """
    workshop = open_workshop(request.target, request.device, request.capabilities, request.threads)
    _check_precision(workshop, request.precision)
    ranged, judged = _studies(model, request)
    windows = workshop.windows(model.card.shape_zyx) if request.windows else ()
    wanted = [one for one in _wanted(request) if workshop.candidate(one) is not None]
    return planned(request.target, tuple(wanted), len(judged), len(ranged), len(windows))


def _wanted(request: Request) -> tuple[str, ...]:
    return TARGET_PRECISIONS[request.target] if request.precision == "auto" else (request.precision,)


def _there(model: Model, request: Request) -> EngineFolder | None:
    """What the cache holds of what is asked for; what is damaged there is made again."""
    workshop = open_workshop(request.target, request.device, request.capabilities, request.threads)
    _check_precision(workshop, request.precision)
    possible = [one for one in map(workshop.candidate, _wanted(request)) if one is not None]
    if not possible or request.capabilities:  # which GPUs an engine serves no key says
        return None
    device = possible[0].device
    made_for = (device_kind(device),)
    key = engine_cache.key_of(model, workshop.target, workshop.version, made_for, possible[0].precision)
    try:
        there = engine_cache.find(model, key, device)
    except EngineError:
        return None
    if there is None or there.manifest.certificate is None:
        return None
    shapes = workshop.windows(model.card.shape_zyx) if request.windows else ()
    proven = there.manifest.certificate
    judged = _studies(model, request)[1]
    same = there.manifest.shapes == shapes and proven.get("studies") == len(judged)
    return there if same and proven.get("source") == judged.source else None


def _export(
    model: Model, request: Request, say: Progress, place: Callable[[str], Path], *, with_model: bool
) -> Exported:
    workshop = open_workshop(request.target, request.device, request.capabilities, request.threads)
    _check_precision(workshop, request.precision)
    ranged, judged = _studies(model, request)
    with tempfile.TemporaryDirectory(prefix="lnfast-export-") as work:
        bench = _Bench(model, request, workshop, ranged, judged, Path(work), say)
        try:
            attempts = tuple(bench.attempts())
        finally:
            bench.close()
        kept = _best(attempts, request)
        assert kept.engine is not None
        certificate = None if kept.certificate is None else kept.certificate.to_dict()
        manifest = replace(kept.engine.manifest, certificate=certificate)
        out = place(kept.precision)
        made = publish(kept.engine, manifest, model, out, with_model=with_model)
    return Exported(made, kept.certificate, attempts)


class _Bench:
    """The attempts at a model, and what they share: the FP32 answers, which take longest."""

    def __init__(
        self,
        model: Model,
        request: Request,
        workshop: Workshop,
        ranged: Studies,
        judged: Studies,
        work: Path,
        say: Progress,
    ) -> None:
        self.model, self.request, self.workshop = model, request, workshop
        self.judged, self.work, self.say = judged, work, say
        reference = next(one for one in candidates("onnxruntime", "cpu", "fp32"))
        self.reference = Network(model, reference, threads=request.threads)
        self.kitchen = Kitchen(model, ranged, self.reference, None, say)
        self._references: list[Reference] = []
        self._coming = iter(make_references(judged, self.reference))

    def close(self) -> None:
        self.reference.close()

    def attempts(self) -> list[Attempt]:
        """One for each precision that is asked for and can be had; what passed is timed, all in turn."""
        wanted = _wanted(self.request)
        runnable = [precision for precision in wanted if self.workshop.candidate(precision) is not None]
        if self.request.precision == "auto":
            wanted = tuple(runnable) or wanted[:1]
        tried = [self._attempt(precision) for precision in wanted]
        return self._timed(tried)

    def _attempt(self, precision: str) -> Attempt:
        candidate = self.workshop.candidate(precision)
        self.kitchen.open_draft = None
        if candidate is not None:
            self.kitchen.open_draft = draft_opener(
                self.model,
                candidate,
                self.work / "tuning",
                lambda folder, recipe: self.workshop.make(folder, self.model, precision, recipe, (), _quiet),
                self.request.threads,
            )
        try:
            return self._first_that_passes(precision, candidate)
        except (ModelError, EngineError) as error:
            if self.request.precision != "auto":
                raise
            return Attempt(precision, None, None, None, str(error))

    def _first_that_passes(self, precision: str, candidate: Candidate | None) -> Attempt:
        windows = self.workshop.windows(self.model.card.shape_zyx) if self.request.windows else ()
        why = "nothing was tried"
        for number, recipe in enumerate(self.kitchen.recipes(self.workshop.target, precision)):
            folder = self.work / f"{precision}-{number}"
            engine = self.workshop.make(folder, self.model, precision, recipe, windows, self.say)
            if candidate is None:
                return Attempt(precision, engine, None, None, None)
            certificate, why = self._certified(engine, candidate)
            if certificate is not None:
                return Attempt(precision, engine, certificate, None, None)
        return Attempt(precision, None, None, None, why)

    def _certified(self, engine: EngineFolder, candidate: Candidate) -> tuple[Certificate | None, str]:
        """The certificate, or the first study that speaks against one."""
        network = Network(self.model, candidate, engine=engine, threads=self.request.threads)
        what = f"certifying {candidate.precision}"
        try:
            prove(network)
            found: list[Difference] = []
            for index, _ in enumerate(self.judged.names):
                self.say(what, index, len(self.judged))
                found.append(differ(network, self._reference(index)))
                if not found[-1].harmless:
                    return None, _against(found)
            info = self.reference.info
            told = f"{info.name} {info.version} {info.precision} on {info.device}"
            return certify(found, device_kind(candidate.device), told, self.judged.source), ""
        except EngineError as error:
            return None, str(error)
        finally:
            network.close()

    def _reference(self, index: int) -> Reference:
        while len(self._references) <= index:
            self._references.append(next(self._coming))
        return self._references[index]

    def _timed(self, tried: list[Attempt]) -> list[Attempt]:
        """The same with the time of a study in the network; each in turn, so that a busy moment slows all alike."""
        networks: dict[str, Network] = {}
        for attempt in tried:
            candidate = self.workshop.candidate(attempt.precision)
            if attempt.certificate is not None and attempt.engine is not None and candidate is not None:
                networks[attempt.precision] = Network(
                    self.model, candidate, engine=attempt.engine, threads=self.request.threads
                )
        spent: dict[str, list[float]] = {precision: [] for precision in networks}
        try:
            for turn in range(ROUNDS + 1 if networks else 0):
                self.say("timing", turn, ROUNDS + 1)
                reference = self._reference(turn % len(self._references))
                for precision, network in networks.items():
                    backend = network.at(network.window_for(reference.volume).shape_zyx)
                    started = perf_counter()
                    backend.infer()
                    if turn:
                        spent[precision].append((perf_counter() - started) * 1e3)
        finally:
            for network in networks.values():
                network.close()
        return [
            replace(one, infer_ms=median(spent[one.precision])) if spent.get(one.precision) else one for one in tried
        ]


def _best(attempts: tuple[Attempt, ...], request: Request) -> Attempt:
    """The fastest that passed; one that cannot be run here when there is no other.

    Raises:
        EngineError: ``not-certified``.
    """
    passed = [one for one in attempts if one.engine is not None]
    if not passed:
        why = "; ".join(f"{one.precision}: {one.why}" for one in attempts)
        raise EngineError(
            "not-certified", f"no engine for {request.target} is as good as FP32 ({why}); nothing was written"
        )
    return min(passed, key=lambda one: float("inf") if one.infer_ms is None else one.infer_ms)


def _against(found: list[Difference]) -> str:
    bad = found[-1]
    flips = f"the stage flips by {' and '.join(bad.flips)}, " if bad.flips else ""
    return f"not-certified: in study {len(found)} {flips}{bad.lost} suspicious nodes are lost and {bad.added} added"


def _studies(model: Model, request: Request) -> tuple[Studies, Studies]:
    if request.calibration is not None:
        return split_folder(request.calibration, model.card)
    return split_phantoms(request.studies)


def _check_precision(workshop: Workshop, precision: str) -> None:
    known = TARGET_PRECISIONS[workshop.target]
    if precision != "auto" and precision not in known:
        raise UsageError(
            "unknown-precision", f"got precision {precision!r} for {workshop.target}, wanted auto or {', '.join(known)}"
        )
    here = [offer.precision for offer in workshop.offered]
    # TensorRT alone makes engines for other machines.
    if workshop.target not in toolkit.PACKAGES and precision not in ("auto", *here):
        told = (
            f"{workshop.target} runs {', '.join(here)} on {workshop.offered[0].device} here, {precision} was asked for"
        )
        raise BackendError("precision-unavailable", told)


def _quiet(what: str, done: int, of: int) -> None:
    """Steps too small to tell."""
