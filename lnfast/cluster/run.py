"""Run a cohort: list, lock, connect, schedule, and write the tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol

from lnfast.card import shipped_models
from lnfast.cluster.inputs import Entry, Inputs, list_inputs
from lnfast.cluster.messages import Outcome, Row, Task, WorkerRequest
from lnfast.cluster.packages import check_packages
from lnfast.cluster.placement import held, sweep
from lnfast.cluster.protocol import Cluster
from lnfast.cluster.ray_cluster import LOCAL, RayCluster, WorkerShape, connected
from lnfast.cluster.rows import LEADING_COLUMNS, REPORT_COLUMNS
from lnfast.cluster.schedule import STUDIES_PER_WORKER, Schedule, ScheduleLimits
from lnfast.cluster.tables import Journal, remove_tables, write_tables
from lnfast.cluster.worker import CohortWorker
from lnfast.errors import UsageError
from lnfast.measure import Rules
from lnfast.result import Parts
from lnfast.study import DicomChoice
from lnfast.study.dicom.identity import study_key

# What is being written when the cohort is stopped is brought to its end, and a network in the middle of a study may be.
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True)
class CohortRequest:
    """What is to be run, by what and where.

    Attributes:
        studies: files, folders and manifests; see `lnfast.cluster.inputs`.
        out: folder of study folders and tables, which every machine of the cluster sees at this path.
        model, backend, device, precision: as `lnfast.Engine` takes them.
        rules, choice, parts: as `lnfast.Engine.run_many` takes them.
        address: as `lnfast.cluster.ray_cluster.connected` takes it.
        workers: None for as many as have room.
        cpus, gpus: of each worker.
        resume: leave alone what is complete under the same model, engine and rules.
        study_minutes: after which a study counts as hanging; infinite for never.
    """

    studies: tuple[Path, ...]
    out: Path
    model: str = "pelvic-ln-edge"
    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    rules: Rules = field(default_factory=Rules)
    choice: DicomChoice = field(default_factory=DicomChoice)
    parts: Parts = field(default_factory=Parts)
    address: str = LOCAL
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    resume: bool = True
    study_minutes: float = 30.0


@dataclass
class CohortSummary:
    """How far a cohort is, and at its end what became of it.

    Attributes:
        total: studies.
        done, refused: those that have ended, with a report and without.
        resumed: of those that are done, whose reports were there before.
        stages: how many are of each N stage.
        codes: how often each code of a refusal was met.
        exit_code: the highest of all refusals; 0 without.
        first_s: when the first study ended whose report was not there before, by `time.monotonic`.
    """

    total: int
    done: int = 0
    refused: int = 0
    resumed: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    exit_code: int = 0
    first_s: float | None = None

    @property
    def remaining(self) -> int:
        """How many studies have not ended."""
        return self.total - self.done - self.refused

    @property
    def per_hour(self) -> float:
        """How many studies end in an hour, without those whose reports were there before; 0 before two have ended."""
        ended = self.done + self.refused - self.resumed
        return 0.0 if self.first_s is None else (ended - 1) * 3600 / max(monotonic() - self.first_s, 1e-3)

    def count(self, outcome: Outcome) -> None:
        """Count what became of a study."""
        if self.first_s is None and not outcome.resumed:
            self.first_s = monotonic()
        if outcome.refusal is not None:
            self.refused += 1
            self.codes[outcome.refusal.code] += 1
            self.exit_code = max(self.exit_code, outcome.refusal.exit_code)
            return
        self.done += 1
        self.resumed += outcome.resumed
        self.stages[outcome.row["n_stage"]] += 1


class Display(Protocol):
    """What a caller shows of a cohort while it runs."""

    def log(self, line: str) -> None:
        """Show a line."""

    def ended(self, entry: Entry, outcome: Outcome, summary: CohortSummary) -> None:
        """Show what became of a study, and how far the cohort is."""


def run_cohort(request: CohortRequest, display: Display, *, kind: type[CohortWorker] = CohortWorker) -> CohortSummary:
    """Run every study of a cohort, each once, and write its folder and its rows of the tables.

    Args:
        request: what is to be run, by what and where.
        display: shows how far it is.
        kind: the class of the workers.

    Raises:
        UsageError: ``bad-manifest``, ``no-studies``, ``output-in-use``, ``no-room``, ``bad-address``.
        BackendError: ``backend-missing``, ``no-cluster``, or no worker could be started.
        LnfastError: the first worker's engine was refused.
        OSError: of the disk. Study folders are whole or absent.
    """
    check_packages()
    inputs = list_inputs(request.studies, request.out, display.log)
    names = {entry.name for entry in inputs.entries if entry.name is not None}
    with held(request.out, display.log) as (token, rows):
        sweep(request.out, names)
        try:
            with connected(request.address), Journal(rows, len(inputs.entries)) as journal:
                shape = WorkerShape(request.cpus, request.gpus, STUDIES_PER_WORKER + 1)
                cluster = RayCluster(kind, shape)
                limits = ScheduleLimits(
                    _workers(request, cluster, len(inputs.entries), display.log), request.study_minutes * 60
                )
                schedule = Schedule(cluster, _worker_request(request, inputs, token), limits, display.log)
                summary = run_schedule(schedule, inputs, journal, display, request.out)
        finally:
            sweep(request.out, names)
    return summary


def run_schedule(schedule: Schedule, inputs: Inputs, journal: Journal, display: Display, out: Path) -> CohortSummary:
    """Run a schedule to its end, and write the tables.

    Args:
        schedule: not yet begun.
        inputs: the studies.
        journal: for their rows; empty.
        display: shows how far it is.
        out: the folder of the tables; those of an earlier run are deleted.

    Raises:
        LnfastError, OSError: as `run_cohort`.
    """
    summary = CohortSummary(len(inputs.entries))
    tasks = [Task(index, entry.path, entry.name) for index, entry in enumerate(inputs.entries)]
    try:
        for outcome in schedule.outcomes(tasks):
            if summary.remaining == summary.total:
                remove_tables(out)
            entry = inputs.entries[outcome.index]
            journal.write(outcome.index, _row(entry, outcome), outcome.nodes)
            summary.count(outcome)
            display.ended(entry, outcome, summary)
    except BaseException:
        display.log("stopping: what is complete stays, and the same command goes on with the rest")
        schedule.stop(STOP_WITHIN_S)
        raise
    finally:
        schedule.stop(0.0)
    write_tables(journal, {**LEADING_COLUMNS, **inputs.columns, **REPORT_COLUMNS}, out)
    return summary


def _row(entry: Entry, outcome: Outcome) -> Row:
    row = {"study": entry.name, **outcome.row, "resumed": outcome.resumed, "path": entry.given, **entry.carried}
    return {name: _encodable(value) for name, value in row.items()}


def _encodable(value: object) -> object:
    """Return a text that UTF-8 can hold: names of files may be of any bytes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _workers(request: CohortRequest, cluster: Cluster, studies: int, log: Callable[[str], None]) -> int:
    room = cluster.room()
    each = f"{request.cpus} cores" + (f" and {request.gpus:g} GPUs" if request.gpus else "")
    if request.workers is None and room == 0:
        raise UsageError("no-room-for-workers", f"no machine has {each} for a worker; ask for less, or give --workers")
    if request.workers is not None and request.workers > room:
        message = f"{request.workers} workers of {each} were asked for, and there is room for {room}"
        if request.address == LOCAL:
            raise UsageError("no-room-for-workers", f"{message}; ask for less")
        log(f"{message}; the others start when there is room")
    return min(request.workers or room, studies)


def _worker_request(request: CohortRequest, inputs: Inputs, token: str) -> WorkerRequest:
    model = request.model
    if model not in shipped_models() and os.path.isdir(model):
        model = os.path.abspath(model)
    dicom = any(entry.name is None for entry in inputs.entries)
    return WorkerRequest(
        model=model,
        backend=request.backend,
        device=request.device,
        precision=request.precision,
        threads=request.cpus,
        rules=request.rules,
        choice=request.choice,
        parts=request.parts,
        out=os.path.abspath(request.out),
        token=token,
        resume=request.resume,
        study_key=study_key() if dicom else b"",
    )
