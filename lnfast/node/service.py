"""The node: it puts the parts together, starts them, watches them, and ends them in good order.

    start   spool and its lock -> what a crash left -> pages -> worker, which loads the engine -> senders -> receiver
    run     once a second: do all threads live? then systemd's watchdog is put off
    drain   no new association; the exam that is run and the objects that are being sent end

Instances are received from the first moment on, while the engine is still being loaded, and also where it cannot be.
A part that ended or hangs ends the node, for the service manager to start it anew: it never only looks alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from lnfast._version import __version__
from lnfast.errors import LnfastError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.exams.worker import Worker
from lnfast.node.monitor.http import PageServer
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.monitor.supervisor import Part, Supervisor
from lnfast.node.monitor.systemd import Systemd
from lnfast.node.observation import Observed, make_health, pages_of, register_gauges, shared_counts
from lnfast.node.outbox.sender import Sender
from lnfast.node.receiver.receiver import Receiver
from lnfast.node.spool import Spool
from lnfast.node.spool.recovery import Recovered, open_and_recover
from lnfast.node.spool.retention import expired, purge
from lnfast.node.upkeep import Upkeep
from lnfast.node.watch import WatchFolder

DRAIN_S = 35.0  # an exam that is run has 30
STUCK_S = 30.0  # after a thread was found to hang; about when systemd loses its patience
_STUCK_DRAIN_S = 5.0  # for the others, where one hangs
_MOST_RECOVERY_S = 600.0  # a spool of thousands of exams on a slow disk, after a power cut
_LOOP_S = 1.0
_STATUS_EVERY_S = 10.0

_logger = logging.getLogger("lnfast.node")


class RunningPart(Part, Protocol):
    """A part of the node that is started and stopped."""

    def start(self) -> None:
        """Start its threads."""

    def stop(self) -> None:
        """End them in good order."""


class Service:
    """One life of a node.

    Args:
        config: of the node.
        systemd: is told how it stands.
    """

    def __init__(self, config: NodeConfig, systemd: Systemd) -> None:
        self._config, self._systemd = config, systemd
        self._metrics = Metrics()
        self._supervisor = Supervisor()
        self._started: list[RunningPart] = []
        self._told_at = self._alive_at = float("-inf")
        self._drain_s = DRAIN_S

    def run(self, wait: Callable[[float], bool]) -> int:
        """Start, run and drain.

        Args:
            wait: waits for some seconds, or for less if the node is to end, and returns whether it is.

        Returns:
            The exit code: 0, or 1 where a part of the node failed.

        Raises:
            LnfastError: it could not be started: ``node-running``, ``port-unavailable``, or what the spool says.
        """
        self._spool = Spool(self._config.spool, min_free_bytes=self._config.receive.min_free_bytes)
        with self._spool.lock():
            self._systemd.extend(_MOST_RECOVERY_S)
            self._ledger, recovered = open_and_recover(self._spool, [target.name for target in self._config.targets])
            try:
                _log(recovered)
                self._build()
                try:
                    self._start()
                    return self._watch(wait)
                finally:
                    self._drain()
            finally:
                if not self.has_threads():
                    self._ledger.close()

    def has_threads(self) -> bool:
        """Return whether a thread did not end in the time that it had."""
        return any(thread.is_alive() for part in self._started for thread in part.threads)

    def _build(self) -> None:
        config, spool, ledger, metrics = self._config, self._spool, self._ledger, self._metrics
        arrivals = Arrivals(config.receive, spool=spool, ledger=ledger)
        sender = Sender(config, spool, ledger, metrics)
        self._worker = Worker(config, spool, ledger, arrivals, metrics)
        self._worker.on_release = sender.wake
        self._receiver = Receiver(config, spool, arrivals, metrics)
        counts = shared_counts(ledger)
        observed = Observed(config, spool, ledger, self._worker, self._supervisor, metrics)
        self._health = make_health(observed, counts)
        register_gauges(observed, self._health, counts)
        pages = PageServer(config.health_bind, config.health_port, pages_of(self._health, metrics))
        # In the order in which they start: what is received finds everything else at work, and whoever asks an answer.
        self._parts: list[RunningPart] = [
            *([pages] if config.health_port else []),
            self._worker,
            sender,
            Upkeep(self._purge),
            *([WatchFolder(config, spool, ledger, arrivals, metrics)] if config.watch is not None else []),
            self._receiver,
        ]

    def _start(self) -> None:
        for part in self._parts:
            part.start()
            self._started.append(part)
        self._supervisor.watch(self._started)
        address = f"{self._config.bind} port {self._receiver.port}"
        _logger.info("lnfast %s receives on %s as %s", __version__, address, self._config.aet)
        self._systemd.ready(f"receives on {address}; the engine is being loaded")

    def _watch(self, wait: Callable[[float], bool]) -> int:
        """Run until the node is to end, or has to; return the exit code."""
        while not wait(_LOOP_S):
            if self._health.phase == "starting" and self._worker.engine_is_settled:
                self._health.phase = "running"
            for name in self._supervisor.dead():
                _logger.critical("a thread has ended by a fault", extra={"code": "thread-died", "thread_name": name})
                return LnfastError.exit_code
            stuck_s = self._supervisor.stuck_for_s()
            if stuck_s > STUCK_S:
                _logger.critical("a thread hangs; the node ends", extra={"code": "thread-stuck"})
                self._drain_s = _STUCK_DRAIN_S
                return LnfastError.exit_code
            if not stuck_s:
                self._tell_systemd()
        return 0

    def _tell_systemd(self) -> None:
        now = time.monotonic()
        watchdog_s = self._systemd.watchdog_s
        if watchdog_s is not None and now - self._alive_at > watchdog_s / 4:
            self._alive_at = now
            self._systemd.alive()
        if now - self._told_at > _STATUS_EVERY_S:
            self._told_at = now
            page = self._health.page()
            self._systemd.status("well" if page.status == 200 else ", ".join(f.code for f in self._health.reasons()))

    def _drain(self) -> None:
        """Stop all parts at the same time, each in its own, and go without what takes too long; the pages come last."""
        self._health.phase = "stopping"
        self._systemd.stopping("drains")
        _logger.info("drains: nothing new is received, what is at work ends")
        stops = [
            threading.Thread(target=part.stop, name=f"lnfast-stop-{type(part).__name__.lower()}", daemon=True)
            for part in reversed(self._started)
            if not isinstance(part, PageServer)
        ]
        for stop in stops:
            stop.start()
        deadline = time.monotonic() + self._drain_s
        for stop in stops:
            stop.join(max(0.0, deadline - time.monotonic()))
        for part in self._started:
            if isinstance(part, PageServer):
                part.stop()
        if not self.has_threads():
            _logger.info("the node has ended")
        else:
            _logger.warning("not everything ended in %g s; the next start takes it up", self._drain_s)

    def _purge(self) -> int:
        return purge(self._spool, self._ledger, expired(self._ledger, self._config.keep, time.time()))


def _log(recovered: Recovered) -> None:
    """Say what a start found that a good end does not leave."""
    if recovered.lost is not None:
        _logger.error("the ledger is a new one; exams and results were taken in again", extra={"code": recovered.lost})
    if recovered.key_lost:
        _logger.error(
            "the key of exam ids is a new one; exams that come again get other ids", extra={"code": "key-lost"}
        )
    for exam in recovered.interrupted:
        _logger.warning("a run was interrupted", extra={"exam": exam})
    for what, amount in (
        ("instances were half-received", recovered.parts),
        ("exams were taken in", len(recovered.adopted)),
        ("results were taken in", recovered.results),
        ("results lost their target and are dead", recovered.dead_jobs),
    ):
        if amount:
            _logger.warning(what, extra={"amount": amount})
