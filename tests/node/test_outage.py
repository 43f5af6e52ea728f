"""What a node needs fails for a while: the PACS, and the disk. It lives on and makes up for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_network import echo, send_files, store_scp, wait_until
from exam_files import write_exam
from node_process import NodeProcess, node, target
from small_disks import fill, mounted, needs_tmpfs

MIB = 1 << 20
REFUSED = "Refused: OutOfResources"


@pytest.mark.parametrize("restart", [False, True], ids=["the node goes on", "the node is restarted"])
def test_a_pacs_that_was_down_gets_everything_once_it_is_up(model_folder: Path, tmp_path: Path, restart: bool) -> None:
    exams = [write_exam(tmp_path / name, name, stage) for name, stage in (("a", "N1"), ("b", "N0"), ("c", "no nodes"))]
    with (
        store_scp(tmp_path / "sink", running=False) as sink,
        node(tmp_path / "node", model_folder, [target(sink.port)]) as service,
    ):
        for files in exams:
            assert len(send_files(service.port, files).accepted) == len(files)
        service.wait(lambda: service.states() == ["done"] * 3, "all results are released")
        service.wait(lambda: service.jobs()[0]["attempts"], "the first was tried in vain")
        assert {job["state"] for job in service.jobs()} == {"pending"} and service.health()[0] == 200
        if restart:
            assert service.stop() == 0
        sink.start()
        if restart:
            service.start()
        assert {exam["state"] for exam in service.wait_settled(3).values()} == {"sent"}
        assert len(sink.received()) == 5
        assert {job["state"] for job in service.jobs()} == {"sent"}


def test_a_pacs_that_is_down_holds_up_no_other(model_folder: Path, tmp_path: Path) -> None:
    with (
        store_scp(tmp_path / "up") as up,
        store_scp(tmp_path / "down", running=False) as down,
        node(tmp_path / "node", model_folder, [target(down.port, "down"), target(up.port, "up")]) as service,
    ):
        send_files(service.port, write_exam(tmp_path / "a", "a"))
        wait_until(lambda: len(up.files()) == 2, "the other PACS has both objects")
        tried = lambda: [(job["target"], job["state"]) for job in service.jobs() if job["attempts"]]  # noqa: E731
        service.wait(lambda: tried() == [("down", "pending")], "the first PACS was tried in vain")
        assert service.states() == ["done"]


@needs_tmpfs
@pytest.mark.parametrize(
    ("min_free_mib", "leave"), [(8, 6 * MIB), (0, 0)], ids=["below the watermark", "no byte is left"]
)
def test_a_full_disk_is_told_to_the_sender_and_the_service_lives(
    model_folder: Path, tmp_path: Path, min_free_mib: int, leave: int
) -> None:
    files = write_exam(tmp_path / "a", "a")
    with (
        mounted(tmp_path / "disk", "32m") as disk,
        store_scp(tmp_path / "sink") as sink,
        node(
            tmp_path / "node",
            model_folder,
            [target(sink.port)],
            node={"spool": disk / "spool"},
            receive={"min_free_gib": min_free_mib / 1024},
        ) as service,
    ):
        ballast = disk / "ballast"
        fill(ballast, leave)
        sent = send_files(service.port, files)
        assert not sent.accepted and {words for _, words in sent.answers} == {REFUSED}, sent.output
        assert service.lives() and echo(service.port)
        if min_free_mib:
            status, health = service.health()
            assert status == 503 and [reason["code"] for reason in health["reasons"]] == ["disk-full"]
        ballast.unlink()
        _send_and_settle(service, files)
        assert len(sink.received()) == 2
        service.wait(lambda: service.health()[0] == 200, "the node is well again")


@needs_tmpfs
def test_a_disk_that_fills_up_within_an_exam_loses_nothing_that_was_taken(model_folder: Path, tmp_path: Path) -> None:
    files = write_exam(tmp_path / "a", "a")
    with (
        mounted(tmp_path / "disk", "32m") as disk,
        store_scp(tmp_path / "sink") as sink,
        node(tmp_path / "node", model_folder, [target(sink.port)], node={"spool": disk / "spool"}) as service,
    ):
        send_files(service.port, files[:3])  # the ledger has its row, and the log of its changes some room
        ballast = disk / "ballast"
        fill(ballast, 24 << 10)
        sent = send_files(service.port, files[3:])
        assert REFUSED in {words for _, words in sent.answers}
        assert service.lives() and echo(service.port)
        ballast.unlink()
        # What was refused is missing: half an exam is not staged, whatever time passes.
        service.wait(lambda: service.health()[0] == 200, "the node is well again")
        assert service.states() == ["receiving"] and not service.results()
        _send_and_settle(service, files)
        assert len(sink.received()) == 2


def _send_and_settle(service: NodeProcess, files: list[Path]) -> None:
    assert len(send_files(service.port, files).accepted) == len(files)
    assert [exam["state"] for exam in service.wait_settled(1).values()] == ["sent"]
