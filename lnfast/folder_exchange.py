"""Replace a folder atomically, and never one that must not be replaced: the core of `lnfast.atomic.replacing_folder`.

name is free     a single rename; it fails where another process has taken the name in the meantime
name is taken    the older folder is checked, the two names are exchanged in a single step (renameat2 with
                 RENAME_EXCHANGE), and the folder that came out is checked again: if it must not be replaced, the names
                 are exchanged back
no exchange      (network file systems, other systems than Linux) the same by way of a third name

No step overwrites anything, and a folder is deleted only if it passed the check after it was moved out. Where two names
can be exchanged no lock is needed. Where they cannot, the name is free for a moment, in which another process must not
take it: a lock file beside the folder prevents that.
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from lnfast.errors import UsageError

Check = Callable[[Path], None]
# An attempt fails when another process has put something there. More than a few failures never happen.
_ATTEMPTS = 100
_LOCK_TIMEOUT_S = 60.0
_NAME_IS_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM)


def replace_folder(work: Path, target: Path, names: frozenset[str], check: Check) -> None:
    """Rename a finished folder to ``target``. At every moment ``target`` is a whole folder or absent.

    Args:
        work: the finished folder, beside ``target``. Afterwards this name is free, or it names the older folder, which
            may be deleted.
        target: the name that the folder gets.
        names: of the files that the folder may hold.
        check: raises where the file or folder at a path must not be replaced.

    Raises:
        UsageError: ``output-exists`` when other processes wrote there at the same moment; otherwise what ``check``
            raises.
        OSError: of the file system.
    """
    ours = _identity(work)
    with nullcontext() if _can_exchange(target) else _lock_beside(target):
        for _ in range(_ATTEMPTS):
            if _renamed(work, target):
                return
            _check_unchanged(target, check)
            if not _exchange(work, target):
                if _replaced_by_moving(work, target, names, check):
                    return
            elif _is_replaceable(work, check):
                return
            else:
                _exchange_back(work, target, ours)
    raise OSError(errno.EBUSY, "other processes write there all the time", str(target))


def temporary_name(target: Path) -> Path:
    """Return a free name beside that of a file or folder."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")


def discard(folder: Path, names: frozenset[str]) -> None:
    """Delete a temporary folder that lnfast wrote: its known files, then the folder if it is empty."""
    with suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _renamed(source: Path, target: Path) -> bool:
    """Rename, unless the target exists; an empty folder counts as absent."""
    if not source.is_dir() and os.path.lexists(target):
        return False  # a file would replace a file
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in _NAME_IS_TAKEN and os.path.lexists(target):
            return False
        raise
    return True


def _check_unchanged(target: Path, check: Check) -> None:
    """Check the target; repeat the check where another process replaced the target during it."""
    for last in (False,) * _ATTEMPTS + (True,):
        before = _state(target)
        try:
            check(target)
        except (UsageError, OSError):
            if last or _state(target) == before:
                raise
        else:
            return


def _is_replaceable(folder: Path, check: Check) -> bool:
    try:
        check(folder)
    except (UsageError, OSError):
        return False
    return True


def _replaced_by_moving(work: Path, target: Path, names: frozenset[str], check: Check) -> bool:
    """Replace the target by way of a third name; False, with nothing changed, where another process interfered."""
    aside = temporary_name(target)
    try:
        os.rename(target, aside)
    except FileNotFoundError:
        return False
    replaceable = _is_replaceable(aside, check)
    if replaceable and _renamed(work, target):
        discard(aside, names)
        return True
    if not _renamed(aside, target):
        if replaceable and _is_replaceable(target, check):  # another process replaced the same folder
            discard(aside, names)
        else:
            _move_aside(aside, target)
    return False


def _exchange_back(work: Path, target: Path, ours: tuple[int, int] | None) -> None:
    """Undo an exchange that moved out a folder which must not be replaced."""
    if not _exchange(work, target):
        if not _renamed(work, target):
            _move_aside(work, target)
        raise FileNotFoundError(errno.ENOENT, "another process took it away", str(target))
    if _identity(work) != ours:
        _move_aside(work, target)


def _move_aside(folder: Path, target: Path) -> None:
    """Rename a folder that lost its name to another visible name.

    Raises:
        UsageError: ``output-exists``, always.
    """
    visible = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    os.rename(folder, visible)
    raise UsageError(
        "output-exists",
        f"other processes wrote {target} at the same moment; what one of them had written there is now {visible}; "
        "give each process an -o or name of its own",
    )


def _can_exchange(target: Path) -> bool:
    """Return whether the file system can exchange names; only a trial with two empty folders is reliable (0.1 ms)."""
    first, second = temporary_name(target), temporary_name(target)
    try:
        first.mkdir()
        second.mkdir()
        return _exchange(first, second)
    finally:
        discard(first, frozenset())
        discard(second, frozenset())


@contextmanager
def _lock_beside(target: Path) -> Iterator[None]:
    """Hold a lock file beside a name; the system releases it when the process dies.

    Raises:
        OSError: another process holds the lock for more than a minute.
    """
    path = target.with_name(f".{target.name}.lock")
    if sys.platform == "win32":
        from filelock import FileLock

        with FileLock(path, timeout=_LOCK_TIMEOUT_S):
            yield
        with suppress(OSError):
            path.unlink()  # refused where another process waits with the file open
        return
    import fcntl

    descriptor = _acquire_lock(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a fork of this process, which has the descriptor too
        os.close(descriptor)


def _acquire_lock(path: Path) -> int:
    """Return a descriptor of a lock file that this process holds and that still has its name."""
    import fcntl

    until = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _identity(path) == (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino):
                return descriptor  # else its owner deleted it during the wait
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                return descriptor  # no locks on this file system; without one nothing is overwritten either
        os.close(descriptor)
        if time.monotonic() > until:
            raise OSError(errno.EBUSY, "another process has been writing there for long", str(path))
        time.sleep(0.002)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a path, its links not followed; None where there is nothing."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _state(path: Path) -> tuple[int, ...] | None:
    """Return device, inode and time of the last change: inodes of deleted folders are reused at once."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_ctime_ns


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where that is not supported (Linux 3.15 and most of its file systems do)."""
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    status: int = renameat2(at_fdcwd, os.fsencode(first), at_fdcwd, os.fsencode(second), ctypes.c_uint(rename_exchange))
    return status == 0
