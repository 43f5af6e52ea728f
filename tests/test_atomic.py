"""Files and folders are whole or absent, whatever happens in the middle."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lnfast import atomic
from lnfast.atomic import new_folder, replacing_file, replacing_folder, write_file, write_new_file
from lnfast.errors import UsageError

NAMES = frozenset({"a.txt", "b.txt"})


def allow(folder: Path) -> None:
    """Every folder may be replaced."""


def write_folder(way: Callable[[], AbstractContextManager[Path]], text: str = "new") -> None:
    with way() as work:
        for name in NAMES:
            (work / name).write_text(text)


def writers(tmp_path: Path) -> dict[str, Callable[[], object]]:
    return {
        "file": lambda: write_file(tmp_path / "target", b"new"),
        "new file": lambda: write_new_file(tmp_path / "target", b"new"),
        "new folder": lambda: write_folder(lambda: new_folder(tmp_path / "target")),
        "folder": lambda: write_folder(lambda: replacing_folder(tmp_path / "target", NAMES, allow)),
    }


WAYS = ["file", "new file", "new folder", "folder"]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_is_flushed_before_it_has_its_name_and_the_name_afterwards(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []
    real = atomic._fsync

    def fsync(path: Path) -> None:
        flushed.append((path.name, (tmp_path / "target").exists()))
        real(path)

    monkeypatch.setattr(atomic, "_fsync", fsync)
    writers(tmp_path)[way]()
    before = [name for name, named in flushed if not named]
    after = [name for name, named in flushed if named]
    assert after == [tmp_path.name]
    assert all(name.startswith(".target.") or name in NAMES for name in before)
    assert set(before) >= (NAMES if "folder" in way else set()) and len(before) == (3 if "folder" in way else 1)
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_leaves_nothing_and_its_error_names_a_file(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        writers(tmp_path)[way]()
    assert caught.value.filename == str(tmp_path / "target")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "file", b"old")
    write_folder(lambda: replacing_folder(tmp_path / "folder", NAMES, allow), "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "file", b"new")
    with pytest.raises(OSError, match="No space left"):
        write_folder(lambda: replacing_folder(tmp_path / "folder", NAMES, allow))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert {path.read_text() for path in (tmp_path / "folder").iterdir()} == {"old"}
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("way", WAYS)
def test_a_read_only_folder(tmp_path: Path, way: str) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            writers(tmp_path)[way]()
    finally:
        tmp_path.chmod(0o700)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_that_refuses_writing_is_an_error_that_names_the_target(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By patches: whoever runs the tests as root may write everywhere."""

    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", denied)
        patched.setattr(Path, "write_text", denied)
        with pytest.raises(PermissionError) as caught:
            writers(tmp_path)[way]()
    assert str(caught.value.filename).startswith(str(tmp_path))
    assert ".tmp" not in str(caught.value.filename) or "folder" in way
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("way", [replacing_file, new_folder])
def test_an_error_in_the_block_leaves_nothing(
    tmp_path: Path, way: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    with pytest.raises(KeyboardInterrupt), way(tmp_path / "target") as work:
        (work / "part" if way is new_folder else work).write_bytes(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_there_is_not_written_anew(tmp_path: Path) -> None:
    assert write_new_file(tmp_path / "a" / "target", b"first")
    assert not write_new_file(tmp_path / "a" / "target", b"second")
    assert (tmp_path / "a" / "target").read_bytes() == b"first"
    assert os.listdir(tmp_path / "a") == ["target"]


def test_a_new_folder_replaces_an_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as work:
        (work / "inner").mkdir()
        (work / "inner" / "a.txt").write_text("new")
    assert (tmp_path / "empty" / "inner" / "a.txt").read_text() == "new"
    with pytest.raises(OSError, match="not empty"), new_folder(tmp_path / "empty") as work:
        (work / "b.txt").write_text("other")
    assert os.listdir(tmp_path / "empty") == ["inner"]
    with new_folder(tmp_path / "empty", replace=True) as work:
        (work / "b.txt").write_text("other")
    assert os.listdir(tmp_path / "empty") == ["b.txt"] and os.listdir(tmp_path) == ["empty"]


def test_a_folder_that_must_stay_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "thesis.txt").write_text("mine")

    def refuse(folder: Path) -> None:
        raise UsageError("output-exists", "somebody's")

    with pytest.raises(UsageError, match="output-exists"):
        write_folder(lambda: replacing_folder(tmp_path / "target", NAMES, refuse))
    assert os.listdir(tmp_path) == ["target"] and os.listdir(tmp_path / "target") == ["thesis.txt"]


WRITE_FOREVER = """
import sys
from pathlib import Path
from lnfast.atomic import replacing_folder, write_file
out, turn = Path(sys.argv[1]), 0
while True:
    print(flush=True)
    turn += 1
    text = (str(turn % 10) * 100_000).encode()
    write_file(out / "file", text)
    with replacing_folder(out / "folder", frozenset({"a.txt", "b.txt"}), lambda folder: None) as work:
        (work / "a.txt").write_bytes(text)
        (work / "b.txt").write_bytes(text)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_kill_at_any_moment_leaves_whole_files_and_folders(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(2):
                child.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.03))
            child.send_signal(signal.SIGKILL)
        content = (tmp_path / "file").read_bytes()
        assert len(content) == 100_000 and len(set(content)) == 1
        first, second = ((tmp_path / "folder" / name).read_bytes() for name in sorted(NAMES))
        assert first == second and len(first) == 100_000 and len(set(first)) == 1
    write_file(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
