"""The export pipeline, for each requested precision: graph variants -> build -> certify; then the fastest is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

from lnfast.backends import Candidate
from lnfast.backends.protocol import Progress
from lnfast.backends.registry import AUTO
from lnfast.card import Model
from lnfast.errors import EngineError, ModelError
from lnfast.export.certificate import open_reference_network
from lnfast.export.certifier import Certifier
from lnfast.export.draft import DraftBuilder
from lnfast.export.request import Attempt, Request
from lnfast.export.target import InstalledTarget
from lnfast.export.variants import GraphVariant, GraphVariants
from lnfast.network import Network

ROUNDS = 5  # of timing, interleaved


class Pipeline:
    """The attempts to build an engine of a model that passes.

    Args:
        model: the model of which engines are built.
        request: the engine to build.
        target: what is installed for it.
        work: a temporary folder for drafts.
        progress: told of each step, ``(step, done, total)``.
    """

    def __init__(self, model: Model, request: Request, target: InstalledTarget, work: Path, progress: Progress) -> None:
        self._model, self._request, self._target = model, request, target
        self._work, self._progress = work, progress
        range_studies, certificate_studies = request.study_sets(model)
        self._builder = DraftBuilder(model, target, request)
        self._reference = open_reference_network(model, request.threads)
        self._variants = GraphVariants(model, range_studies, self._reference, None, progress)
        self._certifier = Certifier(self._reference, certificate_studies, request.threads, progress)

    def close(self) -> None:
        """Release the reference's runtime."""
        self._reference.close()

    def run(self) -> tuple[Attempt, ...]:
        """Return an attempt for each precision that is requested and can be had; those that pass are timed in turn.

        Raises:
            ModelError, EngineError, BackendError, UsageError: as `lnfast.export.export`.
        """
        precisions = self._request.precisions
        if self._request.precision == AUTO:
            runnable = tuple(candidate.precision for candidate in self._target.candidates(precisions))
            precisions = runnable or precisions[:1]
        return self._timed(tuple(self._attempt(precision) for precision in precisions))

    def _attempt(self, precision: str) -> Attempt:
        candidate = self._target.candidate(precision)
        self._variants.load_graph = None
        if candidate is not None:
            self._variants.load_graph = lambda graph: self._load_graph(candidate, graph)
        try:
            return self._first_that_passes(precision, candidate)
        except (ModelError, EngineError) as error:
            if self._request.precision != AUTO:
                raise
            return Attempt(precision, None, None, None, str(error))

    def _first_that_passes(self, precision: str, candidate: Candidate | None) -> Attempt:
        windows = self._target.windows(self._model.card.shape_zyx) if self._request.windows else ()
        why = "nothing was tried"
        for number, variant in enumerate(self._variants.of(self._target.name, precision)):
            folder = self._work / f"{precision}-{number}"
            engine = self._builder.build(folder, precision, variant, windows, self._progress)
            if candidate is None:
                return Attempt(precision, engine, None, None, None)
            certificate, why = self._certifier.certify(engine, candidate)
            if certificate is not None:
                return Attempt(precision, engine, certificate, None, None)
        return Attempt(precision, None, None, None, why)

    def _load_graph(self, candidate: Candidate, graph: bytes) -> Network:
        """Load an int8 graph into the target, by way of a draft that the next call replaces."""
        variant = GraphVariant({}, graph)
        engine = self._builder.build(self._work / "tuning", candidate.precision, variant, (), _ignore)
        return Network(self._model, candidate, engine=engine, threads=self._request.threads)

    def _timed(self, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """Add the time of a study in the network; engines take turns, so that a busy moment slows all alike."""
        networks: dict[str, Network] = {}
        for attempt in attempts:
            candidate = self._target.candidate(attempt.precision)
            if attempt.certificate is not None and attempt.engine is not None and candidate is not None:
                networks[attempt.precision] = Network(
                    self._model, candidate, engine=attempt.engine, threads=self._request.threads
                )
        times_ms: dict[str, list[float]] = {precision: [] for precision in networks}
        try:
            for turn in range(ROUNDS + 1 if networks else 0):
                self._progress("timing", turn, ROUNDS + 1)
                volume = self._certifier.answer(turn % self._certifier.answered).volume
                for precision, network in networks.items():
                    backend = network.at(network.shape_for(network.window_for(volume)))
                    started = perf_counter()
                    backend.infer()
                    if turn:
                        times_ms[precision].append((perf_counter() - started) * 1e3)
        finally:
            for network in networks.values():
                network.close()
        return tuple(
            replace(attempt, infer_ms=median(times_ms[attempt.precision]))
            if times_ms.get(attempt.precision)
            else attempt
            for attempt in attempts
        )


def best(attempts: tuple[Attempt, ...], target: str) -> Attempt:
    """Return the fastest attempt that passed; one that cannot run here when there is no other.

    Raises:
        EngineError: ``not-certified``.
    """
    passed = [attempt for attempt in attempts if attempt.engine is not None]
    if not passed:
        why = "; ".join(f"{attempt.precision}: {attempt.why}" for attempt in attempts)
        raise EngineError("not-certified", f"no engine for {target} is as good as FP32 ({why}); nothing was written")
    return min(passed, key=lambda attempt: float("inf") if attempt.infer_ms is None else attempt.infer_ms)


def _ignore(step: str, done: int, total: int) -> None:
    """Ignore progress: the steps are too small to report."""
