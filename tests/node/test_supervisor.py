"""Threads of the node: one that ends or hangs is named, with the line at which it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from lnfast.errors import BackendError
from lnfast.node.monitor.life import IDLE_S, Life
from lnfast.node.monitor.supervisor import Supervisor
from lnfast.node.upkeep import Upkeep


class Sleeper:
    """A part with one thread, which waits until it may end and gives no sign."""

    def __init__(self, clock: list[float]) -> None:
        self.ending = threading.Event()
        self.lives = (Life("lnfast-sleeper", clock=lambda: clock[0]),)
        self.threads = (threading.Thread(target=self.ending.wait, name="lnfast-sleeper", daemon=True),)
        self.threads[0].start()


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def sleeper(clock: list[float]) -> Iterator[Sleeper]:
    sleeper = Sleeper(clock)
    yield sleeper
    sleeper.ending.set()
    sleeper.threads[0].join()


@pytest.fixture
def supervisor(sleeper: Sleeper, clock: list[float]) -> Supervisor:
    supervisor = Supervisor(clock=lambda: clock[0])
    supervisor.watch([sleeper])
    return supervisor


def test_a_thread_that_ended_is_dead(supervisor: Supervisor, sleeper: Sleeper) -> None:
    assert supervisor.findings() == [] and supervisor.alive() == [({"thread": "lnfast-sleeper"}, 1.0)]
    sleeper.ending.set()
    sleeper.threads[0].join()
    assert supervisor.dead() == ["lnfast-sleeper"] and supervisor.stuck() == []
    (finding,) = supervisor.findings()
    assert finding.code == "thread-died" and "lnfast-sleeper" in finding.message
    assert supervisor.alive() == [({"thread": "lnfast-sleeper"}, 0.0)]


def test_a_thread_that_gives_no_sign_is_stuck_and_the_log_says_where(
    supervisor: Supervisor, sleeper: Sleeper, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert supervisor.stuck_for_s() == 0.0
    clock[0] += IDLE_S + 1
    assert supervisor.stuck_for_s() == 0.0 and [f.code for f in supervisor.findings()] == ["thread-stuck"]
    clock[0] += 7
    assert supervisor.stuck_for_s() == 7.0
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["thread_name"] == "lnfast-sleeper" and record.__dict__["at"] == "?"
    sleeper.lives[0].beat()
    assert supervisor.stuck_for_s() == 0.0 and supervisor.findings() == []


def test_the_line_at_which_a_thread_of_ours_hangs_is_found(caplog: pytest.LogCaptureFixture) -> None:
    release, clock = threading.Event(), [0.0]

    def work() -> int:
        release.wait()
        return 0

    upkeep, supervisor = Upkeep(work), Supervisor(clock=lambda: clock[0])
    upkeep._life = Life("lnfast-upkeep", clock=lambda: clock[0])
    upkeep.start()
    try:
        supervisor.watch([upkeep])
        deadline = time.monotonic() + 5
        while not supervisor.stuck() and time.monotonic() < deadline:
            clock[0] += 3600
            time.sleep(0.01)
        supervisor.stuck_for_s()
        assert caplog.records[-1].__dict__["at"].startswith("node/upkeep.py:")
    finally:
        release.set()
        upkeep.stop()
    assert not upkeep.threads[0].is_alive()


def test_upkeep_works_at_once_and_again_and_outlives_errors(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    twice = threading.Event()

    def work() -> int:
        calls.append(len(calls))
        if len(calls) == 1:
            raise BackendError("spool-failed", "no disk")
        if len(calls) == 3:
            twice.set()
        return len(calls)

    upkeep = Upkeep(work, every_s=0.01)
    with caplog.at_level(logging.INFO, "lnfast.node.upkeep"):
        upkeep.start()
        assert twice.wait(10)
        upkeep.stop()
    assert not upkeep.threads[0].is_alive()
    assert caplog.records[0].levelno == logging.ERROR and caplog.records[1].__dict__["amount"] == 2
