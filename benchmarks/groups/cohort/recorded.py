"""What the schedule costs: the network is replaced by a delay that was recorded of it.

    cohort              workers on Ray, a process each, that sleep in place of the network and answer with a real report
    cohort, simulated   the schedule alone with 100 and 1,000 workers that exist on paper only; what Ray adds for each
                        study is taken from the first table. A simulation: no cluster of that size was measured

The share is that of workers / delay, which is what workers without a schedule would do.
"""

from __future__ import annotations

import heapq
import itertools
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, sleep, thread_time
from typing import Any

from benchmarks.harness.engines import load_subjects
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from lnfast.cluster.inputs import Entry, Inputs
from lnfast.cluster.messages import EngineIdentity, ErrorValue, Outcome, Task, WorkerFacts, WorkerRequest
from lnfast.cluster.ray_cluster import LOCAL, RayCluster, WorkerShape, connected
from lnfast.cluster.rows import node_rows, study_row
from lnfast.cluster.run import CohortSummary, run_schedule
from lnfast.cluster.schedule import STUDIES_PER_WORKER, Schedule, ScheduleLimits
from lnfast.cluster.tables import Journal
from lnfast.cluster.worker import CohortWorker
from lnfast.measure import Rules
from lnfast.result import Parts
from lnfast.study import DicomChoice

WORKERS, QUICK_WORKERS = 32, 2
STUDIES, QUICK_STUDIES = 10_000, 40
SIMULATED, QUICK_SIMULATED = (100, 1000), (8,)
SIMULATED_ROUNDS = 20  # studies for each worker
RECORDINGS = 3  # runs of each phantom
COLUMNS = (
    *("workers", "delay ms", "studies", "share", "driver ms/study", "driver MB at 10 %", "driver MB at 100 %"),
    "MB/worker",
)
SIMULATED_COLUMNS = ("workers", "delay ms", "studies", "schedule ms/study", "with Ray ms/study", "estimated share")


@dataclass(frozen=True)
class Recording:
    """One thread's network, recorded: the delay, and what it answered.

    Attributes:
        delay_s: median of the network's time.
        outcome: of the last study.
    """

    delay_s: float
    outcome: Outcome


@dataclass(frozen=True)
class Measured:
    """One run of a schedule.

    Attributes:
        studies: that ended once all workers were ready.
        wall_s: from then to the end.
        driver_s: of the driver's processor, in the same time.
        memory_mb: of the driver, when a tenth of all studies had ended and at the end.
        worker_mb: of a worker at the end; None where they are no processes.
    """

    studies: int
    wall_s: float
    driver_s: float
    memory_mb: tuple[float, float]
    worker_mb: float | None


class RecordedWorker(CohortWorker):
    """Sleeps in place of the network, which takes one study at a time; the model's name holds the recording."""

    def __init__(self) -> None:
        super().__init__()
        self._network = threading.Lock()
        self._recording: Recording | None = None

    def load(self, request: WorkerRequest) -> WorkerFacts | ErrorValue:
        """Load no engine."""
        self._recording = request.recording  # type: ignore[attr-defined]
        return FACTS

    def run(self, task: Task) -> Outcome:
        """Wait for the network's turn, and for as long as it took."""
        assert self._recording is not None
        with self._network:
            sleep(self._recording.delay_s)
        return answer(self._recording, task)


FACTS = WorkerFacts(EngineIdentity(*[""] * 8), "", "a recorded delay in place of the network", "", 0)


@dataclass(frozen=True)
class RecordedRequest(WorkerRequest):
    """What a `RecordedWorker` is told."""

    recording: Recording | None = None


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the tables ``cohort`` and ``cohort, simulated``.

    Raises:
        LnfastError: of the engine that is recorded.
    """
    recording = record(settings)
    settings.progress(f"cohort: recorded {recording.delay_s * 1e3:.0f} ms")
    workers, studies = (QUICK_WORKERS, QUICK_STUDIES) if settings.quick else (WORKERS, STUDIES)
    measured = on_ray(recording, workers, studies)
    driver_ms = measured.driver_s / measured.studies * 1e3
    row = [workers, recording.delay_s * 1e3, studies, share(measured, workers, recording), driver_ms]
    rows = [[*row, *measured.memory_mb, measured.worker_mb]]
    simulated = list(_simulated(settings, recording, driver_ms, workers))
    return {
        "cohort": {"columns": list(COLUMNS), "rows": rows},
        "cohort, simulated": {"columns": list(SIMULATED_COLUMNS), "rows": simulated},
    }


def record(settings: Settings) -> Recording:
    """Record the network of what ``auto`` takes, in one thread, on every phantom."""
    times, reports = [], []
    with (
        tempfile.TemporaryDirectory(prefix="lnfast-cohort-") as work,
        next(load_subjects(settings, threads=1)) as engine,
    ):
        for name, volume in settings.phantoms().items():
            path = write_study(volume, Path(work) / f"{name}.nii.gz")
            for _ in range(1 if settings.quick else RECORDINGS):
                result = engine.run(path)
                times.append(result.timings_ms["infer"] / 1e3)
            reports.append(result.report.to_dict())
    row, nodes = study_row(reports[-1]), node_rows(reports[-1])
    return Recording(sorted(times)[len(times) // 2], Outcome(0, row, nodes))


def answer(recording: Recording, task: Task) -> Outcome:
    """Return the recorded answer as that of another study."""
    return Outcome(task.index, {**recording.outcome.row, "study": task.name}, recording.outcome.nodes)


def on_ray(recording: Recording, workers: int, studies: int) -> Measured:
    """Run a schedule on Ray."""
    with connected(LOCAL, cores=workers):
        cluster = RayCluster(RecordedWorker, WorkerShape(1, 0.0, STUDIES_PER_WORKER + 1))
        schedule = Schedule(cluster, _request(recording), ScheduleLimits(workers, float("inf")), lambda line: None)
        return measure(schedule, workers, studies)


def measure(schedule: Schedule, workers: int, studies: int) -> Measured:
    """Run a schedule to its tables, as `lnfast cohort` does, and time it from when all workers are ready."""
    entries = tuple(Entry("/none", "none", f"study-{index}", "none", {}) for index in range(studies))
    clock = _Clock(schedule, workers)
    with tempfile.TemporaryDirectory(prefix="lnfast-cohort-") as work, Journal(Path(work) / "rows", studies) as journal:
        run_schedule(schedule, Inputs(entries, {}), journal, clock, Path(work))
    return clock.measured()


def share(measured: Measured, workers: int, recording: Recording) -> float:
    """Return which part it did of workers / delay."""
    return measured.studies * recording.delay_s / workers / measured.wall_s


class _Clock:
    """A `lnfast.cluster.Display` that measures.

    What had been sent to workers before all were ready ends in the measured time as well: at most `STUDIES_PER_WORKER`
    of each, of which the network has one.
    """

    def __init__(self, schedule: Schedule, workers: int) -> None:
        self._schedule, self._workers = schedule, workers
        self._began: tuple[float, float, int] | None = None
        self._ended = (0.0, 0.0, 0)
        self._early_mb = self._late_mb = 0.0
        self._worker_mb: float | None = None

    def log(self, line: str) -> None:
        """Show nothing."""

    def ended(self, entry: Entry, outcome: Outcome, summary: CohortSummary) -> None:
        """Take the time."""
        now = (perf_counter(), process_time(), summary.done)
        if self._began is None and self._schedule.ready == self._workers:
            self._began = now
        self._ended = now
        if summary.done == max(summary.total // 10, 1):
            self._early_mb = _resident_mb()
        if summary.remaining == 0:
            self._late_mb, self._worker_mb = _resident_mb(), _worker_mb()

    def measured(self) -> Measured:
        """Return what was measured."""
        assert self._began is not None, "some workers were never ready; take more studies"
        wall_s, driver_s, studies = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        return Measured(int(studies), wall_s, driver_s, (self._early_mb, self._late_mb), self._worker_mb)


def _resident_mb() -> float:
    """Return the memory of this process in 10^6 bytes. Linux only."""
    return _kilobytes(Path("/proc/self/status"), "VmRSS:") * 1024 / 1e6


def _kilobytes(path: Path, entry: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry))


def _worker_mb() -> float | None:
    """Return the mean memory of the workers on this machine, with a part of what they share; None without."""
    sizes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::RecordedWorker"):
                sizes.append(_kilobytes(folder / "smaps_rollup", "Pss:") * 1024 / 1e6)
        except (OSError, StopIteration):  # it has ended
            continue
    return sum(sizes) / len(sizes) if sizes else None


def _request(recording: Recording) -> RecordedRequest:
    texts = dict.fromkeys(("model", "backend", "device", "precision", "out", "token"), "")
    return RecordedRequest(
        **texts,
        threads=1,
        rules=Rules(),
        choice=DicomChoice(),
        parts=Parts(),
        resume=False,
        study_key=b"",
        recording=recording,
    )


# --- simulated numbers of workers -----------------------------------------------------------------------------------


class PaperCluster:
    """A `lnfast.cluster.protocol.Cluster` whose workers are entries in a heap: one thread answers for all of them."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.clock_s = 0.0  # of the processor, for the thread that answers
        self._due: list[tuple[float, int, Future[Any], Outcome]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def start_worker(self) -> PaperWorker:
        """Start one."""
        return PaperWorker(self)

    def room(self) -> int:
        """Return one: nothing asks."""
        return 1

    def answer_at(self, at_s: float, future: Future[Any], outcome: Outcome) -> None:
        """Answer a call at a time of `time.perf_counter`."""
        with self._changed:
            heapq.heappush(self._due, (at_s, next(self._numbers), future, outcome))
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _answer(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._due or self._due[0][0] > perf_counter()):
                    self._changed.wait(max(self._due[0][0] - perf_counter(), 0.0) if self._due else None)
                if self._closed:
                    return
                _, _, future, outcome = heapq.heappop(self._due)
            future.set_result(outcome)
            self.clock_s = thread_time()


class PaperWorker:
    """A worker of a `PaperCluster`."""

    def __init__(self, cluster: PaperCluster) -> None:
        self._cluster = cluster
        self._busy_until_s = 0.0

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Answer at once, or after the recorded delay and those before it."""
        future: Future[Any] = Future()
        if method == "run":
            self._busy_until_s = max(perf_counter(), self._busy_until_s) + self._cluster.recording.delay_s
            self._cluster.answer_at(self._busy_until_s, future, answer(self._cluster.recording, arguments[0]))
        else:
            future.set_result(FACTS)
        return future

    def kill(self) -> None:
        """End: nothing is left to do."""


def _simulated(settings: Settings, recording: Recording, ray_ms: float, ray_workers: int) -> Iterator[list[Any]]:
    """Yield a row for each number of workers; Ray's part is what it took of the driver beside the schedule."""
    alone_ms = _schedule_ms(recording, ray_workers)
    for workers in QUICK_SIMULATED if settings.quick else SIMULATED:
        settings.progress(f"cohort, simulated: {workers} workers")
        schedule_ms = _schedule_ms(recording, workers)
        total_ms = schedule_ms + max(ray_ms - alone_ms, 0.0)
        # One core drives; where studies end faster than it can send the next ones, workers wait for it.
        estimate = min(1.0, recording.delay_s * 1e3 / workers / total_ms)
        yield [workers, recording.delay_s * 1e3, workers * SIMULATED_ROUNDS, schedule_ms, total_ms, estimate]


def _schedule_ms(recording: Recording, workers: int) -> float:
    cluster = PaperCluster(recording)
    try:
        schedule = Schedule(cluster, _request(recording), ScheduleLimits(workers, float("inf")), lambda line: None)
        measured = measure(schedule, workers, workers * SIMULATED_ROUNDS)
    finally:
        cluster.close()
    return (measured.driver_s - cluster.clock_s) / measured.studies * 1e3
