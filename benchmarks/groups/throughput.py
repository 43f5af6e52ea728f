"""A queue of studies: ``Engine.run_many``, which reads and writes while the network works, against one after the other.

The floor is the network alone: its part of the time where nothing else ran beside it. The limit is the time at the
wanted share of the network's own rate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.harness.engines import engine_name, load_subjects
from benchmarks.harness.rows import Row, RowKey, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from benchmarks.harness.timing import Times, interleave, summarize
from lnfast.engine import Engine
from lnfast.result import Result, StudyFailure

STUDIES, QUICK_STUDIES = 12, 2
# A round is a mean over all its studies.
REPEATS = 5
# The wanted share of the network's own rate.
WANTED_SHARE = 0.95

QueueRunner = Callable[[Engine, list[Path], Path], list[Result]]


def run(settings: Settings) -> list[Row]:
    """Return a row for 1 thread and for the settings' threads, of what ``auto`` takes.

    Raises:
        LnfastError: a study is refused.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="lnfast-throughput-") as work:
        phantoms = settings.phantoms()
        files = [write_study(volume, Path(work) / f"{name}.nii.gz") for name, volume in phantoms.items()]
        paths = list(islice(cycle(files), QUICK_STUDIES if settings.quick else STUDIES))
        study = f"{len(paths)} runs of {len(files)} phantoms in turn"
        for threads in sorted({1, settings.threads}):
            with next(load_subjects(settings, threads=threads)) as engine:
                rows.append(_row(engine, paths, Path(work), settings, (study, threads)))
    return rows


def overlapped(engine: Engine, paths: list[Path], out: Path) -> list[Result]:
    """Run all studies through `Engine.run_many` and write each."""
    return [_result(outcome) for outcome in engine.run_many(paths, out=out)]


def sequential(engine: Engine, paths: list[Path], out: Path) -> list[Result]:
    """Read, run and write each study before the next."""
    results = []
    for number, path in enumerate(paths):
        results.append(engine.run(path))
        results[-1].write(out, name=f"{number}")
    return results


def compare_results(ours: list[Result], theirs: list[Result]) -> dict[str, Any]:
    """Compare the nodes of every study, to the bit: both sides are of the same engine."""
    same = [our.nodes == their.nodes for our, their in zip(ours, theirs, strict=True)]
    counts = [sum(len(result.nodes) for result in results) for results in (ours, theirs)]
    return {"verdict": "same" if all(same) else "wrong", "nodes": counts}


def _row(engine: Engine, paths: list[Path], work: Path, settings: Settings, about: tuple[str, int]) -> Row:
    study, threads = about
    runners = {"run_many": overlapped, "one by one": sequential}
    results = {name: _in_fresh_folder(work, partial(runner, engine, paths)) for name, runner in runners.items()}
    agreement = compare_results(results["run_many"], results["one by one"])
    samples = interleave(
        {name: partial(_timed, runner, engine, paths, work) for name, runner in runners.items()},
        repeats=min(settings.repeats, REPEATS),
        warmups=0,
        progress=lambda message: settings.progress(f"throughput, threads {threads}: {message}"),
    )
    subject = engine_name(results["run_many"][0].report)
    network = samples["one by one"]["network"]
    return make_row(
        RowKey("throughput", study, f"threads {threads}", f"{subject}, run_many", f"{subject}, one by one", "ms/study"),
        samples["run_many"]["study"],
        samples["one by one"]["study"],
        agreement,
        floor=network,
        limit=summarize(network).median / WANTED_SHARE,
    )


def _timed(runner: QueueRunner, engine: Engine, paths: list[Path], work: Path) -> Times:
    """Milliseconds per study, of everything and of the network."""

    def run_once(out: Path) -> Times:
        start = perf_counter()
        results = runner(engine, paths, out)
        ms = (perf_counter() - start) * 1e3
        network_ms = sum(result.timings_ms["infer"] for result in results)
        return {"study": ms / len(paths), "network": network_ms / len(paths)}

    times: Times = _in_fresh_folder(work, run_once)
    return times


def _in_fresh_folder(work: Path, use: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory(dir=work) as fresh:
        return use(Path(fresh))


def _result(outcome: Result | StudyFailure) -> Result:
    if isinstance(outcome, StudyFailure):
        raise outcome.error
    return outcome
