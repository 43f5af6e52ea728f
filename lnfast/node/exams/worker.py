"""The worker: the one thread that has the engine, and does with exams what is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from lnfast.engine import Engine
from lnfast.errors import BackendError, LnfastError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.exams.decisions import Decisions
from lnfast.node.exams.drift import DriftWatch
from lnfast.node.exams.runs import Runs, engine_facts, load_engine, load_writers
from lnfast.node.ledger import Ledger, StoredResult
from lnfast.node.monitor.life import ThreadedPart
from lnfast.node.monitor.logs import place
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.spool import Spool

THREAD = "lnfast-worker"
_WAIT_S = 1.0
_PAUSE_S = 5.0  # after the disk refused something
_MOST_RUN_S = 900.0
_MOST_LOAD_S = 600.0
_IDLE_S = 15.0  # an engine in FP32 is loaded and runs an exam in that time: no other exam waits for it
_DRAIN_S = 30.0

_logger = logging.getLogger("lnfast.node.worker")


class Worker(ThreadedPart):
    """Loads the engine and runs exams, in a thread.

    Args:
        config, spool, ledger, arrivals, metrics: of the node.
        load: of the engine: `lnfast.node.exams.runs.load_engine`.

    Attributes:
        engine_problem: why nothing is run; None while the engine is being loaded and while it serves.
        on_release: called after each release: there is something to send.
    """

    def __init__(
        self,
        config: NodeConfig,
        spool: Spool,
        ledger: Ledger,
        arrivals: Arrivals,
        metrics: Metrics,
        *,
        load: Callable[..., Engine] = load_engine,
    ) -> None:
        super().__init__(THREAD, self._serve)
        self.engine_problem: LnfastError | None = None
        self.on_release: Callable[[], object] = lambda: None
        self._config, self._spool, self._ledger = config, spool, ledger
        self._arrivals, self._metrics = arrivals, metrics
        self._load = load
        self._engine: Engine | None = None
        self._runs: Runs | None = None
        self._drift = DriftWatch(config.drift.every, spool, ledger, metrics)
        self._stopping = threading.Event()

    @property
    def running(self) -> bool:
        """Whether an exam is run now."""
        return self._runs is not None and self._runs.running

    @property
    def engine_is_settled(self) -> bool:
        """Whether the engine was loaded, or refused."""
        return self._engine is not None or self.engine_problem is not None

    @property
    def engine_facts(self) -> Mapping[str, str] | None:
        """What serves, in words; None without an engine."""
        engine = self._engine
        return None if engine is None else engine_facts(engine)

    def stop(self, drain_s: float = _DRAIN_S) -> None:
        """Let what is at work end.

        Args:
            drain_s: seconds that it gets; a run that takes longer is run again after the next start.
        """
        self._stopping.set()
        self._arrivals.wake()
        self._join(drain_s)

    def _serve(self) -> None:
        try:
            with self._life.busy(_MOST_LOAD_S):
                load_writers()
                engine = self._load(self._config.model)
        except LnfastError as error:
            self._refuse_service(error)
        except Exception as error:
            message = f"the engine cannot be loaded: {type(error).__name__} at {place(error)}"
            self._refuse_service(LnfastError("internal", message))
        else:
            with engine:
                self._engine = engine
                try:
                    self._work(engine)
                finally:
                    self._engine = None

    def _refuse_service(self, problem: LnfastError) -> None:
        """Run nothing. What arrives is kept, and run once a person has mended the engine and restarted the node."""
        self.engine_problem = problem
        message = "no engine serves: %s; exams are received and kept, and none is run"
        _logger.error(message, problem.message, extra={"code": problem.code})
        with suppress(LnfastError):
            self._ledger.note("engine-refused", code=problem.code)
        while not self._stopping.wait(_WAIT_S):
            self._life.beat()

    def _work(self, engine: Engine) -> None:
        self._runs = runs = Runs(engine, self._config, self._spool, self._ledger, self._metrics)
        targets = [target.name for target in self._config.enabled_targets]
        decisions = Decisions(runs, self._arrivals, self._ledger, self._metrics, targets, self._released)
        is_first = True
        while not self._stopping.is_set():
            self._life.beat()
            try:
                if self._ledger.changed_outside() or is_first:
                    decisions.take_up()
                    is_first = False
                due = self._arrivals.due()
                if due:
                    with self._life.busy(_MOST_RUN_S):
                        decisions.do(due[0])
                elif self._drift.pending is not None and self._arrivals.next_due() > _IDLE_S:
                    self._check_drift(decisions, self._drift.pending)
                else:
                    self._arrivals.wait(_WAIT_S)
            except BackendError as error:  # of the disk
                _logger.error("%s; nothing is run for some seconds", error.message, extra={"code": error.code})
                self._stopping.wait(_PAUSE_S)

    def _released(self, result: StoredResult) -> None:
        self._drift.released(result)
        self.on_release()

    def _check_drift(self, decisions: Decisions, result: StoredResult) -> None:
        """Run the exam that waits for it in FP32; whatever goes wrong is said, and changes nothing."""
        try:
            choice = decisions.runs.choice(decisions.row(result.exam))
            with self._life.busy(_MOST_LOAD_S):
                self._drift.check(lambda: self._load(self._config.model, "fp32"), choice)
        except Exception as error:
            code = error.code if isinstance(error, LnfastError) else "internal"
            extra = {"exam": result.exam, "code": code, "at": place(error)}
            _logger.warning("an exam could not be run again in FP32: %s", type(error).__name__, extra=extra)
        finally:
            self._drift.pending = None
