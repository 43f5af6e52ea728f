"""What the node shows of itself: the gauges of /metrics, and what makes /healthz 503."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lnfast._version import __version__
from lnfast.errors import LnfastError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.ledger import Counts, Ledger
from lnfast.node.monitor.health import Finding, Health
from lnfast.node.monitor.http import Page
from lnfast.node.monitor.metrics import CONTENT_TYPE, Metrics, Samples
from lnfast.node.monitor.supervisor import Supervisor
from lnfast.node.spool import Spool

LATE_S = 900.0  # the longest pause between two attempts to send
_GIB = 1 << 30
_SHARED_S = 0.5  # a page reads the ledger once


class EngineOfNode(Protocol):
    """What is looked at of the worker."""

    @property
    def engine_problem(self) -> LnfastError | None:
        """Why there is no engine; None while it is loaded and while it serves."""

    @property
    def engine_facts(self) -> Mapping[str, str] | None:
        """The labels of the metric ``engine_info``; None without an engine."""

    @property
    def running(self) -> bool:
        """Whether an exam is run now."""


@dataclass(frozen=True)
class Observed:
    """The parts of a node that are looked at."""

    config: NodeConfig
    spool: Spool
    ledger: Ledger
    worker: EngineOfNode
    supervisor: Supervisor
    metrics: Metrics


def make_health(node: Observed, counts: Callable[[], Counts]) -> Health:
    """Return the health of a node.

    Args:
        node: its parts.
        counts: of the ledger, as `shared_counts` gives them.
    """

    def engine() -> list[Finding]:
        problem = node.worker.engine_problem
        return [] if problem is None else [Finding(problem.code, problem.message)]

    def disk() -> list[Finding]:
        if node.spool.has_room():
            return []
        free, wanted = node.spool.free_bytes() / _GIB, node.spool.min_free_bytes / _GIB
        return [Finding("disk-full", f"{free:.1f} GiB are free, {wanted:.1f} are wanted; no instance is taken")]

    def ledger() -> list[Finding]:
        counts()
        return []

    checks = {"engine": engine, "threads": node.supervisor.findings, "disk": disk, "ledger": ledger}
    facts = {
        "engine": lambda: node.worker.engine_facts,
        "exams": lambda: counts().exams,
        "jobs": lambda: counts().jobs,
        "free_bytes": node.spool.free_bytes,
    }
    return Health(checks, {"waiting": lambda: _notices(node.config, counts())}, facts)


def _notices(config: NodeConfig, counts: Counts) -> list[Finding]:
    """What needs a person."""
    findings = [
        Finding("exam-dead", f"{number} exams are dead with the code {code}; lnfast node status lists them")
        for code, number in sorted(counts.dead.items())
    ]
    if counts.oldest_pending_at is not None and (waits_s := time.time() - counts.oldest_pending_at) > LATE_S:
        findings.append(Finding("outbox-late", f"a result has waited for {waits_s / 60:.0f} minutes to be sent"))
    if not config.enabled_targets:
        findings.append(Finding("no-target", "results are kept and sent nowhere: node.toml has no target"))
    return findings


def register_gauges(node: Observed, health: Health, counts: Callable[[], Counts]) -> None:
    """Have everything read that is no counter."""

    def engine() -> Samples:
        facts = node.worker.engine_facts
        return [] if facts is None else [(dict(facts), 1)]

    def jobs(state: str) -> Callable[[], Samples]:
        def read() -> Samples:
            numbers = counts().jobs
            names = {target.name for target in node.config.targets} | set(numbers)
            return [({"target": name}, numbers.get(name, {}).get(state, 0)) for name in sorted(names)]

        return read

    def oldest_s() -> Samples:
        since = counts().oldest_pending_at
        return 0.0 if since is None else max(0.0, time.time() - since)

    gauges: dict[str, Callable[[], Samples]] = {
        "build_info": lambda: [({"version": __version__}, 1)],
        "engine_info": engine,
        "healthy": lambda: float(health.healthy()),
        "thread_alive": node.supervisor.alive,
        "exams": lambda: [({"state": state}, number) for state, number in counts().exams.items()],
        "dead_exams": lambda: [({"code": code}, number) for code, number in counts().dead.items()],
        "running": lambda: float(node.worker.running),
        "outbox_jobs": jobs("pending"),
        "dead_jobs": jobs("dead"),
        "outbox_oldest_seconds": oldest_s,
        "spool_free_bytes": node.spool.free_bytes,
        "spool_reserve_bytes": lambda: node.spool.min_free_bytes,
    }
    for name, function in gauges.items():
        node.metrics.gauge(name, function)


def pages_of(health: Health, metrics: Metrics) -> dict[str, Callable[[], Page]]:
    """Return the pages of a node by their paths."""
    return {"/healthz": health.page, "/metrics": lambda: Page(200, CONTENT_TYPE, metrics.text())}


def shared_counts(ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> Callable[[], Counts]:
    """Return a function that reads the ledger's counts, at most twice a second."""
    lock = threading.Lock()
    last: list[Any] = [float("-inf"), None]

    def read() -> Counts:
        with lock:
            if clock() - last[0] > _SHARED_S:
                last[1] = ledger.counts()
                last[0] = clock()
            counts: Counts = last[1]
            return counts

    return read
