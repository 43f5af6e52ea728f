"""Real engines: studies an hour with one and two workers of one core each, beside one process of two cores.

In turn, round by round, on the same studies; from the first report to the last, so that no start of a process counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.harness.engines import engine_name
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from benchmarks.harness.timing import Times, interleave, summarize
from lnfast.cluster.inputs import Entry
from lnfast.cluster.messages import Outcome
from lnfast.cluster.ray_cluster import LOCAL, connected
from lnfast.cluster.run import CohortRequest, CohortSummary, run_cohort
from lnfast.engine import Engine
from lnfast.result import Result

STUDIES, QUICK_STUDIES = 24, 4
REPEATS = 5
COLUMNS = ("engines", "subject", "studies", "studies/h", "studies/h p5", "studies/h p95", "s/study")


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the table ``cohort, real engines``, of what ``auto`` takes.

    Raises:
        LnfastError: a study is refused.
    """
    with tempfile.TemporaryDirectory(prefix="lnfast-cohort-") as work, connected(LOCAL, cores=2):
        folder = Path(work)
        phantoms = [write_study(volume, folder / f"{name}.nii.gz") for name, volume in settings.phantoms().items()]
        paths = tuple(islice(cycle(phantoms), QUICK_STUDIES if settings.quick else STUDIES))
        with Engine(settings.model.folder, device="cpu", threads=2) as engine:
            subject = engine_name(engine.run(paths[0]).report)
            contenders: dict[str, Callable[[], Times]] = {
                "1 process of 2 cores": partial(_in_process, engine, paths, folder),
                "1 worker of 1 core": partial(_on_ray, settings, paths, folder, 1),
                "2 workers of 1 core": partial(_on_ray, settings, paths, folder, 2),
            }
            samples = interleave(
                contenders,
                repeats=min(settings.repeats, REPEATS),
                warmups=0,
                progress=lambda message: settings.progress(f"cohort, real engines: {message}"),
            )
    rows = []
    for name in contenders:
        summary = summarize(samples[name]["study"])
        rates = [3.6e6 / milliseconds for milliseconds in (summary.median, summary.p95, summary.p5)]
        rows.append([name, subject, len(paths), *rates, summary.median / 1e3])
    return {"cohort, real engines": {"columns": list(COLUMNS), "rows": rows}}


class _Ends:
    """When studies end; also a `lnfast.cluster.Display`."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def log(self, line: str) -> None:
        """Show nothing."""

    def ended(self, entry: Entry, outcome: Outcome, summary: CohortSummary) -> None:
        """Take the time.

        Raises:
            LnfastError: the study is refused.
        """
        if outcome.refusal is not None:
            raise outcome.refusal.exception()
        self.times_s.append(perf_counter())

    def per_study(self) -> Times:
        """Return ms for each study after the first."""
        return {"study": (self.times_s[-1] - self.times_s[0]) * 1e3 / (len(self.times_s) - 1)}


def _in_process(engine: Engine, paths: tuple[Path, ...], folder: Path) -> Times:
    ends = _Ends()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        for outcome in engine.run_many(paths, out=out):
            if not isinstance(outcome, Result):
                raise outcome.error
            ends.times_s.append(perf_counter())
    return ends.per_study()


def _on_ray(settings: Settings, paths: tuple[Path, ...], folder: Path, workers: int) -> Times:
    ends = _Ends()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        request = CohortRequest(studies=paths, out=Path(out), model=str(settings.model.folder), device="cpu")
        run_cohort(replace(request, workers=workers), ends)
    return ends.per_study()
