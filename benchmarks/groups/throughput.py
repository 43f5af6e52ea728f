"""A queue of studies: ``Engine.run_many``, which reads and writes while the network works, against one after the other.

The floor is the network alone: what its part of the time was where nothing else ran beside it. A limit stands for the
share of the network's own rate that is wanted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.harness.engines import name_of, subjects
from benchmarks.harness.rows import Pair, Row, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from benchmarks.harness.timing import Times, interleave, summarize
from lnfast.engine import Engine, Result, StudyFailure

STUDIES, QUICK_STUDIES = 12, 2
# A round is a mean over all its studies.
REPEATS = 5
# Of the network's own rate.
WANTED = 0.95

Way = Callable[[Engine, list[Path], Path], list[Result]]


def run(settings: Settings) -> list[Row]:
    """A row for each number of threads, one and those of the settings, of what ``auto`` takes.

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
            with next(subjects(settings, threads=threads)) as engine:
                rows.append(_row(engine, paths, Path(work), settings, (study, threads)))
    return rows


def overlapped(engine: Engine, paths: list[Path], out: Path) -> list[Result]:
    """All of them through `Engine.run_many`, each written."""
    return [_served(answer) for answer in engine.run_many(paths, out=out)]


def one_by_one(engine: Engine, paths: list[Path], out: Path) -> list[Result]:
    """Read, run and write each before the next."""
    results = []
    for number, path in enumerate(paths):
        results.append(engine.run(path))
        results[-1].write(out, name=f"{number}")
    return results


def agree(ours: list[Result], theirs: list[Result]) -> dict[str, Any]:
    """The same nodes of every study, to the bit: both ways are of one engine."""
    same = [mine.nodes == other.nodes for mine, other in zip(ours, theirs, strict=True)]
    counts = [sum(len(result.nodes) for result in results) for results in (ours, theirs)]
    return {"verdict": "same" if all(same) else "wrong", "nodes": counts}


def _row(engine: Engine, paths: list[Path], work: Path, settings: Settings, about: tuple[str, int]) -> Row:
    study, threads = about
    ways = {"run_many": overlapped, "one by one": one_by_one}
    answers = {name: _in_fresh_folder(work, partial(way, engine, paths)) for name, way in ways.items()}
    agreed = agree(answers["run_many"], answers["one by one"])
    samples = interleave(
        {name: partial(_timed, way, engine, paths, work) for name, way in ways.items()},
        repeats=min(settings.repeats, REPEATS),
        warmups=0,
        log=lambda line: settings.log(f"throughput, threads {threads}: {line}"),
    )
    subject = name_of(answers["run_many"][0].report)
    network = samples["one by one"]["network"]
    return make_row(
        Pair("throughput", study, f"threads {threads}", f"{subject}, run_many", f"{subject}, one by one", "ms/study"),
        samples["run_many"]["study"],
        samples["one by one"]["study"],
        agreed,
        floor=network,
        limit=summarize(network).median / WANTED,
    )


def _timed(way: Way, engine: Engine, paths: list[Path], work: Path) -> Times:
    """Milliseconds a study: of everything, and of the network."""

    def run_once(out: Path) -> Times:
        start = perf_counter()
        results = way(engine, paths, out)
        ms = (perf_counter() - start) * 1e3
        return {"study": ms / len(paths), "network": sum(one.timings_ms["infer"] for one in results) / len(paths)}

    times: Times = _in_fresh_folder(work, run_once)
    return times


def _in_fresh_folder(work: Path, use: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory(dir=work) as fresh:
        return use(Path(fresh))


def _served(answer: Result | StudyFailure) -> Result:
    if isinstance(answer, StudyFailure):
        raise answer.error
    return answer
