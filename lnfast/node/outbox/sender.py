"""Sends results to the targets: a thread for each, so that a target which hangs holds up no other.

A job is one association that proposes exactly what the result has. The files go out byte for byte as they lie in the
spool; an attempt that failed half-way is made again as a whole, and a target that has an instance already gets the same
UIDs with the same bytes. Only when every instance has its answer is the job ``sent`` in the ledger: a crash in between
sends the same bytes once more.

Jobs go out in the order of release. What is wrong with the target as such (it is down, it is full) makes all its jobs
wait; what is wrong with one object makes only this job wait, and the later ones of its exam. A node that starts tries
everything at once.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lnfast.errors import LnfastError
from lnfast.node.client.answers import LASTING, StoreAnswer
from lnfast.node.client.client import ClientAssociation, Route, Timeouts
from lnfast.node.config.address import Address
from lnfast.node.config.settings import NodeConfig, Target
from lnfast.node.ledger import Job, Ledger
from lnfast.node.monitor.life import Life
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.outbox.backoff import Backoff
from lnfast.node.outbox.delivery import result_files, result_offers, store_all
from lnfast.node.spool import Spool
from lnfast.node.transport.link import CancelledError
from lnfast.node.transport.tls import client_context

_POLL_S = 1.0  # another process can revive a job
_UNRECORDED_S = 60.0  # without a ledger there is no backoff, and the same job would be sent in a tight loop
_DRAIN_S = 30.0
_FAREWELL_S = 5.0
_CONNECT_S = 180.0  # a name server that does not answer takes a minute, and a host may have several addresses
_LASTING = LASTING | {"result-unreadable"}

_logger = logging.getLogger("lnfast.node.sender")


@dataclass(frozen=True)
class Settings:
    """What all targets have in common."""

    config: NodeConfig
    spool: Spool
    ledger: Ledger
    metrics: Metrics
    clock: Callable[[], float] = time.time
    backoff: Backoff = field(default_factory=Backoff)
    timeouts: Timeouts = field(default_factory=Timeouts)


class Sender:
    """The threads of all enabled targets."""

    def __init__(
        self,
        config: NodeConfig,
        spool: Spool,
        ledger: Ledger,
        metrics: Metrics,
        *,
        backoff: Backoff | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        settings = Settings(
            config, spool, ledger, metrics, backoff=backoff or Backoff(), timeouts=timeouts or Timeouts()
        )
        self._threads = tuple(TargetSender(target, settings) for target in config.enabled_targets)

    @property
    def lives(self) -> tuple[Life, ...]:
        """The signs of life of the threads."""
        return tuple(thread.life for thread in self._threads)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads, one for each target."""
        return self._threads

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for jobs now, and not within the next second: a result was released."""
        for thread in self._threads:
            thread.wake()

    def stop(self, drain_s: float = _DRAIN_S) -> None:
        """Let each thread finish the job it is at, and end those that need longer; their jobs stay pending.

        Args:
            drain_s: seconds that they get.
        """
        for thread in self._threads:
            thread.finish()
        end = time.monotonic() + drain_s
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, end - time.monotonic()))
        for thread in started:
            thread.cancel()
        for thread in started:
            thread.join(_FAREWELL_S)


class TargetSender(threading.Thread):
    """Sends the jobs of one target."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(name=f"lnfast-send-{target.name}", daemon=True)
        self.life = Life(self.name)
        self._target = target
        self._settings = settings
        self._peer = Address(target.aet, target.host, target.port)
        self._wake = threading.Event()
        self._finishing = False
        self._association: ClientAssociation | None = None
        self._reached = False  # the association of the last job was accepted
        self._failures = 0  # in succession, of the target as such
        self._held_until = 0.0  # monotonic; no job is tried before

    def wake(self) -> None:
        """Look for a job now."""
        self._wake.set()

    def finish(self) -> None:
        """End after the job that is being sent."""
        self._finishing = True
        self._wake.set()

    def cancel(self) -> None:
        """End the association that is open; its job stays pending."""
        self._finishing = True
        association = self._association
        if association is not None:
            association.cancel()

    def run(self) -> None:
        """Send until `finish`."""
        begun = False
        while not self._finishing:
            self.life.beat()
            try:
                if not begun:
                    self._settings.ledger.try_now(self._target.name)
                    begun = True
                self._wait(self._send_next())
            except CancelledError:
                return
            except Exception as error:  # the ledger cannot be read or written, or a fault of ours: it must go on
                _logger.error("cannot send", extra={"target": self._target.name}, exc_info=error)
                end = time.monotonic() + _UNRECORDED_S
                while not self._finishing and time.monotonic() < end:
                    self._wait(_POLL_S)

    def _wait(self, seconds: float) -> None:
        """Wait for some seconds, at most `_POLL_S`, or until `wake`."""
        self.life.beat()
        if seconds > 0:
            self._wake.wait(seconds)
        self._wake.clear()

    def _send_next(self) -> float:
        """Send the job that is due, if there is one; return the seconds after which to look again."""
        now, ledger, name = self._settings.clock(), self._settings.ledger, self._target.name
        due = ledger.next_due(name)
        if due is None:
            return _POLL_S
        if due > now + 2 * self._settings.backoff.most_s:
            now = due  # the clock of the system was set back: nothing waits that long
        job = ledger.next_job(name, now)
        if job is None:  # none is due; or one is that waits for an earlier one of its exam
            return min(_POLL_S, due - now) if due > now else _POLL_S
        held_s = self._held_until - time.monotonic()
        if held_s > 0 and not _is_revived(job):
            return min(_POLL_S, held_s)
        try:
            self._send(job)
        except CancelledError:
            raise
        except LnfastError as error:
            self._failed(job, error, of_target=not self._reached)
        except Exception as error:  # a fault of ours, which must not hold up the other jobs
            _logger.error("cannot send", extra={"exam": job.exam, "target": name}, exc_info=error)
            self._failed(job, LnfastError("internal", type(error).__name__), of_target=False)
        return 0.0

    def _send(self, job: Job) -> None:
        """Send a job and note its outcome.

        Raises:
            PeerError: the target is not reached, or has not answered everything.
            LnfastError: ``result-unreadable``, ``tls-unusable``, and those of the ledger.
            CancelledError: by `cancel`.
        """
        begun, timeouts = time.monotonic(), self._settings.timeouts
        self._reached = True  # until the target is asked, what fails is not its fault
        files = result_files(self._settings.spool.result_folder(job.exam, job.number), self._target.send)
        if not files:
            self._sent(job, None, 0.0)
            return
        self._reached = False
        route = Route(self._peer, self._settings.config.aet, self._tls(), timeouts)
        self._association = association = ClientAssociation(route, result_offers(files))
        try:
            if self._finishing:
                raise CancelledError
            self.life.allow(_CONNECT_S)
            with association:
                self._reached = True
                answer = store_all(association, files, self._settings.spool.new_part, self._allow_answer)
                if answer.problem is None:
                    self._sent(job, answer, time.monotonic() - begun)
                else:
                    self._failed(job, answer.problem, answer, of_target=answer.problem.code == "out-of-resources")
        finally:
            self._association = None
            self.life.beat()

    def _allow_answer(self) -> None:
        self.life.allow(self._settings.timeouts.network_s + self._settings.timeouts.dimse_s)

    def _tls(self) -> ssl.SSLContext | None:
        """Read anew for each association: certificates are renewed while the node runs."""
        tls = self._settings.config.tls
        return client_context(tls) if self._target.tls and tls is not None else None

    def _sent(self, job: Job, answer: StoreAnswer | None, seconds: float) -> None:
        name, metrics = self._target.name, self._settings.metrics
        status = _text(answer)
        self._settings.ledger.job_sent(job.id, status)
        self._failures = 0
        now = self._settings.clock()
        metrics.count("send_attempts_total", target=name, outcome="warning" if answer and answer.warning else "stored")
        metrics.count("results_sent_total", target=name)
        metrics.observe("send_seconds", seconds, target=name)
        exam = self._settings.ledger.exam(job.exam)
        if exam is not None:
            metrics.observe("last_instance_to_sent_seconds", max(0.0, now - exam.last_at), target=name)
        extra = {"exam": job.exam, "target": name, "result": job.number, "status": status, "seconds": seconds}
        _logger.info("the result is sent", extra=extra)

    def _failed(self, job: Job, error: LnfastError, answer: StoreAnswer | None = None, *, of_target: bool) -> None:
        name, ledger, backoff = self._target.name, self._settings.ledger, self._settings.backoff
        now, attempts = self._settings.clock(), job.attempts + 1
        status = _text(answer)
        self._settings.metrics.count("send_attempts_total", target=name, outcome=error.code)
        extra = {"exam": job.exam, "target": name, "result": job.number, "code": error.code, "attempt": attempts}
        if error.code in _LASTING or backoff.is_over(now - job.first_at, attempts):
            ledger.job_dead(job.id, error.code, status)
            self._settings.metrics.count("results_dead_total", target=name, code=error.code)
            _logger.error("the result is not sent, and will not be tried again", extra=extra | {"status": status})
            return
        delay = backoff.delay_s(attempts)
        if of_target:
            self._failures += 1
            delay = backoff.delay_s(self._failures)
            self._held_until = time.monotonic() + delay
        else:
            self._failures = 0
        ledger.job_failed(job.id, error.code, now + delay, status)
        _logger.warning("the result is not sent yet", extra=extra | {"status": status, "seconds": delay})


def _is_revived(job: Job) -> bool:
    """Whether a person wants a job tried again, and now: it failed, and its attempts are counted anew."""
    return job.attempts == 0 and job.code is not None


def _text(answer: StoreAnswer | None) -> str | None:
    return None if answer is None else f"0x{answer.status:04X}"
