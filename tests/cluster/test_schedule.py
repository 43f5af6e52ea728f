"""The schedule: every study once, whatever dies; on a cluster of threads."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from thread_cluster import IDENTITY, DiesError, ThreadCluster, done, facts, request

from lnfast.cluster import election
from lnfast.cluster.messages import ErrorValue, Outcome, Task
from lnfast.cluster.schedule import STUDIES_PER_WORKER, Schedule, ScheduleLimits
from lnfast.cluster.slots import START_DEATHS_AT_MOST
from lnfast.cluster.worker import refused
from lnfast.errors import BackendError, EngineError, LnfastError, ModelError

FOREVER = float("inf")


def tasks(count: int) -> list[Task]:
    return [Task(index, f"/data/{index}.nii.gz", f"{index}") for index in range(count)]


def run(
    cluster: ThreadCluster, count: int, *, workers: int = 2, study_s: float = FOREVER
) -> tuple[list[Outcome], list[str]]:
    """Run studies; return their outcomes in the order of the studies, each of which has exactly one, and the lines."""
    lines: list[str] = []
    schedule = Schedule(cluster, request(), ScheduleLimits(workers, study_s), lines.append)
    try:
        outcomes = list(schedule.outcomes(tasks(count)))
    finally:
        schedule.stop(0.0)
    assert sorted(outcome.index for outcome in outcomes) == list(range(count))
    return sorted(outcomes, key=lambda outcome: outcome.index), lines


def codes(outcomes: list[Outcome]) -> dict[int, str]:
    return {outcome.index: outcome.refusal.code for outcome in outcomes if outcome.refusal is not None}


def test_every_study_ends_once_and_no_worker_has_more_than_a_few() -> None:
    cluster = ThreadCluster(run=lambda number, task: (time.sleep(0.002), done(task))[1])
    outcomes, _ = run(cluster, 500, workers=3)
    assert codes(outcomes) == {}
    assert 1 < cluster.most <= STUDIES_PER_WORKER and cluster.started == 3


def test_near_the_end_no_study_waits_behind_another_while_a_worker_is_idle() -> None:
    cluster = ThreadCluster(run=lambda number, task: (time.sleep(0.05), done(task))[1])
    run(cluster, 4, workers=4)
    assert cluster.most == 1


@pytest.mark.parametrize("count", [1, 7, 40])
def test_a_study_that_kills_its_worker_twice_is_set_aside_and_all_others_are_run(count: int) -> None:
    fatal = count // 2
    runs: Counter[int] = Counter()

    def serve(number: int, task: Task) -> Outcome:
        runs[task.index] += 1
        if task.index == fatal:
            raise DiesError
        time.sleep(0.005)
        return done(task)

    outcomes, _ = run(ThreadCluster(run=serve), count)
    assert codes(outcomes) == {fatal: "worker-died"}
    assert runs[fatal] == 2
    refusal = outcomes[fatal].refusal
    assert refusal is not None and refusal.exit_code == LnfastError.exit_code and "its process ended" in refusal.message


def test_studies_that_were_beside_the_fatal_ones_are_never_blamed() -> None:
    fatal = {3, 4, 5, 11}

    def serve(number: int, task: Task) -> Outcome:
        if task.index in fatal:
            raise DiesError
        time.sleep(0.01)
        return done(task)

    outcomes, _ = run(ThreadCluster(run=serve), 30, workers=3)
    assert codes(outcomes) == dict.fromkeys(fatal, "worker-died")


def test_a_worker_that_dies_once_costs_no_study() -> None:
    died: list[int] = []

    def serve(number: int, task: Task) -> Outcome:
        if number == 0 and not died and task.index >= 3:
            died.append(number)
            raise DiesError
        return done(task)

    cluster = ThreadCluster(run=serve)
    outcomes, _ = run(cluster, 20)
    assert died and codes(outcomes) == {} and cluster.started == 3


def test_the_loss_of_a_machine_says_nothing_against_its_studies() -> None:
    losses: Counter[int] = Counter()

    def serve(number: int, task: Task) -> Outcome:
        if task.index == 5 and losses[5] < 3:
            losses[5] += 1
            raise DiesError(with_machine=True)
        return done(task)

    outcomes, _ = run(ThreadCluster(run=serve), 12)
    assert losses[5] == 3 and codes(outcomes) == {}


def test_a_study_with_which_machine_after_machine_is_lost_is_set_aside() -> None:
    def serve(number: int, task: Task) -> Outcome:
        if task.index == 5:
            raise DiesError(with_machine=True)
        return done(task)

    outcomes, _ = run(ThreadCluster(run=serve), 12)
    assert codes(outcomes) == {5: "worker-died"}


def test_a_study_that_hangs_is_set_aside_and_its_worker_ended() -> None:
    release = threading.Event()

    def serve(number: int, task: Task) -> Outcome:
        if task.index == 2:
            release.wait(30)
        return done(task)

    cluster = ThreadCluster(run=serve)
    outcomes, _ = run(cluster, 8, study_s=0.5)
    release.set()
    assert codes(outcomes) == {2: "worker-died"}
    refusal = outcomes[2].refusal
    assert refusal is not None and "not done within" in refusal.message
    assert cluster.started == 4  # each of its two workers was replaced


def test_a_worker_whose_engine_differs_gets_no_study_and_no_successor() -> None:
    other = replace(IDENTITY, precision="int8", engine="b" * 64)
    served: Counter[int] = Counter()

    def load(number: int) -> object:
        time.sleep(0.1 * number)  # the first is first
        return facts(other if number == 1 else IDENTITY)

    def serve(number: int, task: Task) -> Outcome:
        served[number] += 1
        time.sleep(0.01)
        return done(task)

    cluster = ThreadCluster(load=load, run=serve)  # type: ignore[arg-type]
    outcomes, lines = run(cluster, 150, workers=3)
    assert codes(outcomes) == {} and set(served) == {0, 2}
    assert cluster.closed == [1] and cluster.started == 3
    line = next(line for line in lines if "worker-engine-differs" in line)
    assert "precision is int8, wanted fp32" in line and "lnfast" not in line.partition("wanted")[2].partition(";")[0]


def test_one_odd_machine_that_is_ready_first_does_not_turn_away_the_others() -> None:
    other = replace(IDENTITY, lnfast="0.9")
    served: Counter[int] = Counter()

    def load(number: int) -> object:
        time.sleep(0.1 * (number > 0))
        return facts(other if number == 0 else IDENTITY)

    def serve(number: int, task: Task) -> Outcome:
        served[number] += 1
        return done(task)

    outcomes, lines = run(ThreadCluster(load=load, run=serve), 40, workers=4)  # type: ignore[arg-type]
    assert codes(outcomes) == {} and 0 not in served
    assert any("lnfast is 0.9, wanted 1.0" in line for line in lines)


def test_the_engine_is_decided_though_most_workers_never_find_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "WITHIN_S", 0.2)
    room = threading.Event()

    def load(number: int) -> object:
        if number:
            room.wait(30)
        return facts()

    outcomes, _ = run(ThreadCluster(load=load), 5, workers=4)  # type: ignore[arg-type]
    room.set()
    assert len(outcomes) == 5


def test_another_kind_of_processor_is_said_once_where_no_certificate_forbids_it() -> None:
    cluster = ThreadCluster(load=lambda number: facts(device_kind=f"kind {number > 0}"))
    _, lines = run(cluster, 60, workers=4)
    assert sum("last digits" in line for line in lines) == 1


@pytest.mark.parametrize("kind", ["ModelError", "EngineError", "BackendError"])
def test_where_no_worker_can_be_started_the_first_reason_is_raised(kind: str) -> None:
    refusal = ErrorValue(kind, "unknown-model", "there is none")
    with pytest.raises(LnfastError) as raised:
        run(ThreadCluster(load=lambda number: refusal), 5)
    assert type(raised.value) in (ModelError, EngineError, BackendError)
    assert raised.value.code == "unknown-model" and type(raised.value).__name__ == kind


def test_workers_that_die_while_they_load_are_given_up() -> None:
    def load(number: int) -> object:
        raise DiesError

    cluster = ThreadCluster(load=load)  # type: ignore[arg-type]
    with pytest.raises(BackendError) as raised:
        run(cluster, 5)
    assert raised.value.code == "no-worker" and cluster.started == 2 * START_DEATHS_AT_MOST


def test_a_full_disk_ends_the_cohort_with_the_systems_words() -> None:
    full = ErrorValue("OSError", "os-error", "/out/x: No space left on device", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left") as raised:
        run(ThreadCluster(run=lambda number, task: refused(task, full)), 9)
    assert raised.value.errno == errno.ENOSPC


def test_another_error_of_the_system_is_tried_again_and_then_a_row() -> None:
    error = ErrorValue("OSError", "os-error", "/out/x: Stale file handle", errno.ESTALE)
    runs: Counter[int] = Counter()

    def serve(number: int, task: Task) -> Outcome:
        runs[task.index] += 1
        broken = task.index == 3 or (task.index == 6 and runs[6] == 1)
        return refused(task, error) if broken else done(task)

    outcomes, _ = run(ThreadCluster(run=serve), 9)
    assert codes(outcomes) == {3: "os-error"} and runs[3] == 3 and runs[6] == 2


def test_a_runtime_that_has_failed_is_replaced_before_a_study_is_blamed() -> None:
    broken = {0}  # a GPU that has fallen off the bus fails with every study
    failed = ErrorValue("EngineError", "inference-failed", "no")

    def serve(number: int, task: Task) -> Outcome:
        bad = number in broken or task.index == 7
        return refused(task, failed) if bad else done(task)

    cluster = ThreadCluster(run=serve)
    outcomes, _ = run(cluster, 20)
    assert codes(outcomes) == {7: "inference-failed"} and 0 in cluster.killed


def test_a_machine_without_the_data_is_refused_and_its_studies_run_elsewhere(tmp_path: Path) -> None:
    missing = ErrorValue("StudyError", "not-found", "no such file")
    present = tmp_path / "study.nii.gz"
    present.touch()
    lines: list[str] = []

    def serve(number: int, task: Task) -> Outcome:
        time.sleep(0.002)
        return refused(task, missing) if number == 1 or task.index == 4 else done(task)

    schedule = Schedule(ThreadCluster(run=serve), request(), ScheduleLimits(2, FOREVER), lines.append)
    paths = [str(present)] * 10
    paths[4] = str(tmp_path / "absent.nii.gz")
    outcomes = list(schedule.outcomes([Task(index, path, f"{index}") for index, path in enumerate(paths)]))
    schedule.stop(0.0)
    assert len(outcomes) == 10 and codes(outcomes) == {4: "not-found"}
    assert any("input-not-shared" in line for line in lines)


def test_stopping_waits_for_what_is_being_written_and_no_longer() -> None:
    release = threading.Event()

    def serve(number: int, task: Task) -> Outcome:
        release.wait(30)
        return done(task)

    cluster = ThreadCluster(run=serve)
    schedule = Schedule(cluster, request(), ScheduleLimits(2, FOREVER), lambda line: None)
    ended = schedule.outcomes(tasks(6))
    threading.Timer(0.3, lambda: schedule._events.put(None)).start()  # type: ignore[arg-type]  # an interrupt
    with pytest.raises(AttributeError):
        next(ended)
    threading.Timer(0.3, release.set).start()
    began = time.monotonic()
    schedule.stop(20.0)
    assert 0.2 < time.monotonic() - began < 5.0 and set(cluster.killed) == {0, 1}
