"""A cluster of threads for tests of the schedule: no Ray, no engine, and workers that die when they are told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lnfast.cluster.messages import EngineIdentity, ErrorValue, Outcome, Task, WorkerFacts, WorkerRequest
from lnfast.cluster.protocol import LostWorkerError
from lnfast.measure import Rules
from lnfast.result import Parts
from lnfast.study import DicomChoice

IDENTITY = EngineIdentity("1.0", "none", "tiny 0", "openvino 1", "cpu", "fp32", "a" * 64, "")


class DiesError(Exception):
    """What a worker's method raises to die, with all that it runs."""

    def __init__(self, *, with_machine: bool = False) -> None:
        super().__init__()
        self.with_machine = with_machine


def request(**changes: Any) -> WorkerRequest:
    """What a worker is told; these workers look at nothing of it."""
    entries: dict[str, Any] = {
        **dict.fromkeys(("model", "backend", "device", "precision", "out", "token"), ""),
        "threads": 1,
        "rules": Rules(),
        "choice": DicomChoice(),
        "parts": Parts(),
        "resume": True,
        "study_key": b"",
    }
    return WorkerRequest(**{**entries, **changes})


def facts(identity: EngineIdentity = IDENTITY, **changes: Any) -> WorkerFacts:
    """A worker that has loaded."""
    return WorkerFacts(
        **{"identity": identity, "device_kind": "x", "description": "", "host": "h", "pid": 1, **changes}
    )


def done(task: Task) -> Outcome:
    """The outcome of a study without nodes."""
    return Outcome(task.index, {"study": f"s{task.index}", "status": "done", "n_stage": "N0"})


@dataclass
class ThreadCluster:
    """A `lnfast.cluster.protocol.Cluster`.

    Attributes:
        load: called with the number of the worker, from 0; returns what the worker answers.
        run: called with the number of the worker and the task.
        most: greatest number of studies that any worker had at once.
        started: how many workers were asked for.
        killed, closed: numbers of workers.
    """

    load: Callable[[int], WorkerFacts | ErrorValue] = lambda number: facts()
    run: Callable[[int, Task], Outcome] = lambda number, task: done(task)
    most: int = 0
    started: int = 0
    killed: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    def start_worker(self) -> ThreadWorker:
        self.started += 1
        return ThreadWorker(self, self.started - 1)

    def room(self) -> int:
        return 2


class ThreadWorker:
    """A `lnfast.cluster.protocol.WorkerHandle`."""

    def __init__(self, cluster: ThreadCluster, number: int) -> None:
        self._cluster, self._number = cluster, number
        self._pool = ThreadPoolExecutor(8)
        self._lock = threading.Lock()
        self._answers: set[Future[Any]] = set()
        self._running = 0

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            self._answers.add(answer)
        self._pool.submit(self._answer, answer, method, arguments)
        return answer

    def kill(self) -> None:
        self._cluster.killed.append(self._number)
        self._die(LostWorkerError("killed"))
        self._pool.shutdown(wait=False)

    def _die(self, error: LostWorkerError) -> None:
        with self._lock:
            answers, self._answers = self._answers, set()
        for answer in answers:
            answer.set_exception(error)

    def _answer(self, answer: Future[Any], method: str, arguments: tuple[Any, ...]) -> None:
        if method in ("close", "stop"):
            self._cluster.closed.append(self._number)
            return
        with self._lock:
            self._running += method == "run"
            self._cluster.most = max(self._cluster.most, self._running)
        try:
            value = (
                self._cluster.load(self._number) if method == "load" else self._cluster.run(self._number, *arguments)
            )
        except DiesError as error:
            time.sleep(0.02)  # the others that it runs are under way
            self._die(LostWorkerError("its process ended", with_machine=error.with_machine))
            return
        with self._lock:
            self._running -= method == "run"
            alive = answer in self._answers
            self._answers.discard(answer)
        if alive:
            answer.set_result(value)
