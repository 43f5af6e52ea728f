"""The spool: instances are stored whole and durably or not at all, and nothing in it is named for a patient."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_disks import fill, needs_tmpfs, small_disk

from lnfast.errors import BackendError, UsageError
from lnfast.node.spool import Spool, Stored, is_running
from lnfast.node.spool import spool as spool_module

__all__ = ["small_disk"]  # a fixture

UID = "1.2.840.113619.2.SECRET"
EXAM = "0123456789abcdef"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def store(spool: Spool, content: bytes, sop_uid: str = UID, exam: str = EXAM) -> Stored:
    part = spool.new_part()
    part.write_bytes(content)
    stored = spool.store(part, exam, sop_uid)
    assert not part.exists()
    return stored


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_an_instance_is_stored_once_and_replaced_by_another(spool: Spool) -> None:
    first = store(spool, b"one")
    assert (first.outcome, first.path.read_bytes()) == ("new", b"one")
    assert first.path.parent == spool.instances(EXAM)
    assert store(spool, b"one") == Stored(first.path, "same")
    assert store(spool, b"other") == Stored(first.path, "replaced")
    assert first.path.read_bytes() == b"other"
    assert store(spool, b"one", "1.2.3").outcome == "new"
    assert spool.count_instances(EXAM) == 2 and spool.count_instances("f" * 16) == 0
    assert spool.exams() == (EXAM,)


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "1.2\0.3", "a" * 5000, "", UID])
def test_no_name_holds_a_uid_or_leads_elsewhere(spool: Spool, uid: str, tmp_path: Path) -> None:
    exam = spool.exam_id(uid)
    path = store(spool, b"x", uid, exam).path
    assert path.parent.parent.parent == spool.root / "exams" and path.is_file()
    assert "SECRET" not in "".join(names(tmp_path))
    assert len(exam) == 16 and int(exam, 16) >= 0


def test_an_exam_keeps_its_id_and_another_box_gives_another(spool: Spool, tmp_path: Path) -> None:
    assert Spool(spool.root).exam_id(UID) == spool.exam_id(UID) != spool.exam_id(UID + "1")
    assert Spool(tmp_path / "other").exam_id(UID) != spool.exam_id(UID)


def test_others_may_read_nothing(spool: Spool) -> None:
    store(spool, b"x")
    assert spool.root.stat().st_mode & 0o077 == 0
    assert (spool.root / "id.key").stat().st_mode & 0o077 == 0
    spool.root.chmod(0o755)
    assert Spool(spool.root).root.stat().st_mode & 0o077 == 0


def test_a_result_appears_whole_and_may_be_written_again(spool: Spool) -> None:
    for content in ("first", "second"):
        written = spool.new_result() / "name"
        written.mkdir(parents=True)
        (written / "report.json").write_text(content)
        assert spool.place_result(written, EXAM, 1) == spool.result_folder(EXAM, 1)
        assert (spool.result_folder(EXAM, 1) / "report.json").read_text() == content
    assert spool.result_numbers(EXAM) == (1,)
    spool.remove_result(EXAM, 1)
    assert spool.result_numbers(EXAM) == ()


def test_a_start_deletes_what_is_half(spool: Spool) -> None:
    whole = store(spool, b"x").path
    spool.new_part().write_bytes(b"half")
    (spool.new_result() / "name").mkdir(parents=True)
    (spool.root / "trash" / "0" / "instances").mkdir(parents=True)
    assert spool.clean() == 1
    assert names(spool.root / "incoming") == names(spool.root / "trash") == [] and whole.exists()


def test_a_removed_exam_may_come_again(spool: Spool) -> None:
    path = store(spool, b"x").path
    (spool.result_folder(EXAM, 1)).mkdir(parents=True)
    assert spool.remove(EXAM)
    assert not path.exists() and spool.exams() == spool.result_numbers(EXAM) == ()
    assert names(spool.root / "trash") == []
    assert store(spool, b"x").outcome == "new"


def test_only_one_node_works_with_a_spool(spool: Spool) -> None:
    assert not is_running(spool.root)
    with spool.lock():
        assert is_running(spool.root)
        with pytest.raises(UsageError) as refused, Spool(spool.root).lock():
            raise AssertionError("two nodes have one spool")
        assert refused.value.code == "node-running"
    assert not is_running(spool.root)


def test_room_is_what_stays_free(spool: Spool) -> None:
    assert spool.has_room() and spool.free_bytes() > 0
    assert not Spool(spool.root, min_free_bytes=1 << 60).has_room()


def test_a_spool_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendError) as refused:
        Spool(tmp_path / "file" / "spool")
    assert refused.value.code == "spool-failed"


# --------------------------------------------------------------------------------------------------- the disk says no


@needs_tmpfs
def test_a_full_disk_leaves_no_half_file_and_an_older_instance(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", min_free_bytes=1 << 17)
    old = store(spool, b"old").path
    assert spool.has_room()
    fill(small_disk / "filler")
    assert not spool.has_room()
    with pytest.raises(BackendError) as refused, spool.writing(), spool.new_part().open("wb", buffering=0) as file:
        for _ in range(3):
            file.write(b"x" * 4096)
    assert refused.value.code == "spool-full"
    assert spool.clean() == 1 and old.read_bytes() == b"old"
    (small_disk / "filler").unlink()
    assert spool.has_room() and store(spool, b"new").outcome == "replaced"


@pytest.mark.parametrize("place", ["flush", "mkdir", "replace"])
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "spool-full"), (errno.EIO, "spool-failed")])
def test_whatever_the_disk_refuses_an_older_instance_stays(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, place: str, number: int, code: str
) -> None:
    old = store(spool, b"old").path
    part = spool.new_part()
    part.write_bytes(b"new")

    def refuse(*paths: Path, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(part))

    exam = "f" * 16 if place == "mkdir" else EXAM
    monkeypatch.setattr({"flush": spool_module, "mkdir": Path, "replace": os}[place], place, refuse)
    with pytest.raises(BackendError) as refused:
        spool.store(part, exam, UID)
    assert refused.value.code == code and part.name not in refused.value.message
    assert old.read_bytes() == b"old" and not part.exists() and names(spool.root / "incoming") == []


def test_threads_that_store_at_once(spool: Spool) -> None:
    """Two scanners send one exam, and one of them another instance under the same UIDs."""

    def send(number: int) -> list[str]:
        return [store(spool, b"%d" % (number % 2), str(uid)).outcome for uid in range(30)]

    with ThreadPoolExecutor(6) as pool:
        outcomes = [outcome for found in pool.map(send, range(6)) for outcome in found]
    assert outcomes.count("new") == 30 and spool.count_instances(EXAM) == 30
    assert {path.read_bytes() for path in spool.instances(EXAM).iterdir()} <= {b"0", b"1"}
    assert names(spool.root / "incoming") == []
