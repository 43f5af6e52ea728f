"""What a start does with what a kill, a damaged ledger or somebody's hand left in the spool."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_disks import fill, needs_tmpfs, small_disk

from lnfast.errors import BackendError, LnfastError
from lnfast.node.ledger import Ledger, NewResult, StoredResult
from lnfast.node.spool import Spool
from lnfast.node.spool.recovery import Recovered, open_and_recover

__all__ = ["small_disk"]  # a fixture

TESTS = Path(__file__).parents[1]
A, B = "a" * 16, "b" * 16
CALM = Recovered(None, None, False, 0, (), 0, (), 0)


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: what is killed here loses no page of the kernel's."""
    memory = Path("/dev/shm")
    folder = memory / f"lnfast-{os.getpid()}-{tmp_path.name}" if os.access(memory, os.W_OK) else tmp_path / "fast"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(
    ("segment", "step"), [("start", 9), ("receive", 7), ("run", 5), ("send", 5), ("purge", 5), ("damaged", 17)]
)
def test_a_kill_at_any_line_loses_nothing(segment: str, step: int, fast_folder: Path) -> None:
    """Some lines; ``python tests/killed_node.py SEGMENT FOLDER`` takes every one, which needs a minute."""
    command = [sys.executable, str(TESTS / "killed_node.py"), segment, str(fast_folder), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= 15


# ------------------------------------------------------------------------------------------------- by somebody's hand


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def received(spool: Spool, ledger: Ledger, exam: str = A, instances: int = 2) -> None:
    ledger.exam_received(exam)
    for number in range(instances):
        part = spool.new_part()
        part.write_bytes(b"image")
        spool.store(part, exam, str(number))
    ledger.exam_ended_receiving(exam, "released", instances=instances)


def placed(spool: Spool, exam: str = A, number: int = 1, fingerprint: str = "f" * 64) -> None:
    folder = spool.new_result() / exam
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"study": {"sha256": fingerprint}, "summary": {"n_stage": "N1"}}))
    (folder / "sr.dcm").write_bytes(b"report")
    spool.place_result(folder, exam, number)


def stored(spool: Spool, ledger: Ledger, exam: str = A) -> StoredResult:
    number = ledger.next_number(exam)
    placed(spool, exam, number)
    return ledger.store_result(NewResult(exam, number, 1, "f" * 64, "r", "N1"))


def restart(spool: Spool, *targets: str) -> tuple[Ledger, Recovered]:
    return open_and_recover(Spool(spool.root), targets or ("pacs",))


def state(ledger: Ledger, exam: str = A) -> str:
    row = ledger.exam(exam)
    assert row is not None
    return row.state


def test_a_start_after_a_stop_changes_nothing(spool: Spool) -> None:
    ledger, recovered = restart(spool)
    assert recovered == CALM
    with ledger:
        received(spool, ledger)
        ledger.release(stored(spool, ledger).id, ["pacs"])
        before = (ledger.exams(), ledger.jobs(), ledger.results(A))
    ledger, recovered = restart(spool)
    with ledger:
        assert recovered == CALM and (ledger.exams(), ledger.jobs(), ledger.results(A)) == before


def test_a_half_instance_an_unknown_result_and_an_interrupted_run(spool: Spool) -> None:
    with restart(spool)[0] as ledger:
        received(spool, ledger)
        spool.new_part().write_bytes(b"ima")
        ledger.begin_run(A)
        placed(spool)
    ledger, recovered = restart(spool)
    with ledger:
        assert (recovered.parts, recovered.interrupted, recovered.results) == (1, (A,), 0)
        assert spool.result_numbers(A) == (), "it would be run again under this number"
        row = ledger.exam(A)
        assert row and (row.state, row.attempts, row.started_at) == ("receiving", 1, None)


def test_an_instance_that_the_ledger_did_not_hear_of_takes_the_exam_up_again(spool: Spool) -> None:
    with restart(spool)[0] as ledger:
        received(spool, ledger)
        ledger.refuse(A, "no-high-b", "")
        part = spool.new_part()
        part.write_bytes(b"late")
        spool.store(part, A, "9")
    ledger, recovered = restart(spool)
    with ledger:
        assert recovered.adopted == (A,) and state(ledger) == "receiving"


def test_an_exam_of_which_nothing_came_is_forgotten(spool: Spool) -> None:
    with restart(spool)[0] as ledger:
        ledger.exam_received(A)
    spool.instances(B).mkdir(parents=True)
    with restart(spool)[0] as ledger:
        assert ledger.exams() == [] and spool.exams() == ()


def test_what_was_never_released_and_is_gone_is_run_again_and_what_waits_is_dead(spool: Spool) -> None:
    with restart(spool)[0] as ledger:
        for exam in (A, B):
            received(spool, ledger, exam)
        stored(spool, ledger, A)
        ledger.release(stored(spool, ledger, B).id, ["pacs", "old"])
        for exam in (A, B):
            shutil.rmtree(spool.result_folder(exam, 1))
    ledger, recovered = restart(spool, "pacs")
    with ledger:
        assert ledger.results(A) == [] and state(ledger, A) == "receiving"
        assert recovered.dead_jobs == 2
        assert [(job.target, job.code) for job in ledger.jobs(B)] == [
            ("pacs", "result-missing"),
            ("old", "no-such-target"),
        ]
        assert state(ledger, B) == "dead"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_within_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garbage(path: Path) -> None:
    path.write_bytes(b"\xa5" * 40960)


def zeros_within(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:16384] = bytes(12288)
    path.write_bytes(content)


def tables_gone(path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE jobs")
    connection.close()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, cut_within_a_page, garbage, zeros_within, tables_gone, empty, gone])
def test_a_lost_ledger_is_told_and_everything_is_taken_in_from_the_files(
    spool: Spool, damage: Callable[[Path], None]
) -> None:
    with restart(spool)[0] as ledger:
        received(spool, ledger, A, 3)
        ledger.release(stored(spool, ledger).id, ["pacs"])
        received(spool, ledger, B)
        broken = spool.new_result() / B
        broken.mkdir(parents=True)
        (broken / "report.json").write_text("{")
        spool.place_result(broken, B, 1)
    before = (spool.result_folder(A, 1) / "sr.dcm").stat()
    damage(spool.ledger_path)
    there = damage not in (empty, gone)
    if there:
        with pytest.raises(LnfastError) as refused:
            Ledger(spool.ledger_path)
        assert refused.value.code == "ledger-damaged"
    ledger, recovered = restart(spool)
    with ledger:
        assert recovered.lost == ("ledger-damaged" if there else "ledger-missing")
        assert (recovered.aside is not None and recovered.aside.exists()) == there
        assert (recovered.adopted, recovered.results) == ((A, B), 1)
        assert {exam.id: (exam.state, exam.ended, exam.instances) for exam in ledger.exams()} == {
            A: ("receiving", None, 3),
            B: ("receiving", None, 2),
        }
        assert any(event.code == recovered.lost for event in ledger.events())
        result = ledger.results(A)[0]
        assert (result.number, result.fingerprint, result.released_at) == (1, "f" * 64, None)
        assert (spool.result_folder(A, 1) / "sr.dcm").stat().st_mtime_ns == before.st_mtime_ns
        assert spool.result_numbers(B) == ()
        ledger.release(result.id, ["pacs"])
        assert state(ledger) == "done"
    ledger, recovered = restart(spool)
    with ledger:
        assert recovered == CALM


def test_a_new_key_is_told(spool: Spool) -> None:
    with restart(spool)[0] as ledger:
        received(spool, ledger)
    (spool.root / "id.key").unlink()
    ledger, recovered = restart(spool)
    with ledger:
        assert recovered.key_lost and [event.kind for event in ledger.events(most=1)] == ["key-lost"]
        assert state(ledger) == "receiving"


@needs_tmpfs
def test_a_start_on_a_full_disk_says_so_and_loses_nothing(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool")
    with restart(spool)[0] as ledger:
        received(spool, ledger)
    fill(small_disk / "filler")
    with pytest.raises(BackendError) as refused:
        restart(spool)
    assert refused.value.code == "spool-full"
    (small_disk / "filler").unlink()
    ledger, recovered = restart(spool)
    with ledger:
        assert recovered == CALM and state(ledger) == "receiving"
