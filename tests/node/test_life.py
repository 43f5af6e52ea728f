"""A thread that gives no sign of life is noticed, and one that said how long it will be busy is left in peace."""

from __future__ import annotations

import pytest

from lnfast.node.monitor.life import IDLE_S, Life


def test_a_thread_is_overdue_once_it_gave_no_sign_for_long_enough() -> None:
    now = [100.0]
    life = Life("lnfast-worker", clock=lambda: now[0])
    now[0] += IDLE_S
    assert not life.overdue()
    now[0] += 0.1
    assert life.overdue()
    life.beat()
    assert not life.overdue()


def test_announced_work_may_take_its_time_and_no_longer() -> None:
    now = [100.0]
    life = Life("lnfast-worker", clock=lambda: now[0])
    with life.busy(300.0):
        now[0] += 299.0
        assert not life.overdue()
        now[0] += 2.0
        assert life.overdue()
    assert not life.overdue(), "it came back"
    with pytest.raises(RuntimeError), life.busy(300.0):
        raise RuntimeError
    now[0] += IDLE_S + 1.0
    assert life.overdue(), "what it was busy with is over"


def test_work_in_steps_says_before_each_how_long_it_may_take() -> None:
    now = [100.0]
    life = Life("lnfast-send-pacs", clock=lambda: now[0])
    for _ in range(3):
        life.allow(90.0)
        now[0] += 89.0
        assert not life.overdue()
    now[0] += 2.0
    assert life.overdue()
