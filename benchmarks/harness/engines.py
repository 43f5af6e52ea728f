"""Which engines of lnfast are measured: what ``auto`` takes, what else this machine keeps, and FP32 beside them.

And how one of them is timed from file to report.
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
from lnfast.serving import kept_engine

STAGES = ("read", "preprocess", "infer", "postprocess", "measure", "write", "around", "total")


def found_candidates(device: str, log: Callable[[str], None]) -> list[Candidate]:
    """Every backend and precision that this machine's processor, or its first GPU, can run."""
    device = "cuda:0" if device == "cuda" else device
    found: list[Candidate] = []
    for status in backend_status():
        if not status.installed or device not in status.devices:
            continue
        for precision in status.precisions:
            try:
                found.extend(candidates(status.name, device, precision))
            except LnfastError as error:
                log(f"without {status.name} {precision}: {error}")
    return found


def precisions(settings: Settings, first: tuple[str, str]) -> list[tuple[str, str]]:
    """Backend and precision of what is measured beside ``first``, which ``auto`` took; nothing in a quick run.

    Those are the engines that this machine keeps, and the first one's backend in FP32.
    """
    chosen = []
    for candidate in () if settings.quick else found_candidates("cpu", settings.log):
        asked = candidate.backend, candidate.precision
        if asked != first and (asked == (first[0], "fp32") or _kept(settings, candidate)):
            chosen.append(asked)
    return chosen


def subjects(settings: Settings, *, threads: int | None = None) -> Iterator[Engine]:
    """What ``auto`` takes on the CPU, and then `precisions`; each loaded when it is asked for, the caller closes it."""
    folder, threads = settings.model.folder, threads or settings.threads
    first = Engine(folder, device="cpu", threads=threads)
    yield first
    for backend, precision in precisions(settings, (first.info.name, first.info.precision)):
        yield Engine(folder, backend=backend, device="cpu", precision=precision, threads=threads)


def timed_engine(engine: Engine, path: Path, folder: Path) -> Times:
    """File to report once, in ms by stage; the engine's own stages, with write and total taken from outside."""
    start = perf_counter()
    result = engine.run(path)
    ready = perf_counter()
    result.write(folder, html=False)  # the page follows the report and holds it up in nothing
    end = perf_counter()
    return with_around({**result.timings_ms, "write": (end - ready) * 1e3, "total": (end - start) * 1e3})


def with_around(times: Times) -> Times:
    """Adds ``around``: everything that is not the network."""
    return {**times, "around": times["total"] - times["infer"]}


def name_of(report: Report | dict[str, Any]) -> str:
    """Backend and precision that made a report, and whether a certified engine did or the model's own graph."""
    engine = (report if isinstance(report, dict) else report.to_dict())["engine"]
    kind = "" if engine["certificate"] is None else " engine"
    return f"lnfast {engine['backend']} {engine['precision']}{kind}"


def _kept(settings: Settings, candidate: Candidate) -> bool:
    try:
        return kept_engine(settings.model, candidate) is not None
    except EngineError as error:
        settings.log(f"without {candidate.backend} {candidate.precision}: {error}")
        return False
