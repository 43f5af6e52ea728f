"""A node as a process: how it starts, how it ends, what it refuses, and that it never only looks alive."""

from __future__ import annotations

import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_network import LOOPBACK, end, listens, store_scp
from exam_files import small_model, write_exam
from node_process import NodeProcess, node, target

from lnfast.errors import BackendError
from lnfast.node.exams.runs import load_writers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a node runs on POSIX")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model") / "small")


def with_fault(lines: str) -> tuple[str, ...]:
    """A program that runs lnfast after some lines have broken a part of it."""
    return (sys.executable, "-c", f"import sys, time\n{lines}\nfrom lnfast.cli import main\nmain(sys.argv[1:])")


def log_of(process: NodeProcess) -> str:
    return process.output.read_text()


@pytest.fixture
def running(tmp_path: Path, model: Path) -> Iterator[NodeProcess]:
    with node(tmp_path / "node", model, []) as process:
        yield process


# --- start and end --------------------------------------------------------------------------------------------------


def test_a_term_lets_it_drain_and_a_new_life_begins_where_it_ended(running: NodeProcess) -> None:
    assert running.stop() == 0
    log = log_of(running)
    assert " INFO node: drains" in log and "ERROR" not in log and "Traceback" not in log
    assert not listens(running.port)
    running.start()
    assert running.health()[1]["status"] == "ok"


def test_an_interrupt_drains_too(running: NodeProcess) -> None:
    assert running.process is not None
    assert end(running.process, signal.SIGINT, 40) == 0
    running.process = None


def test_what_it_writes_is_its_users_alone_and_no_core_is_written(running: NodeProcess) -> None:
    assert running.process is not None
    limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    paths = [running.spool, *running.spool.rglob("*")]
    assert len(paths) > 5
    for path in paths:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_it_receives_while_the_engine_is_loaded_and_says_that_it_is_starting(tmp_path: Path, model: Path) -> None:
    slow = with_fault(
        "import lnfast.engine as engine\n"
        "load = engine.Engine.__init__\n"
        "def slow(*given, **named): time.sleep(3); load(*given, **named)\n"
        "engine.Engine.__init__ = slow"
    )
    with node(tmp_path / "node", model, [], running=False, program=slow) as process:
        process.start(ready=False)
        process.wait(lambda: listens(process.port) and process.health()[0], "it receives")
        assert process.health()[0] == 503 and process.health()[1]["status"] == "starting"
        process.wait(process.is_ready, "the engine is loaded")


def test_an_engine_that_is_refused_stops_the_runs_and_nothing_else(tmp_path: Path, model: Path) -> None:
    from dicom_network import dcmsend

    broken = with_fault(
        "import lnfast.serving as serving\n"
        "from lnfast.errors import EngineError\n"
        "def refuse(*_): raise EngineError('self-test-failed', 'Dice 0.1')\n"
        "serving._proven = refuse"
    )
    exam = write_exam(tmp_path / "exam", "refused")
    with node(tmp_path / "node", model, [], running=False, program=broken) as process:
        process.start(ready=False)
        process.wait(lambda: process.health()[1].get("status") == "unhealthy", "it says that it is not well")
        assert [reason["code"] for reason in process.health()[1]["reasons"]] == ["self-test-failed"]
        assert process.metrics()["lnfast_node_healthy"] == 0
        dcmsend(process.port, tmp_path / "exam")
        time.sleep(3)  # longer than it waits for more of the exam
        assert process.states() == ["receiving"] and not process.results()
        assert process.metrics()['lnfast_node_instances_received_total{outcome="new"}'] == len(exam)
        assert process.stop() == 0
        process.program = (sys.executable, "-m", "lnfast")
        process.start()
        process.wait(lambda: process.states() in (["done"], ["sent"]), "a mended node runs what it has")


def test_without_what_writes_the_results_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom.sr", None)  # as if it could not be imported
    with pytest.raises(BackendError) as refusal:
        load_writers()
    assert refusal.value.code == "backend-broken" and "lnfast[dicom]" in refusal.value.message


# --- what it refuses ------------------------------------------------------------------------------------------------


def refused(process: NodeProcess) -> tuple[int, str]:
    """Exit code and the last line of a node that does not start."""
    process.start(ready=False)
    assert process.process is not None
    code = process.process.wait(60)
    return code, log_of(process).splitlines()[-1]


def test_a_second_node_on_the_same_spool_is_refused(running: NodeProcess, tmp_path: Path, model: Path) -> None:
    with node(tmp_path / "second", model, [], running=False, node={"spool": running.spool}) as second:
        code, line = refused(second)
    assert code == 2 and "code=node-running" in line and "CRITICAL" in line
    assert running.is_ready()


@pytest.mark.parametrize("key", ["port", "health_port"])
def test_a_port_in_use_is_one_line(tmp_path: Path, model: Path, key: str) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with node(tmp_path / "node", model, [], running=False, node={key: port}) as process:
            code, line = refused(process)
            assert code == 5 and f"port {port}" in line and "code=port-unavailable" in line
            assert log_of(process).count("CRITICAL") == 1 and "Traceback" not in log_of(process)


# --- a part that fails ----------------------------------------------------------------------------------------------

DIES = """
import lnfast.node.outbox.sender as sender
run = sender.TargetSender.run
def fall(self):
    time.sleep(1)
    raise ValueError("SECRET^NAME")
sender.TargetSender.run = fall
"""
HANGS = """
import lnfast.node.monitor.life as life, lnfast.node.service as service, lnfast.node.outbox.sender as sender
life.IDLE_S, service.STUCK_S = 2.0, 3.0
def hang(self):
    while True: time.sleep(60)
sender.TargetSender.run = hang
"""


def test_a_thread_that_dies_ends_the_node(tmp_path: Path, model: Path) -> None:
    with node(tmp_path / "node", model, [target(9)], running=False, program=with_fault(DIES)) as process:
        process.start(ready=False)
        assert process.process is not None
        assert process.process.wait(40) == 1
        log = log_of(process)
    assert "code=thread-died thread_name=lnfast-send-pacs" in log
    assert "error=ValueError" in log and "SECRET" not in log


def test_a_thread_that_hangs_is_said_and_then_ends_the_node(tmp_path: Path, model: Path) -> None:
    with node(tmp_path / "node", model, [target(9)], running=False, program=with_fault(HANGS)) as process:
        process.start(ready=False)
        reasons = lambda: [reason["code"] for reason in process.health()[1].get("reasons", [])]  # noqa: E731
        process.wait(lambda: "thread-stuck" in reasons(), "it says that a thread hangs")
        assert process.health()[0] == 503
        assert process.metrics()['lnfast_node_thread_alive{thread="lnfast-send-pacs"}'] == 0
        assert process.process is not None
        assert process.process.wait(60) == 1
        assert "thread_name=lnfast-send-pacs" in log_of(process)


SLOW_RUN = """
import lnfast.engine as engine
analyse = engine.Engine.analyse
def slow(*given, **named):
    print("RUNS", flush=True)
    time.sleep({seconds})
    return analyse(*given, **named)
engine.Engine.analyse = slow
"""


def test_a_second_signal_ends_it_at_once(tmp_path: Path, model: Path) -> None:
    from dicom_network import dcmsend

    write_exam(tmp_path / "exam", "slow")
    with node(tmp_path / "node", model, [], program=with_fault(SLOW_RUN.format(seconds=60))) as process:
        dcmsend(process.port, tmp_path / "exam")
        process.wait(lambda: "RUNS" in log_of(process), "a run has begun")
        assert process.process is not None
        process.process.send_signal(signal.SIGTERM)
        process.wait(lambda: "drains" in log_of(process), "it drains")
        started = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(10) == 128 + signal.SIGTERM
        assert time.monotonic() - started < 5


def test_a_drain_lets_the_exam_that_is_run_end(tmp_path: Path, model: Path) -> None:
    from dicom_network import dcmsend

    write_exam(tmp_path / "exam", "slow")
    with (
        store_scp(tmp_path / "pacs") as pacs,
        node(tmp_path / "node", model, [target(pacs.port)], program=with_fault(SLOW_RUN.format(seconds=4))) as process,
    ):
        dcmsend(process.port, tmp_path / "exam")
        process.wait(lambda: "RUNS" in log_of(process), "a run has begun")
        assert process.stop() == 0
        assert process.rows("SELECT * FROM results"), "the run ended and its result is kept"
        assert process.rows("SELECT attempts, started_at FROM exams") == [{"attempts": 0, "started_at": None}]
        process.program = (sys.executable, "-m", "lnfast")
        process.start()
        process.wait_settled(1)
        assert len(process.rows("SELECT * FROM results")) == 1, "it was not run again"
        assert len(pacs.received()) == 2


# --- systemd --------------------------------------------------------------------------------------------------------


def messages(receiver: socket.socket, seconds: float) -> list[str]:
    """What a service manager is told for some seconds."""
    told: list[str] = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        receiver.settimeout(left)
        try:
            told += receiver.recv(4096).decode().splitlines()
        except TimeoutError:
            break
    return told


def test_systemd_is_told_that_it_is_ready_alive_and_stopping(tmp_path: Path, model: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"}
        with node(tmp_path / "node", model, [], environment=environment) as process:
            told = messages(receiver, 4.0)
            assert told[:2] == ["EXTEND_TIMEOUT_USEC=600000000", "READY=1"] and f"port {process.port}" in told[2]
            assert 3 <= told.count("WATCHDOG=1") <= 10
            assert process.stop() == 0
            assert "STOPPING=1" in messages(receiver, 0.5)


def test_the_watchdog_is_not_put_off_while_a_thread_hangs(tmp_path: Path, model: Path) -> None:
    path = str(tmp_path / "notify")
    fault = HANGS.replace("3.0", "600.0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"}
        with node(
            tmp_path / "node", model, [target(9)], running=False, environment=environment, program=with_fault(fault)
        ) as process:
            process.start(ready=False)
            process.wait(lambda: "a thread gives no sign of life" in log_of(process), "a thread hangs")
            messages(receiver, 0.3)  # from before
            assert "WATCHDOG=1" not in messages(receiver, 3.0)
