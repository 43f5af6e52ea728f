"""The watch folder: what is taken, what stays with its reason, and that nothing is ever lost on the way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from exam_desks import Desk, node_config
from exam_files import write_exam

from lnfast.engine import Engine
from lnfast.errors import BackendError
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool, Stored
from lnfast.node.watch import EXAMS, POLL_S, WatchFolder

QUIET_S = 30


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> Iterator[Engine]:
    with Engine(model_folder, backend="openvino", precision="fp32") as engine:
        yield engine


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "in").mkdir()
    config = node_config(tmp_path / "node", f'[watch]\npath = "{tmp_path / "in"}"\n')
    spool = Spool(config.spool)
    with Ledger(spool.ledger_path) as ledger:
        yield Desk(config, engine, spool, ledger)


def watch_of(desk: Desk) -> WatchFolder:
    return WatchFolder(desk.config, desk.spool, desk.ledger, desk.arrivals, desk.metrics, clock=desk.clock)


@pytest.fixture
def watch(desk: Desk) -> WatchFolder:
    return watch_of(desk)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "in"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_exam(tmp_path / "exam", "1")


def put(files: list[Path], folder: Path, *, complete: bool = True) -> Path:
    """Copy files into a subfolder of the watch folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(files):
        shutil.copyfile(path, folder / f"SECRET^NAME {number}.IMA")
    if complete:
        (folder / ".complete").touch()
    return folder


def refusal(root: Path, name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((root / f"{name}.refused.json").read_bytes())
    return content


def wait(desk: Desk, watch: WatchFolder, seconds: float) -> None:
    """Let time go by while the folder is watched."""
    for _ in range(int(seconds / POLL_S) + 1):
        desk.clock.now += POLL_S
        watch.poll()
        desk.work()


def test_a_complete_folder_is_taken_at_once_and_its_result_released(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path]
) -> None:
    put(files[:4], root / "patient" / "inner")
    put(files[4:], root / "patient")
    watch.poll()
    assert [path.name for path in root.iterdir()] == [EXAMS]
    exam = desk.exam(files[0])
    assert desk.spool.count_instances(exam) == len(files)
    wait(desk, watch, 11)
    assert desk.state(exam) == ("done", None) and [result.n_stage for result in desk.released] == ["N1"]
    assert desk.metrics.value("watch_folders_total", outcome="taken") == 1
    watch.poll()
    assert json.loads((root / EXAMS).read_bytes()) == {}


def test_a_folder_that_grows_is_not_taken_until_it_was_quiet(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path]
) -> None:
    for number in range(1, len(files) + 1):
        put(files[:number], root / "grows", complete=False)
        wait(desk, watch, 20)
        assert desk.ledger.exams() == []
    wait(desk, watch, QUIET_S)
    assert desk.spool.count_instances(desk.exam(files[0])) == len(files)
    assert not (root / "grows").exists()


def test_a_file_that_grows_keeps_its_folder(desk: Desk, watch: WatchFolder, root: Path, files: list[Path]) -> None:
    folder = put(files, root / "grows", complete=False)
    last = sorted(folder.iterdir())[-1]
    content = last.read_bytes()
    for size in range(1000, len(content), 500):
        last.write_bytes(content[:size])
        wait(desk, watch, 10)
    assert desk.ledger.exams() == []


@pytest.mark.parametrize("name", ["slice.dcm.tmp", "slice.part", "copying.tmp/slice.dcm"])
def test_a_folder_with_an_unfinished_file_waits(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], name: str
) -> None:
    folder = put(files, root / "waits")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"half")
    wait(desk, watch, 100)
    assert desk.ledger.exams() == [] and len(list(folder.rglob("*.IMA"))) == len(files)
    (folder / name).unlink()
    watch.poll()
    assert len(desk.ledger.exams()) == 1


def test_a_folder_under_a_temporary_name_waits_for_its_own(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path]
) -> None:
    put(files, root / "exam.tmp")
    put(files, root / ".hidden")
    wait(desk, watch, 100)
    assert desk.ledger.exams() == []
    (root / "exam.tmp").rename(root / "exam")
    watch.poll()
    assert len(desk.ledger.exams()) == 1


def test_one_file_that_cannot_be_read_refuses_the_folder(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = put(files, root / "SECRET")
    cut = sorted(folder.glob("*.IMA"))[3]
    cut.write_bytes(cut.read_bytes()[:300])
    before = sorted(path.name for path in folder.iterdir())
    wait(desk, watch, 20)
    assert desk.ledger.exams() == [] and sorted(path.name for path in folder.iterdir()) == before
    assert refusal(root, "SECRET") == {
        "code": "damaged",
        "message": "a DICOM file does not say which instance it is; export it again",
        "file": cut.name,
    }
    assert desk.metrics.value("watch_folders_total", outcome="refused") == 1  # once, however often it is looked at
    assert "SECRET" not in caplog.text
    shutil.copyfile(files[3], cut)
    watch.poll()
    assert len(desk.ledger.exams()) == 1 and not (root / "SECRET.refused.json").exists()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_an_encoding_that_is_not_read_refuses_the_folder(
    watch: WatchFolder, root: Path, files: list[Path], syntax: str
) -> None:
    folder = put(files[:1], root / "exam")
    (path,) = folder.glob("*.IMA")
    uid = b"1.2.840.10008.1.2.1\0"
    content = path.read_bytes()
    at = content.index(uid)
    length = int.from_bytes(content[at - 2 : at], "little")
    new = syntax.encode().ljust(len(syntax) + len(syntax) % 2, b"\0")
    path.write_bytes(content[: at - 2] + len(new).to_bytes(2, "little") + new + content[at + length :])
    watch.poll()
    assert refusal(root, "exam")["code"] == "unsupported-transfer-syntax"


def test_a_file_that_is_too_large_refuses_the_folder(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path]
) -> None:
    folder = put(files, root / "exam")
    with open(sorted(folder.glob("*.IMA"))[0], "ab") as file:
        file.truncate(desk.config.receive.max_instance_bytes + 1)
    with open(folder / "movie.mp4", "wb") as file:
        file.truncate(desk.config.receive.max_instance_bytes + 1)
    watch.poll()
    assert refusal(root, "exam")["code"] == "too-large" and desk.ledger.exams() == []


def test_what_is_no_image_stays_with_its_reason(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], tmp_path: Path
) -> None:
    folder = put(files, root / "exam")
    (folder / "notes.txt").write_text("notes")
    (folder / "study.nii.gz").write_bytes(b"\x1f\x8b nifti")
    other = pydicom.dcmread(files[0])
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    other.save_as(folder / "capture.dcm")
    watch.poll()
    assert sorted(path.name for path in folder.iterdir()) == ["capture.dcm", "notes.txt", "study.nii.gz"]
    left = {"capture.dcm": "no-mr-image", "notes.txt": "not-dicom", "study.nii.gz": "not-dicom"}
    assert refusal(root, "exam")["left"] == left and refusal(root, "exam")["code"] == "files-left"
    wait(desk, watch, 100)
    assert len(desk.ledger.exams()) == 1 and desk.metrics.value("watch_folders_total", outcome="taken") == 1


def test_a_folder_without_images_is_refused(desk: Desk, watch: WatchFolder, root: Path) -> None:
    folder = root / "nifti"
    folder.mkdir()
    (folder / "study.nii.gz").write_bytes(b"\x1f\x8b nifti")
    wait(desk, watch, QUIET_S)
    assert refusal(root, "nifti")["code"] == "no-mr-image" and (folder / "study.nii.gz").exists()


def test_links_are_not_followed(desk: Desk, watch: WatchFolder, root: Path, files: list[Path], tmp_path: Path) -> None:
    outside = put(files, tmp_path / "outside")
    (root / "link").symlink_to(outside)
    folder = put(files[:2], root / "exam")
    (folder / "file.dcm").symlink_to(outside / "SECRET^NAME 5.IMA")
    (folder / "inner").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    wait(desk, watch, 100)
    assert desk.spool.count_instances(desk.exam(files[0])) == 2
    assert len(list(outside.glob("*.IMA"))) == len(files)


def test_files_beside_the_folders_are_left_and_said(
    watch: WatchFolder, root: Path, files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copyfile(files[0], root / "SECRET.dcm")
    watch.poll()
    watch.poll()
    assert (root / "SECRET.dcm").exists()
    assert caplog.text.count("beside the subfolders") == 1 and "SECRET" not in caplog.text


def test_why_an_exam_has_no_result_stands_beside_its_folder_also_after_a_restart(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path]
) -> None:
    put(files[:8], root / "low")
    watch.poll()
    desk.restart()
    watch = watch_of(desk)
    desk.after(905, step=5)
    watch.poll()
    exam = desk.exam(files[0])
    assert refusal(root, "low") == {"exam": exam, "code": "no-high-b", "message": desk.ledger.exam(exam).message}  # type: ignore[union-attr]
    put(files[8:], root / "low")
    wait(desk, watch, 12)
    assert desk.state(exam) == ("done", None) and not (root / "low.refused.json").exists()


def test_a_full_disk_leaves_the_folder_and_it_is_taken_later(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(files, root / "exam")
    store, count = desk.spool.store, iter(range(100))

    def full(*arguments: object) -> Stored:
        if next(count) == 10:
            raise BackendError("spool-full", "the disk is full")
        return store(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.spool, "store", full)
    with pytest.raises(BackendError):
        watch.poll()
    assert len(list(folder.glob("*.IMA"))) == len(files)
    desk.after(30)
    assert not desk.released
    watch.poll()
    desk.after(11)
    assert not folder.exists() and [result.n_stage for result in desk.released] == ["N1"]


def test_a_folder_that_changes_while_it_is_taken_is_not_whole(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(files[:-1], root / "exam")
    store = desk.spool.store

    def growing(*arguments: object) -> Stored:
        shutil.copyfile(files[-1], folder / "late.dcm")
        return store(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(desk.spool, "store", growing)
        watch.poll()
    desk.after(20)
    assert not desk.released and len(list(folder.iterdir())) == len(files) + 1
    wait(desk, watch, 12)
    assert [result.n_stage for result in desk.released] == ["N1"] and not folder.exists()


def test_a_crash_between_storing_and_deleting_takes_the_folder_again(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Death(BaseException):
        pass

    def die(*_: object) -> None:
        raise Death

    folder = put(files, root / "exam")
    with monkeypatch.context() as patch:
        patch.setattr(WatchFolder, "_empty", die)
        with pytest.raises(Death):
            watch.poll()
    assert len(list(folder.glob("*.IMA"))) == len(files)
    desk.restart()
    watch = watch_of(desk)
    wait(desk, watch, 12)
    assert not folder.exists() and len(desk.released) == 1
    wait(desk, watch, 12)
    assert len(desk.released) == 1


def test_a_thread_watches_until_it_is_stopped(
    desk: Desk, watch: WatchFolder, root: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_network import wait_until

    monkeypatch.setattr("lnfast.node.watch.watch.POLL_S", 0.05)
    shutil.rmtree(root)  # a share that is not mounted
    watch.start()
    (thread,), (life,) = watch.threads, watch.lives
    try:
        root.mkdir()
        put(files, root / "exam")
        wait_until(lambda: desk.ledger.exams(), "the folder is taken", 10, alive=thread.is_alive)
        assert not life.overdue()
    finally:
        watch.stop()
    assert not thread.is_alive()
