"""The worker's thread: the engine is loaded once, exams are run as they come, and nothing stops it but `stop`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_series
from dicom_network import wait_until
from exam_desks import Desk, node_config
from exam_files import write_exam

from lnfast.engine import Engine
from lnfast.errors import EngineError
from lnfast.node.config.settings import ModelChoice, NodeConfig
from lnfast.node.exams import worker as module
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.exams.worker import Worker
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool
from lnfast.optional import Package

Load = Callable[..., Engine]


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> NodeConfig:
    """A node that is quick: a small model, and a quiet time of half a second."""
    more = f'[model]\nname = "{model_folder}"\nbackend = "openvino"\nprecision = "fp32"\n'
    config = node_config(tmp_path / "node", more)
    return replace(config, receive=replace(config.receive, quiet_s=0.5))


@pytest.fixture
def ledger(config: NodeConfig) -> Iterator[Ledger]:
    with Ledger(Spool(config.spool).ledger_path) as ledger:
        yield ledger


@pytest.fixture
def desk(config: NodeConfig, ledger: Ledger) -> Desk:
    """Sends exams; its own engine and decisions are not used."""
    desk = Desk(config, None, Spool(config.spool), ledger)  # type: ignore[arg-type]
    desk.arrivals = Arrivals(config.receive, desk.spool, ledger)
    return desk


@pytest.fixture
def start(desk: Desk) -> Iterator[Callable[..., Worker]]:
    """Starts workers, and ends those that still run."""
    workers: list[Worker] = []

    def start(**arguments: Load) -> Worker:
        worker = Worker(desk.config, desk.spool, desk.ledger, desk.arrivals, desk.metrics, **arguments)
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        worker.stop()
        assert not worker.threads[0].is_alive()


def until(desk: Desk, worker: Worker, exam: str, *states: str) -> None:
    wait_until(lambda: desk.state(exam)[0] in states, f"{states}", 30, alive=worker.threads[0].is_alive)


def test_exams_are_run_and_released_and_the_sender_is_woken(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = start()
    woken = threading.Event()
    worker.on_release = woken.set
    assert worker.engine_problem is None
    files = write_exam(tmp_path / "exam", "1")
    desk.send(files)
    until(desk, worker, desk.exam(files[0]), "done")
    assert woken.wait(5) and worker.engine_is_settled and not worker.running
    assert worker.engine_facts is not None
    assert worker.engine_facts.items() >= {"model": "tiny", "precision": "fp32", "certificate": "none"}.items()
    worker.stop()
    assert worker.engine_facts is None


def test_without_an_engine_everything_is_kept_and_run_after_a_repair(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path
) -> None:
    def load(_: ModelChoice) -> Engine:
        raise EngineError("self-test-failed", "the engine differs from FP32")

    broken = start(load=load)
    files = write_exam(tmp_path / "exam", "1")
    exam = desk.exam(files[0])
    desk.send(files)
    wait_until(lambda: broken.engine_is_settled, "the engine is refused", 10)
    time.sleep(1.2)
    assert broken.engine_problem is not None and broken.engine_problem.code == "self-test-failed"
    assert desk.state(exam) == ("receiving", None) and not desk.ledger.results(exam) and broken.engine_facts is None
    assert broken.threads[0].is_alive() and not broken.lives[0].overdue()
    assert [event.code for event in desk.ledger.events()] == ["self-test-failed"]
    broken.stop()
    until(desk, start(), exam, "done")


def test_without_the_package_that_writes_objects_everything_is_kept(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found before a run: else every exam would die of it."""
    installed = Package.installed
    monkeypatch.setattr(Package, "installed", lambda self: self.module != "highdicom" and installed(self))
    worker = start()
    files = write_exam(tmp_path / "exam", "1")
    desk.send(files)
    wait_until(lambda: worker.engine_is_settled, "the engine is refused", 30)
    assert worker.engine_problem is not None and worker.engine_problem.code == "backend-missing"
    assert "pip install 'lnfast[dicom]'" in worker.engine_problem.message
    assert desk.state(desk.exam(files[0])) == ("receiving", None)


def test_a_fault_while_the_engine_is_loaded_is_told_by_its_type(desk: Desk, start: Callable[..., Worker]) -> None:
    def load(_: ModelChoice) -> Engine:
        raise MemoryError("SECRET")

    worker = start(load=load)
    wait_until(lambda: worker.engine_is_settled, "the engine is refused", 10)
    assert worker.engine_problem is not None and worker.engine_problem.code == "internal"
    assert "MemoryError" in worker.engine_problem.message and "SECRET" not in worker.engine_problem.message


def test_an_exam_that_another_process_revives_is_taken_up(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path
) -> None:
    files = write_exam(tmp_path / "exam", "1")
    exam = desk.exam(files[0])
    desk.send(files)
    desk.ledger.kill(exam, "internal", "before the restart")
    desk.arrivals = Arrivals(desk.config.receive, desk.spool, desk.ledger)
    worker = start()
    wait_until(lambda: worker.engine_is_settled, "the engine is loaded", 10)
    time.sleep(0.3)
    assert desk.state(exam) == ("dead", "internal")
    with Ledger(desk.spool.ledger_path) as other:
        other.revive(exam)
    until(desk, worker, exam, "done")


def test_a_full_disk_makes_the_worker_wait(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.1)
    full = threading.Event()
    full.set()
    begin_run = desk.ledger.begin_run

    def begin(exam: str) -> int:
        if full.is_set():
            raise module.BackendError("spool-full", "the disk is full")
        return begin_run(exam)

    monkeypatch.setattr(desk.ledger, "begin_run", begin)
    worker = start()
    files = write_exam(tmp_path / "exam", "1")
    desk.send(files)
    time.sleep(1.5)
    assert worker.threads[0].is_alive() and desk.state(desk.exam(files[0])) == ("receiving", None)
    full.clear()
    until(desk, worker, desk.exam(files[0]), "done")


def test_an_idle_worker_takes_no_processor(desk: Desk, start: Callable[..., Worker], tmp_path: Path) -> None:
    worker = start()
    files = write_exam(tmp_path / "exam", "1")
    desk.give(desk.open(), files[:8])  # an association that stays open
    wait_until(lambda: worker.engine_is_settled, "the engine is loaded", 10)
    time.sleep(2.5)
    clock = time.pthread_getcpuclockid(worker.threads[0].ident or 0)
    before = time.clock_gettime(clock)
    time.sleep(2.0)
    assert time.clock_gettime(clock) - before < 0.05


def test_stopping_lets_the_exam_that_runs_end(desk: Desk, start: Callable[..., Worker], tmp_path: Path) -> None:
    running, go_on = threading.Event(), threading.Event()

    class Slow(Engine):
        def analyse(self, *arguments: object, **keywords: object):  # type: ignore[no-untyped-def]
            running.set()
            assert go_on.wait(10)
            return super().analyse(*arguments, **keywords)  # type: ignore[arg-type]

    def load(choice: ModelChoice) -> Engine:
        return Slow(choice.name, choice.backend, precision=choice.precision)

    worker = start(load=load)
    first, second = write_exam(tmp_path / "1", "1"), write_exam(tmp_path / "2", "2")
    desk.send(first)
    desk.send(second)
    assert running.wait(20) and worker.running
    worker.stop(0.1)
    assert worker.threads[0].is_alive()
    go_on.set()
    worker.stop()
    assert len(desk.ledger.results(desk.exam(first[0]))) == 1 and not desk.ledger.results(desk.exam(second[0]))


def test_the_drift_watch_runs_when_nothing_else_is_to_be_done(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path
) -> None:
    desk.config = replace(desk.config, drift=replace(desk.config.drift, every=1))
    loaded: list[str | None] = []
    waiting: list[int] = []

    def load(choice: ModelChoice, precision: str | None = None) -> Engine:
        loaded.append(precision)
        waiting.append(len(desk.ledger.exams("receiving")))
        return Engine(choice.name, choice.backend, precision=precision or choice.precision)

    worker = start(load=load)
    paths = [write_exam(tmp_path / seed, seed) for seed in "123"]
    for files in paths:
        desk.send(files)
    for files in paths:
        until(desk, worker, desk.exam(files[0]), "done")
    wait_until(lambda: desk.metrics.value("drift_checks_total") > 0, "an exam is checked", 20)
    assert loaded[0] is None and set(loaded[1:]) == {"fp32"} and worker.threads[0].is_alive()
    assert waiting[1:] and not any(waiting[1:])
    assert desk.metrics.value("drift_alarms_total") == 0


def test_a_drift_watch_that_fails_leaves_the_worker_alive(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk.config = replace(desk.config, drift=replace(desk.config.drift, every=1))

    def load(choice: ModelChoice, precision: str | None = None) -> Engine:
        if precision is not None:
            raise MemoryError("SECRET")
        return Engine(choice.name, choice.backend, precision=choice.precision)

    worker = start(load=load)
    files = write_exam(tmp_path / "exam", "1")
    desk.send(files)
    wait_until(lambda: "run again in FP32" in caplog.text, "the check fails", 20)
    assert "SECRET" not in caplog.text and desk.state(desk.exam(files[0])) == ("done", None)
    others = write_exam(tmp_path / "other", "2")
    desk.send(others)
    until(desk, worker, desk.exam(others[0]), "done")


def test_the_shipped_model_on_a_pelvis(
    desk: Desk, start: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that broke off above the suspicious nodes has no stage; the whole one has that of `lnfast run`."""
    from lnfast.phantom import make_phantom

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    desk.config = replace(desk.config, model=replace(desk.config.model, name="pelvic-ln-edge"))
    phantom = make_phantom(3, "achieva", "n1")
    voxels = np.clip(phantom.volume.array, 0, None).astype(np.uint16)
    files = write_series(tmp_path / "pelvis", voxels, phantom.volume.grid.affine)
    exam = desk.exam(files[0])
    worker = start()
    desk.send(files[: len(files) * 3 // 4], how="lost")
    wait_until(lambda: desk.ledger.results(exam), "the part is run", 30, alive=worker.threads[0].is_alive)
    time.sleep(1.0)
    assert desk.state(exam) == ("receiving", None) and not desk.ledger.jobs(exam)
    desk.send(files)
    until(desk, worker, exam, "done")
    (released,) = [result for result in desk.ledger.results(exam) if result.released_at is not None]
    folder = desk.folder(exam, released.number)
    with Engine("pelvic-ln-edge", backend="openvino", precision="fp32") as engine:
        wanted = engine.run(tmp_path / "pelvis").write(tmp_path / "wanted")
    for name in ("seg.dcm", "sr.dcm", "labels.nii.gz"):
        assert (folder / name).read_bytes() == (wanted / name).read_bytes()
    assert released.n_stage == json.loads((wanted / "report.json").read_text())["summary"]["n_stage"] == "N1"
    assert "SECRET" in str(pydicom.dcmread(folder / "sr.dcm").PatientName)
