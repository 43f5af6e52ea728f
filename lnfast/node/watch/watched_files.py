"""Files that another program may still be writing: seen, opened and copied only as long as they are what they were."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Stamp = tuple[int, int, int]
"""Size, time of the last change in nanoseconds, and number of a file."""

_UNFINISHED = (".tmp", ".part")
_CHUNK = 1 << 20


class ChangedError(Exception):
    """A file is another than it was."""


def is_unfinished(name: str) -> bool:
    """Whether a name, or a part of a path, says that its writer is not done with it."""
    return any(part.endswith(_UNFINISHED) for part in name.split(os.sep))


def files_below(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """The ordinary files below a folder with their stamps, by name; links are passed over."""
    folders = [""]
    while folders:
        inner = folders.pop()
        for entry in sorted(os.scandir(folder / inner), key=lambda entry: entry.name):
            name = os.path.join(inner, entry.name)
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif entry.is_file(follow_symlinks=False):
                yield name, _stamp(entry.stat(follow_symlinks=False))


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextmanager
def opened(path: Path, stamp: Stamp) -> Iterator[int]:
    """Open a file that is still what it was, without following a link.

    Raises:
        ChangedError: it is not.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ChangedError from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or _stamp(status) != stamp:
            raise ChangedError
        yield descriptor
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file; one that is not there is none."""
    with suppress(FileNotFoundError):
        path.unlink()


def copy_file(source: Path, stamp: Stamp, target: Path) -> None:
    """Copy a file that is still what it was to a new name.

    Raises:
        ChangedError: it is not; the target is not there.
        OSError: of the file system.
    """
    try:
        with opened(source, stamp) as descriptor:
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                at = 0
                while chunk := os.pread(descriptor, _CHUNK, at):
                    copy.write(chunk)
                    at += len(chunk)
            if at != stamp[0] or _stamp(os.fstat(descriptor)) != stamp:
                raise ChangedError
    except BaseException:
        remove(target)
        raise
