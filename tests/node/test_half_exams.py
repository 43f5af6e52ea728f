"""Half an exam by real senders to a real node: killed, stopped, aborted, in parallel. It never has a stage.

The one node of the exam, of 16 mm, lies in the slices that are missing: what came would be N0.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from dicom_network import StoreScp, report_of, send_files, sending, store_scp
from held_connection import held_connection
from node_process import NodeProcess, node, target

SLICES, CUT = 24, 15
PART = 8  # slices that a sender has sent when it is caught, in the middle of the next
SLICE_BYTES = 512 * 512 * 2
AFFINE_RAS = np.array([[-0.25, 0, 0, 64], [0, -0.25, 0, 64], [0, 0, 2.0, -24], [0, 0, 0, 1]])  # the field of the model
QUICK = {"quiet_s": 1, "quiet_without_release_s": 1, "give_up_s": 10}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A lone series of large slices."""
    voxels = np.random.default_rng(0).integers(90, 110, (SLICES, 512, 512), dtype=np.uint16)
    voxels[CUT + 1 :, 224:288, 224:288] = 1000
    return write_series(tmp_path / "lone", voxels, AFFINE_RAS)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[StoreScp]:
    with store_scp(tmp_path / "sink") as sink:
        yield sink


@pytest.fixture
def service(tmp_path: Path, model_folder: Path, sink: StoreScp) -> Iterator[NodeProcess]:
    with node(tmp_path / "node", model_folder, [target(sink.port)], receive=QUICK) as service:
        yield service


def received(service: NodeProcess) -> int:
    return len(list(service.spool.glob("exams/*/instances/*.dcm")))


@contextmanager
def caught(
    service: NodeProcess, files: list[Path], part: int = PART
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], None]]]:
    """A sender in the middle of the slice after a part of them, and what lets its bytes go on."""
    with (
        held_connection(service.port, round((part + 0.5) * SLICE_BYTES)) as held,
        sending(held.port, files) as process,
    ):
        service.wait(lambda: received(service) == part, "a part has come")
        yield process, held.let_go


def check_held(service: NodeProcess, sink: StoreScp, files: list[Path]) -> None:
    """What came waits for longer than the quiet time, and nothing is sent of it; sent again as a whole it is N1."""
    time.sleep(3)
    assert service.states() == ["receiving"] and sink.files() == []
    check_heals(service, sink, files)


def check_heals(service: NodeProcess, sink: StoreScp, files: list[Path]) -> None:
    assert len(send_files(service.port, files).accepted) == len(files)
    service.wait(lambda: service.states() == ["sent"], "the whole exam is sent")
    assert [result["n_stage"] for result in service.results() if result["released_at"]] == ["N1"]
    assert len(sink.files()) == 2


def test_a_sender_that_is_killed(service: NodeProcess, sink: StoreScp, files: list[Path]) -> None:
    with caught(service, files) as (process, _):
        process.send_signal(signal.SIGKILL)
    assert received(service) <= CUT
    (exam,) = service.wait_settled(1).values()
    assert (exam["state"], exam["code"]) == ("dead", "transfer-aborted")
    assert service.results() == [] and sink.files() == []
    check_heals(service, sink, files)


def test_a_sender_that_is_stopped_and_goes_on(service: NodeProcess, sink: StoreScp, files: list[Path]) -> None:
    """It stands still for several quiet times; what came waits, and what comes then is one exam with it."""
    with caught(service, files) as (process, let_go):
        process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        assert received(service) <= CUT and service.states() == ["receiving"] and sink.files() == []
        let_go()
        process.send_signal(signal.SIGCONT)
        assert len(report_of(process).accepted) == SLICES
    service.wait(lambda: service.states() == ["sent"], "the exam is sent")
    assert [result["n_stage"] for result in service.results() if result["released_at"]] == ["N1"]
    assert len(sink.files()) == 2


def test_a_sender_that_aborts(service: NodeProcess, sink: StoreScp, files: list[Path]) -> None:
    with sending(service.port, files[:CUT], "--abort") as process:
        assert len(report_of(process).accepted) == CUT
    check_held(service, sink, files)


def test_two_associations_of_which_one_breaks_off(service: NodeProcess, sink: StoreScp, files: list[Path]) -> None:
    with caught(service, files[CUT:], 2) as (second, _):
        assert len(send_files(service.port, files[:CUT]).accepted) == CUT
        time.sleep(3)
        assert service.states() == ["receiving"] and sink.files() == []
        second.send_signal(signal.SIGKILL)
    check_held(service, sink, files)


def test_a_node_that_is_restarted_while_an_exam_arrives(
    service: NodeProcess, sink: StoreScp, files: list[Path]
) -> None:
    with caught(service, files):
        service.kill()
    assert received(service) <= CUT
    service.start()
    check_held(service, sink, files)
