"""The group cohort: the schedule is measured on workers that answer after a recorded delay."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from benchmarks.groups.cohort import recorded
from benchmarks.groups.cohort.recorded import PaperCluster, Recording, measure, share
from lnfast.cluster.messages import Outcome, Task
from lnfast.cluster.schedule import Schedule, ScheduleLimits

RECORDING = Recording(0.02, Outcome(0, {"study": "x", "status": "done", "n_stage": "N0"}))


def test_workers_on_paper_do_what_their_number_and_the_delay_allow() -> None:
    cluster = PaperCluster(RECORDING)
    try:
        limits = ScheduleLimits(4, float("inf"))
        measured = measure(Schedule(cluster, recorded._request(RECORDING), limits, lambda line: None), 4, 200)
    finally:
        cluster.close()
    assert measured.studies == pytest.approx(200, abs=12) and measured.worker_mb is None
    assert 0.3 < share(measured, 4, RECORDING) < 1.1  # never faster than its network, whatever else runs here
    assert 0 < measured.memory_mb[1] < measured.memory_mb[0] * 1.2


def test_an_answer_is_the_recorded_one_of_another_study() -> None:
    outcome = recorded.answer(RECORDING, Task(7, "/none", "study-7"))
    assert (outcome.index, outcome.row["study"], outcome.row["n_stage"]) == (7, "study-7", "N0")


def test_a_recorded_worker_sleeps_in_place_of_its_network() -> None:
    worker = recorded.RecordedWorker()
    assert worker.load(recorded._request(RECORDING)) == recorded.FACTS
    assert worker.run(Task(3, "/none", "study-3")).index == 3
