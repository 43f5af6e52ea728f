"""A slot: the place of one worker, and of those that come after it when it dies."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from lnfast.cluster.messages import Task, WorkerFacts
from lnfast.cluster.protocol import WorkerHandle

# A worker that dies so often before its engine is loaded will not do so the next time either.
START_DEATHS_AT_MOST = 5


@dataclass
class TaskRun:
    """A study that a worker is running.

    Attributes:
        task: the study.
        alone: nothing else runs in its worker, so that its death has one explanation.
        started_s: by `time.monotonic`.
    """

    task: Task
    alone: bool
    started_s: float = field(default_factory=monotonic)


@dataclass
class Slot:
    """The place of one worker.

    Attributes:
        number: from 0.
        worker: the present one; None once the slot was given up.
        generation: how many workers it has had; answers of earlier ones are ignored.
        facts: of its engine; None until it has loaded.
        runs: what it is running, by the task's index.
        start_deaths: how often in a row a worker died here before its engine was loaded.
        parked: its worker was refused. It stays, without an engine: its place would be given to the next one, which
            would be refused for the same reason.
    """

    number: int
    worker: WorkerHandle | None = None
    generation: int = 0
    facts: WorkerFacts | None = None
    runs: dict[int, TaskRun] = field(default_factory=dict)
    start_deaths: int = 0
    parked: bool = False

    @property
    def ready(self) -> bool:
        """Whether it can be given a study."""
        return self.facts is not None and not self.parked

    @property
    def live(self) -> bool:
        """Whether it is ready or may become so."""
        return self.worker is not None and not self.parked

    @property
    def alone(self) -> bool:
        """Whether it runs a study that must be alone."""
        return any(run.alone for run in self.runs.values())


@dataclass
class History:
    """What happened to a study before.

    Attributes:
        deaths: workers that died while they ran it.
        machines: machines that were lost with it.
        failures: errors of the system while it was written.
    """

    deaths: int = 0
    machines: int = 0
    failures: int = 0
