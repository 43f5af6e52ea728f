"""What the schedule needs of a cluster. `lnfast.cluster.ray_cluster` is one of Ray; the tests have one of threads."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol


class LostWorkerError(Exception):
    """A worker is gone with all that it was doing.

    Attributes:
        reason: for people, without the names of machines.
        with_machine: its machine is gone, which says nothing against what it was doing.
    """

    def __init__(self, reason: str, *, with_machine: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.with_machine = with_machine


class WorkerHandle(Protocol):
    """A worker that was asked for; it starts once a machine has room for it."""

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of a `CohortWorker`; the future may raise `LostWorkerError`, and nothing else."""

    def kill(self) -> None:
        """End it at once."""


class Cluster(Protocol):
    """Machines with room for workers."""

    def start_worker(self) -> WorkerHandle:
        """Ask for a worker."""

    def room(self) -> int:
        """Return how many workers have room at present, were nothing else there."""
