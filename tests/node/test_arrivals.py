"""When an exam may be run and its result be released: every way in which a part of an exam could pass for all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from receptions import RECEIVE, Room, X, Y

from lnfast.errors import BackendError
from lnfast.node.exams import reception as module
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    spool = Spool(tmp_path / "spool")
    with Ledger(spool.ledger_path) as ledger:
        yield Room(spool, ledger)


# ---------------------------------------------------------------------------------------------------------- plain ways


def test_a_released_exam_is_read_soon_and_released_after_the_quiet_time(room: Room) -> None:
    room.send(range(20))
    assert room.due() is None
    room.after(0.6)
    assert room.step() == "read"
    room.arrivals.was_read(room.due(), "result")  # type: ignore[arg-type]
    assert room.due() is None
    room.after(9.0)
    assert room.due() is None
    room.after(0.5)
    assert room.step() == "release"


def test_nothing_is_due_without_arrivals_and_waiting_ends_when_something_comes(room: Room) -> None:
    assert room.arrivals.due() == [] and room.arrivals.next_due() == float("inf")
    room.send(range(3))
    assert 0 < room.arrivals.next_due() <= 0.5
    room.after(0.6)
    assert room.arrivals.next_due() == 0
    room.arrivals.wait(60)  # at once, since something is due


def test_what_is_released_is_noted_before_anything_else_can_arrive(room: Room) -> None:
    room.send(range(20))
    assert room.is_released()
    due = room.due()
    assert due is not None
    room.send(range(20, 22))
    assert not room.arrivals.conclude(due, lambda: pytest.fail("released although more came"))
    assert room.is_released()
    done: list[int] = []
    assert room.arrivals.conclude(room.due(), lambda: done.append(1))  # type: ignore[arg-type]
    assert done == [1] and room.arrivals.due() == [] and not room.arrivals.knows(X)


def test_an_exam_that_is_refused_waits_for_more_and_is_given_up(room: Room) -> None:
    room.send(range(4))
    room.read(reading="incomplete", refusal=("too-few-slices", "got 4"))
    room.after(899)
    assert room.due() is None
    room.after(1)
    due = room.due()
    assert due is not None and (due.step, due.refusal[0], due.flaw) == ("give-up", "too-few-slices", "")


def test_what_more_images_do_not_heal_is_given_up_after_the_quiet_time(room: Room) -> None:
    room.send(range(20))
    room.read(reading="unusable", refusal=("lossy", "compressed"))
    room.after(9)
    assert room.due() is None
    room.after(1)
    assert room.step() == "give-up"


def test_a_decision_comes_before_a_reading(room: Room) -> None:
    room.send(range(20), exam=X)
    room.read(X)
    room.after(9)
    room.send(range(20), exam=Y)
    room.after(1)
    assert [(due.exam, due.step) for due in room.arrivals.due()] == [(X, "release"), (Y, "read")]


def test_eager_releases_after_two_seconds_what_other_images_confirm(room: Room) -> None:
    room.receive = replace(RECEIVE, eager=True)
    room.restart()
    room.send(range(20), exam=X)
    room.send(range(20), exam=Y)
    room.after(1.0)
    for exam, confirmed in ((X, True), (Y, False)):
        due = room.due(exam)
        assert due is not None
        room.arrivals.was_read(due, "result", confirmed=confirmed)
    assert room.arrivals.due() == []
    room.after(1.1)
    assert room.step(X) == "release" and room.step(Y) is None


def test_a_sender_that_is_slow_does_not_have_the_exam_read_after_each_image(room: Room) -> None:
    reads = 0
    for name in range(60):
        room.send([name])
        for _ in range(20):
            room.after(0.1)
            due = room.due()
            if due is not None and due.step == "read":
                room.arrivals.was_read(due, "result")
                reads += 1
    assert 1 < reads < 8


# ------------------------------------------------------------------------------------------ a part is never all of it


@pytest.mark.parametrize("how", ["aborted", "lost", "idle"])
def test_an_association_that_ends_without_a_release_holds_its_exam_for_ever(room: Room, how: str) -> None:
    room.send(range(20), how=how)
    assert not room.is_released()
    assert room.flaw() == "transfer-aborted"


def test_another_series_of_the_exam_does_not_heal_one_that_broke_off(room: Room) -> None:
    room.send(range(20), how="aborted")
    room.send(["localizer-1", "localizer-2"])
    assert not room.is_released()
    room.send(range(20, 28))  # the rest, perhaps, and perhaps only a part of it
    assert not room.is_released() and room.flaw() == "transfer-aborted"


def test_sending_everything_again_heals_what_broke_off(room: Room) -> None:
    room.send(range(20), how="lost")
    assert not room.is_released()
    room.send(range(28), outcome="same")
    assert room.is_released()


def test_sending_again_heals_only_when_that_ends_with_a_release(room: Room) -> None:
    room.send(range(20), how="lost")
    room.send(range(25), how="lost")
    room.send(range(20))
    assert not room.is_released()
    room.send(range(28))
    assert room.is_released()


def test_parallel_associations_of_one_exam_do_not_heal_each_other(room: Room) -> None:
    first, second, third = room.open(), room.open(), room.open()
    for start, key in ((0, first), (7, second), (14, third)):
        room.give(key, range(start, start + 7))
    fourth = room.open()
    room.give(fourth, range(21, 24))
    room.close(fourth, "lost")  # three of its seven
    for key in (first, second, third):
        room.close(key)
    assert not room.is_released()
    room.send(range(21, 28))  # the sender tries the fourth part again
    assert room.is_released()


def test_an_exam_waits_for_every_association_that_gives_to_it(room: Room) -> None:
    first, second = room.open(), room.open()
    room.give(first, range(14))
    room.give(second, range(14, 20))
    room.close(first)
    room.read()
    room.after(100)
    assert room.due() is None
    room.give(second, range(20, 28))
    room.close(second)
    assert room.is_released()


def test_an_exam_waits_for_an_association_of_its_sender_that_has_said_nothing_yet(room: Room) -> None:
    first, second = room.open(), room.open()
    stranger = room.open("MR2@10.0.0.6")
    room.give(first, range(14))
    room.close(first)
    room.read()
    room.after(60)
    assert room.due() is None
    room.give(second, range(14, 28))
    room.close(second)
    assert room.is_released()
    room.close(stranger, "lost")
    assert room.step() == "release"


def test_an_exam_waits_for_a_next_association_that_began_in_the_quiet_time(room: Room) -> None:
    room.send(range(14))
    room.after(9)
    following = room.open()
    room.read()
    room.after(60)
    assert room.due() is None
    room.give(following, range(14, 28))
    room.close(following)
    assert room.is_released()


def test_an_association_that_is_kept_in_reserve_holds_nothing_for_ever(room: Room) -> None:
    """The receiver ends what is idle, and such a sender opens the next one at once."""
    reserve = room.open()
    room.send(range(28))
    room.read()
    room.after(300)
    assert room.due() is None
    room.close(reserve, "idle")
    room.open()
    assert room.step() == "release"


def test_one_association_for_each_instance(room: Room) -> None:
    for name in range(28):
        room.send([name])
        room.after(0.3)
    assert room.is_released()


@pytest.mark.parametrize("how", ["aborted", "lost"])
def test_with_one_association_for_each_instance_one_that_broke_off_is_missed(room: Room, how: str) -> None:
    for name in range(27, 0, -1):
        room.send([name])
    room.send([], how=how)  # the last one never came
    room.send([99])  # of another series
    assert not room.is_released()
    assert room.flaw() == "transfer-aborted"


def test_what_never_came_heals_when_all_is_sent_again(room: Room) -> None:
    for name in range(27):
        room.send([name])
    room.send([], how="lost")
    for name in range(28):
        room.send([name], outcome="same" if name < 27 else "new")
    assert room.is_released()


def test_an_association_without_instances_that_another_sender_breaks_off_changes_nothing(room: Room) -> None:
    room.send(range(28))
    room.send([], how="aborted", peer="MONITOR@10.0.0.9")
    room.send([], how="idle")  # a connection that was kept in reserve
    assert room.is_released()


def test_two_exams_that_come_by_one_association(room: Room) -> None:
    key = room.open()
    for name in range(28):
        room.give(key, [name], X)
        room.give(key, [name], Y)
        room.after(1)
    room.after(5)
    assert room.step(X) == "read"
    room.read(X)
    room.read(Y)
    room.after(200)
    assert room.arrivals.due() == []  # a router may bring the rest of either
    room.close(key, "lost")
    assert room.flaw(X) == "transfer-aborted"
    assert room.due(Y) is not None and room.due(Y).flaw == "transfer-aborted"  # type: ignore[union-attr]


def test_a_sender_that_holds_its_association_open(room: Room) -> None:
    """After `quiet_without_release_s`, and only where other images show that the volume is whole."""
    for exam, confirmed in ((X, True), (Y, False)):
        key = room.open()
        room.give(key, range(57), exam)
        room.read(exam, confirmed=confirmed)
    room.after(29)
    assert room.step(X) == "release" and room.step(Y) is None
    assert room.flaw(Y) == ""


def test_an_instance_that_is_on_its_way_holds_the_exam(room: Room) -> None:
    key = room.open()
    room.give(key, range(20))
    room.read(confirmed=True)
    room.arrivals.instance_arrives(key, X, "20")
    room.after(60)
    assert room.due() is None
    room.close(key, "lost")
    assert room.flaw() == "transfer-aborted"
    room.send(range(20), outcome="same")
    assert room.flaw() == "instance-not-stored"


@pytest.mark.parametrize("again", [["27"], ["26"], []], ids=["it", "another", "nothing"])
def test_an_instance_that_was_answered_with_a_failure_must_come(room: Room, again: list[str]) -> None:
    key = room.open()
    room.give(key, range(27))
    room.arrivals.instance_arrives(key, X, "27")
    room.arrivals.instance_failed(key, X, "27")
    room.close(key)
    assert not room.is_released()
    room.send(again)
    if again == ["27"]:
        assert room.is_released() and room.ledger.missing(X) == frozenset()
    else:
        assert room.flaw() == "instance-not-stored" and room.ledger.missing(X) == {"27"}


def test_a_failed_instance_of_an_unknown_exam_may_be_of_any_exam_of_its_sender(room: Room) -> None:
    key = room.open()
    room.arrivals.instance_failed(key, None, "first")
    room.give(key, range(27), X)
    room.close(key)
    room.send(range(28), Y, peer="MR2@10.0.0.6")
    assert not room.is_released(X)
    assert room.step(Y) == "read"
    assert room.is_released(Y)
    room.send(["first"], X)
    assert room.is_released(X)


def test_a_flood_of_failed_instances_takes_a_bounded_memory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FAILED", 3)
    key = room.open()
    for number in range(10):
        room.arrivals.instance_failed(key, None, f"stray {number}")
        room.arrivals.instance_failed(key, X, f"own {number}")
    room.give(key, range(20), X)
    room.give(key, [f"own {number}" for number in range(10)], X)
    room.give(key, [f"stray {number}" for number in range(10)], X)
    room.close(key)
    assert len(room.ledger.missing(X)) <= 8
    assert not room.is_released() and room.flaw() == "instance-not-stored"


# ------------------------------------------------------------------------------------------------ restarts and disks


def test_an_exam_that_was_being_received_when_the_process_died_counts_as_broken_off(room: Room) -> None:
    key = room.open()
    room.give(key, range(20))
    room.restart()
    assert not room.is_released() and room.flaw() == "transfer-aborted"
    room.restart()
    room.send(range(20, 28))
    assert not room.is_released()
    room.restart()
    room.send(range(28), outcome="same")
    assert room.is_released()


def test_an_exam_that_was_whole_when_the_process_died_is_released(room: Room) -> None:
    room.send(range(28))
    room.restart()
    assert room.is_released()


@pytest.mark.parametrize("how", ["aborted", "lost"])
def test_what_broke_off_before_a_restart_must_come_again_after_it(room: Room, how: str) -> None:
    room.send(range(20), how=how)
    room.restart()
    room.send([20])
    assert not room.is_released()
    room.restart()
    assert not room.is_released()
    room.send(range(28))
    assert room.is_released()


def test_an_instance_that_failed_before_a_restart_must_come_after_it(room: Room) -> None:
    key = room.open()
    room.give(key, range(27))
    room.arrivals.instance_failed(key, X, "27")
    room.close(key)
    room.restart()
    assert not room.is_released()
    room.restart()
    room.send(["27"])
    assert room.is_released()


def test_a_dead_exam_stays_broken_off_until_all_of_it_came_again(room: Room) -> None:
    room.send(range(20), how="aborted")
    assert room.flaw() == "transfer-aborted"
    due = room.due()
    assert due is not None
    assert room.arrivals.conclude(due, lambda: room.ledger.kill(X, due.flaw, "broken off"))
    room.send(range(20, 24))
    assert not room.is_released()
    room.send(range(28), outcome="same")
    assert room.is_released()


def test_images_that_come_after_the_release_are_judged_by_themselves(room: Room) -> None:
    """An exam that was released was whole; a late association that breaks off makes it half again."""
    room.send(range(20))
    assert room.is_released()
    assert room.arrivals.conclude(room.due(), lambda: None)  # type: ignore[arg-type]
    room.send(["late"])
    assert room.is_released()
    assert room.arrivals.conclude(room.due(), lambda: None)  # type: ignore[arg-type]
    room.send(["later"], how="lost")
    assert not room.is_released() and room.flaw() == "transfer-aborted"


def test_a_process_that_dies_between_two_images_of_a_late_association_leaves_the_exam_half(room: Room) -> None:
    room.send(range(20))
    assert room.is_released()
    key = room.open()
    room.give(key, [20])
    room.restart()
    assert not room.is_released()


class FullLedger(Ledger):
    """A ledger on a disk that is full when that is wanted."""

    full = False

    def exam_received(self, exam: str) -> None:
        self._refuse()
        super().exam_received(exam)

    def instance_failed(self, exam: str, sop_key: str) -> None:
        self._refuse()
        super().instance_failed(exam, sop_key)

    def exam_ended_receiving(self, *args: object, **kw: object) -> None:
        self._refuse()
        super().exam_ended_receiving(*args, **kw)  # type: ignore[arg-type]

    def _refuse(self) -> None:
        if self.full:
            raise BackendError("spool-full", "the disk is full")


def test_a_disk_that_is_full_in_the_middle_leaves_the_exam_half(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with FullLedger(spool.ledger_path) as ledger:
        room = Room(spool, ledger)
        key = room.open()
        room.give(key, range(20), X)
        ledger.full = True
        room.arrivals.instance_arrives(key, X, "20")
        room.arrivals.instance_failed(key, X, "20")
        with pytest.raises(BackendError):
            room.arrivals.instance_arrives(key, Y, "0")
        room.arrivals.instance_failed(key, Y, "0")
        room.close(key)
        for exam in (X, Y):
            room.read(exam)
        room.after(100)
        assert room.arrivals.due() == []
        ledger.full = False
        for exam in (X, Y):
            room.send(range(28), exam)
            assert room.is_released(exam)


def test_a_restart_after_a_full_disk_forgets_nothing_that_was_stored(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with FullLedger(spool.ledger_path) as ledger:
        room = Room(spool, ledger)
        key = room.open()
        room.give(key, range(20), X)
        ledger.full = True
        room.arrivals.instance_failed(key, X, "20")
        room.close(key)
        ledger.full = False
        room.restart()
        assert not room.is_released() and room.flaw() == "transfer-aborted"
