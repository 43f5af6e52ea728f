"""Atomic writes: files and folders that are whole or absent after any kill, full disk or power cut.

    write_file         write a file, replacing an older one
    write_new_file     write a file, unless one of that name exists
    replacing_file     as `write_file`, for writers that need a path
    new_folder         write a folder where none exists
    replacing_folder   write a folder, replacing an older one that the caller's check allows to be deleted

Everything is written under a temporary name beside the target, flushed to the disk, and renamed; then the parent folder
is flushed. Without the first flush a power cut may leave the new name without content, without the second it may lose
the name.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from lnfast.folder_exchange import Check, discard, replace_folder, temporary_name

# Writing takes milliseconds. A temporary folder this old was left by a process that died.
STALE_S = 3600.0
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_THREADS_AT_MOST = 16


def write_file(path: Path, content: bytes) -> None:
    """Write a file; readers see the old content or the new one, never a part of it.

    Args:
        path: of the file; its folder is created where it is missing.
        content: of the file.

    Raises:
        OSError: of the file system, with the file's name. Nothing is left behind, and an older file is unchanged.
    """
    with replacing_file(path) as work:
        work.write_bytes(content)


def write_new_file(path: Path, content: bytes) -> bool:
    """Write a file unless one of that name exists, also when another process writes it at the same moment.

    Args:
        path: of the file; its folder is created where it is missing.
        content: of the file.

    Returns:
        True if this call wrote the file. Always False where the file system has no hard links.

    Raises:
        OSError: of the file system, with the file's name. Nothing is left behind.
    """
    with _temporary_file(path) as work:
        work.write_bytes(content)
        flush(work)
        try:
            os.link(work, path)  # unlike a rename this never replaces
        except OSError:
            return False
        flush(path.parent)
    return True


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; the file replaces ``path`` when the block ends without an error.

    Args:
        path: of the file; its folder is created where it is missing.

    Yields:
        The temporary name, under which the block writes the file.

    Raises:
        OSError: of the file system, with the file's name. Nothing is left behind, and an older file is unchanged.
    """
    with _temporary_file(path) as work:
        yield work
        flush(work)
        os.replace(work, path)
        flush(path.parent)


@contextmanager
def new_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder with a temporary name, which becomes ``target`` when the block ends without an error.

    Args:
        target: must not exist, or be an empty folder.
        replace: delete an existing folder first. Between the deletion and the rename neither folder exists;
            `replacing_folder` has no such moment.

    Yields:
        The empty folder to write into. All files and folders in it are flushed at the end.

    Raises:
        OSError: of the file system, with a file's name; also where the target exists and is not empty. Nothing is left
            behind.
    """
    work = temporary_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        yield work
        flush(*work.rglob("*"), work)
        if replace and target.is_dir():
            shutil.rmtree(target)
        elif os.name != "posix" and target.is_dir():
            target.rmdir()  # POSIX renames over an empty folder
        os.rename(work, target)
        flush(target.parent)
    except OSError as error:
        _name(error, target)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def replacing_folder(
    target: Path, names: frozenset[str], check: Check, *, flushed: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Yield a new folder with a temporary name, which replaces ``target`` when the block ends without an error.

    An older folder is exchanged for the new one in a single step where the system can; see `lnfast.folder_exchange`.

    Args:
        target: the folder to write; an older one is deleted.
        names: of the files that the folder may hold; nothing else is ever deleted.
        check: raises where the file or folder at a path must not be replaced. It is called at the end of the block, and
            again on the folder that was moved out: another process may have put one there since the first call.
        flushed: names of files that the block flushes itself; all others are flushed at its end.

    Yields:
        The empty folder to write into.

    Raises:
        OSError: of the file system, with a file's name. Nothing is left behind, and an older folder is unchanged.
        Exception: what ``check`` raises; the same holds.
    """
    work = temporary_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent, names)
        work.mkdir()
        yield work
        flush(*(path for path in work.iterdir() if path.name not in flushed), work)
        replace_folder(work, target, names, check)
        flush(target.parent)
    except OSError as error:
        _name(error, target)
        raise
    finally:
        discard(work, names)


def flush(*paths: Path) -> None:
    """Flush files and folders to the disk in parallel: a journal commits them together (5 ms; one by one 20 ms)."""
    if len(paths) == 1:  # without the 0.3 ms of a thread: the node does this twice for each instance
        _fsync(paths[0])
        return
    with ThreadPoolExecutor(min(len(paths), _THREADS_AT_MOST)) as pool:
        list(pool.map(_fsync, paths))


def _fsync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # only POSIX opens folders
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside a file's; a file that still has it after the block is deleted."""
    work = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield work
    except OSError as error:
        if error.filename == str(work):
            error.filename = str(path)
        _name(error, path)
        raise
    finally:
        with suppress(OSError):
            work.unlink(missing_ok=True)


def _name(error: OSError, path: Path) -> None:
    """Add the file's name to an error that has none: that of a full disk has none."""
    if error.filename is None:
        error.filename = str(path)


def _remove_stale(folder: Path, names: frozenset[str]) -> None:
    """Delete temporary folders that processes which died left behind."""
    oldest = time.time() - STALE_S
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if entry.name[0] == "." and _TEMPORARY.fullmatch(entry.name)]
    for entry in left:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                discard(Path(entry.path), names)
