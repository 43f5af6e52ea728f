"""The engines of lnfast that are measured: what ``auto`` takes, the other engines of this machine, and FP32.

And how an engine is timed from file to report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Times
from lnfast.backends import Candidate, backend_status, candidates
from lnfast.engine import Engine
from lnfast.errors import EngineError, LnfastError
from lnfast.report import Report
from lnfast.serving import cached_engine

STAGES = ("read", "preprocess", "infer", "postprocess", "measure", "write", "around", "total")


def runnable_candidates(device: str, progress: Callable[[str], None]) -> list[Candidate]:
    """Return every backend and precision that this machine's processor, or its first GPU, can run."""
    device = "cuda:0" if device == "cuda" else device
    runnable: list[Candidate] = []
    for status in backend_status():
        if not status.installed or device not in status.devices:
            continue
        for precision in status.precisions:
            try:
                runnable.extend(candidates(status.name, device, precision))
            except LnfastError as error:
                progress(f"without {status.name} {precision}: {error}")
    return runnable


def further_engines(settings: Settings, first: tuple[str, str]) -> list[tuple[str, str]]:
    """Return backend and precision of the engines measured beside ``first``, which ``auto`` took.

    Those are the engines in this machine's cache, and the first one's backend in FP32; none in a quick run.
    """
    chosen = []
    for candidate in () if settings.quick else runnable_candidates("cpu", settings.progress):
        key = candidate.backend, candidate.precision
        if key != first and (key == (first[0], "fp32") or _has_engine(settings, candidate)):
            chosen.append(key)
    return chosen


def load_subjects(settings: Settings, *, threads: int | None = None) -> Iterator[Engine]:
    """Load what ``auto`` takes on the CPU, and then `further_engines`, one after another; the caller closes them."""
    folder, threads = settings.model.folder, threads or settings.threads
    first = Engine(folder, device="cpu", threads=threads)
    yield first
    for backend, precision in further_engines(settings, (first.info.name, first.info.precision)):
        yield Engine(folder, backend=backend, device="cpu", precision=precision, threads=threads)


def time_engine(engine: Engine, path: Path, folder: Path) -> Times:
    """Time one run from file to report, in ms by stage: the engine's own times, write and total from outside."""
    start = perf_counter()
    result = engine.run(path)
    ready = perf_counter()
    result.write(folder, html=False)  # the page follows the report, and nothing waits for it
    end = perf_counter()
    return add_around({**result.timings_ms, "write": (end - ready) * 1e3, "total": (end - start) * 1e3})


def add_around(times: Times) -> Times:
    """Add ``around``: everything but the network."""
    return {**times, "around": times["total"] - times["infer"]}


def engine_name(report: Report | dict[str, Any]) -> str:
    """Return backend and precision of a report, with "engine" where a certified engine made it."""
    engine = (report if isinstance(report, dict) else report.to_dict())["engine"]
    kind = "" if engine["certificate"] is None else " engine"
    return f"lnfast {engine['backend']} {engine['precision']}{kind}"


def _has_engine(settings: Settings, candidate: Candidate) -> bool:
    try:
        return cached_engine(settings.model, candidate) is not None
    except EngineError as error:
        settings.progress(f"without {candidate.backend} {candidate.precision}: {error}")
        return False
