"""Which worker runs which study, and what happens when one dies.

Each worker has a few studies at a time, no more: the driver keeps the state of those and not of the cohort. A worker
that dies takes all of them with it, and any may be the cause. Each is then run again, alone in a worker, so that a
second death has one explanation; that study is set aside as ``worker-died``, and the others go on. The loss of a
machine says nothing against a study, but one that has lost several is set aside as well.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from lnfast.cluster.election import Election
from lnfast.cluster.messages import ErrorValue, Outcome, Task, WorkerFacts, WorkerRequest
from lnfast.cluster.protocol import Cluster, LostWorkerError
from lnfast.cluster.slots import START_DEATHS_AT_MOST, History, Slot, TaskRun
from lnfast.cluster.worker import refused
from lnfast.errors import BackendError

# One is read and another written while the network works on a third.
STUDIES_PER_WORKER = 3
DEATHS_AT_MOST, MACHINES_AT_MOST, FAILURES_AT_MOST = 2, 4, 3
_TICK_S, _WAITING_LINE_S = 1.0, 60.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class ScheduleLimits:
    """How many workers, and how long they may take.

    Attributes:
        workers: to ask for.
        study_s: a study that takes longer hangs, and its worker is ended; infinite for never.
    """

    workers: int
    study_s: float


@dataclass(frozen=True)
class _Event:
    slot: Slot
    generation: int
    task: Task | None  # None of a worker's start
    future: Future[Any]


class Schedule:
    """Runs the studies of a cohort.

    Args:
        cluster: where workers run.
        request: what each worker is told.
        limits: of this run.
        log: gets lines for people.
    """

    def __init__(
        self, cluster: Cluster, request: WorkerRequest, limits: ScheduleLimits, log: Callable[[str], None]
    ) -> None:
        self._cluster, self._request, self._limits, self._log = cluster, request, limits, log
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._slots = [Slot(number) for number in range(limits.workers)]
        self._election = Election()
        self._fresh: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._histories: dict[int, History] = {}
        self._refusals: list[ErrorValue] = []
        self._said: set[str] = set()
        self._last_loss = ""
        self._waiting_since = monotonic()

    @property
    def ready(self) -> int:
        """How many workers are at work."""
        return sum(slot.ready for slot in self._slots)

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Run studies; yield what became of each, once, in the order in which they end.

        Raises:
            LnfastError: no worker could be started, as the first that was refused says.
            OSError: the disk of the output is full.
        """
        self._fresh.extend(tasks)
        for slot in self._slots:
            self._start(slot)
        ticked = monotonic()
        while self._fresh or self._suspects or any(slot.runs for slot in self._slots):
            if not any(slot.live for slot in self._slots):
                raise self._no_worker()
            try:
                event = self._events.get(timeout=_TICK_S)
            except Empty:
                self._dispatch(self._slots)
            else:
                yield from self._handled(event)
                # Of a thousand workers only the one that has answered needs a study, unless some must be alone.
                self._dispatch(self._slots if self._suspects else [event.slot])
            self._admit()
            if monotonic() - ticked >= _TICK_S:
                ticked = monotonic()
                self._say_that_workers_wait()
                yield from self._ended_overdue()

    def stop(self, within_s: float) -> None:
        """End all workers; what is being written is first brought to its end, as far as the time allows."""
        for slot in self._slots:
            if slot.ready and slot.worker is not None and slot.runs:
                slot.worker.call("stop")
        until = monotonic() + within_s
        while any(slot.runs for slot in self._slots) and (left := until - monotonic()) > 0:
            try:
                event = self._events.get(timeout=left)
            except Empty:
                break
            if event.task is not None and event.generation == event.slot.generation:
                event.slot.runs.pop(event.task.index, None)
        for slot in self._slots:
            self._end(slot)

    # --- workers ----------------------------------------------------------------------------------------------------

    def _start(self, slot: Slot) -> None:
        slot.generation += 1
        slot.facts = None
        slot.worker = self._cluster.start_worker()
        self._watch(slot, None, slot.worker.call("load", self._request))

    def _watch(self, slot: Slot, task: Task | None, future: Future[Any]) -> None:
        generation = slot.generation
        future.add_done_callback(lambda done: self._events.put(_Event(slot, generation, task, done)))

    def _end(self, slot: Slot) -> None:
        """End the worker of a slot, and the slot."""
        slot.generation += 1
        slot.facts = None
        self._election.leave(slot.number)
        slot.runs.clear()
        if slot.worker is not None:
            slot.worker.kill()
            slot.worker = None

    def _started(self, slot: Slot, answer: WorkerFacts | ErrorValue) -> None:
        if isinstance(answer, ErrorValue):
            self._refuse(slot, answer)
            return
        self._election.enter(slot.number, answer)

    def _admit(self) -> None:
        """Let workers have studies once it is decided which engine they must have."""
        undecided = self._election.reference is None
        for number, facts in self._election.decided(sum(slot.live for slot in self._slots)).items():
            if undecided and self._election.reference is not None:
                undecided = False
                self._log(self._election.reference.description)
            slot, refusal = self._slots[number], self._election.refusal(facts)
            if refusal is not None:
                self._refuse(slot, refusal)
                continue
            if remark := self._election.remark(facts):
                self._say_once(remark)
            slot.facts, slot.start_deaths = facts, 0
            self._dispatch([slot])

    def _refuse(self, slot: Slot, refusal: ErrorValue) -> None:
        slot.parked = True
        if slot.worker is not None:
            slot.worker.call("close")
        self._refusals.append(refusal)
        self._say_once(f"a worker is refused: {refusal.code}: {refusal.message}")

    def _no_worker(self) -> Exception:
        if self._refusals:
            return self._refusals[0].exception()
        message = (
            f"workers died {START_DEATHS_AT_MOST} times in a row before their engine was loaded: {self._last_loss}"
        )
        return BackendError("no-worker", message)

    # --- studies ----------------------------------------------------------------------------------------------------

    def _dispatch(self, slots: list[Slot]) -> None:
        """Give studies to workers: first those that must be alone, each to a worker that has nothing else to do."""
        ready = [slot for slot in slots if slot.ready and not slot.alone]
        if self._suspects:
            ready.sort(key=lambda slot: len(slot.runs))
            reserved, ready = ready[: len(self._suspects)], ready[len(self._suspects) :]
            for slot in reserved:  # a busy one gets nothing until it is idle
                if not slot.runs:
                    self._send(slot, self._suspects.popleft(), alone=True)
        share = self._share() if ready and self._fresh else 0
        for slot in ready:
            while self._fresh and len(slot.runs) < share:
                self._send(slot, self._fresh.popleft(), alone=False)

    def _share(self) -> int:
        """How many studies a worker may have: near the end fewer, so that none waits while another worker is idle."""
        live = sum(slot.live for slot in self._slots)
        return max(1, min(STUDIES_PER_WORKER, -(-len(self._fresh) // live)))

    def _send(self, slot: Slot, task: Task, *, alone: bool) -> None:
        assert slot.worker is not None
        slot.runs[task.index] = TaskRun(task, alone)
        self._watch(slot, task, slot.worker.call("run", task))

    def _handled(self, event: _Event) -> Iterator[Outcome]:
        slot = event.slot
        if event.generation != slot.generation:
            return  # of a worker that was ended
        error = event.future.exception()
        if isinstance(error, LostWorkerError):
            yield from self._lost(slot, error)
        elif error is not None:
            raise error
        elif event.task is None:
            self._started(slot, event.future.result())
        else:
            slot.runs.pop(event.task.index)
            yield from self._answered(slot, event.task, event.future.result())

    def _answered(self, slot: Slot, task: Task, outcome: Outcome) -> Iterator[Outcome]:
        refusal = outcome.refusal
        history = self._histories.get(task.index) or History()
        if refusal is not None and refusal.errno in _NO_SPACE:
            raise refusal.exception()
        if refusal is not None and refusal.code == "os-error" and history.failures + 1 < FAILURES_AT_MOST:
            history.failures += 1
        elif refusal is not None and refusal.code == "inference-failed" and history.deaths == 0:
            # The runtime, and not the study, may be what is broken: a new worker decides.
            history.deaths += 1
            yield from self._lost(slot, LostWorkerError("another study failed in it", with_machine=True))
        elif refusal is not None and refusal.code == "not-found" and os.path.exists(task.path):
            history.machines += 1
            message = f"a worker on {slot.facts.host if slot.facts else 'a machine'} does not see {task.path}"
            self._refuse(slot, ErrorValue("BackendError", "input-not-shared", f"{message}; mount it there"))
            yield from self._requeued(slot)
        else:
            self._histories.pop(task.index, None)
            yield outcome
            return
        self._histories[task.index] = history
        self._suspects.append(task)

    def _lost(self, slot: Slot, error: LostWorkerError) -> Iterator[Outcome]:
        """Start another worker, and run again what this one had, each study alone."""
        loading = slot.facts is None
        self._last_loss = error.reason
        runs = list(slot.runs.values())
        self._end(slot)
        slot.start_deaths += loading
        if slot.start_deaths < START_DEATHS_AT_MOST:
            self._start(slot)
        else:
            self._say_once(f"a worker is given up: it died {START_DEATHS_AT_MOST} times before its engine was loaded")
        for run in runs:
            yield from self._again(run, error)

    def _requeued(self, slot: Slot) -> Iterator[Outcome]:
        """Run elsewhere what a refused worker still has."""
        runs = list(slot.runs.values())
        slot.runs.clear()
        slot.generation += 1
        for run in runs:
            yield from self._again(run, LostWorkerError("its machine was refused", with_machine=True))

    def _again(self, run: TaskRun, error: LostWorkerError) -> Iterator[Outcome]:
        task = run.task
        history = self._histories.setdefault(task.index, History())
        history.machines += error.with_machine
        history.deaths += not error.with_machine
        if history.deaths >= DEATHS_AT_MOST and run.alone:
            message = f"{history.deaths} workers ended while they ran it, the last one alone with it: {error.reason}"
        elif history.machines >= MACHINES_AT_MOST:
            message = f"its machine, or the connection to its worker, was lost {history.machines} times"
        else:
            self._suspects.append(task)
            return
        self._histories.pop(task.index)
        yield refused(task, ErrorValue("LnfastError", "worker-died", message))

    def _ended_overdue(self) -> Iterator[Outcome]:
        """End workers with a study that takes too long."""
        before = monotonic() - self._limits.study_s
        for slot in self._slots:
            if any(run.started_s < before for run in slot.runs.values()):
                minutes = self._limits.study_s / 60
                yield from self._lost(slot, LostWorkerError(f"it was not done within {minutes:g} minutes"))

    # --- lines ------------------------------------------------------------------------------------------------------

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._log(line)

    def _say_that_workers_wait(self) -> None:
        """Say now and then that no worker has found room, and once that some have not."""
        starting = sum(slot.live and not slot.ready for slot in self._slots)
        if not starting or monotonic() - self._waiting_since < _WAITING_LINE_S:
            return
        if starting == sum(slot.live for slot in self._slots):
            self._waiting_since = monotonic()
            self._log("no worker is running: waiting for a machine with room for one")
        else:
            self._say_once(f"{starting} workers wait for a machine with room for them; the others are at work")
