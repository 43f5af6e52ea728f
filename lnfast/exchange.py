"""Give a finished folder its name without ever losing a folder that must not be replaced; the core of `lnfast.atomic`.

name is free     a single rename, which fails where another process took the name meanwhile
name is taken    the folder there is checked, the two names are exchanged in a single step, and what came out is checked
                 again: if it must not be replaced, the names are exchanged back
no exchange      (network file systems, other systems than Linux) the same by way of a third name

Every step refuses to overwrite, and a folder is deleted only if it passed the check after it was taken out. Where two
names can be exchanged no lock is needed. Where they cannot, the name is free for a moment, in which another process
must not take it: a lock file beside the folder prevents that.
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
# A round fails when another process put something there. More than a few never happen.
_ROUNDS = 100
_PATIENCE_S = 60.0
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM)


def put_in_place(work: Path, target: Path, names: frozenset[str], check: Check) -> None:
    """Give a finished folder its name. At every moment the name means a whole folder or nothing.

    Args:
        work: the folder, beside ``target``. Afterwards the name is free, or that of the older folder, which may go.
        target: the name to be.
        names: of the files that the folder may hold.
        check: raises where what a path leads to must not be replaced.

    Raises:
        UsageError: ``output-exists`` when others wrote there in the same moment; else what ``check`` raises.
        OSError: what the disk said.
    """
    ours = _identity(work)
    with nullcontext() if _can_exchange(target) else _alone(target):
        for _ in range(_ROUNDS):
            if _renamed(work, target):
                return
            _check_at_rest(target, check)
            if not _exchange(work, target):
                if _replaced_by_moving(work, target, names, check):
                    return
            elif _may_go(work, check):
                return
            else:
                _give_back(work, target, ours)
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
    """Rename unless something is there; an empty folder counts as nothing."""
    if not source.is_dir() and os.path.lexists(target):
        return False  # a file would replace a file
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in _TAKEN and os.path.lexists(target):
            return False
        raise
    return True


def _check_at_rest(target: Path, check: Check) -> None:
    """Check what is there; once more where it was replaced while it was looked at."""
    for last in (False,) * _ROUNDS + (True,):
        before = _state(target)
        try:
            check(target)
        except (UsageError, OSError):
            if last or _state(target) == before:
                raise
        else:
            return


def _may_go(folder: Path, check: Check) -> bool:
    try:
        check(folder)
    except (UsageError, OSError):
        return False
    return True


def _replaced_by_moving(work: Path, target: Path, names: frozenset[str], check: Check) -> bool:
    """Replace what is there by way of a third name; False where others came between, and nothing has changed."""
    aside = temporary_name(target)
    try:
        os.rename(target, aside)
    except FileNotFoundError:
        return False
    may_go = _may_go(aside, check)
    if may_go and _renamed(work, target):
        discard(aside, names)
        return True
    if not _renamed(aside, target):
        if may_go and _may_go(target, check):  # another process replaced the same
            discard(aside, names)
        else:
            _set_apart(aside, target)
    return False


def _give_back(work: Path, target: Path, ours: tuple[int, int] | None) -> None:
    """Undo an exchange that took out a folder that must stay."""
    if not _exchange(work, target):
        if not _renamed(work, target):
            _set_apart(work, target)
        raise FileNotFoundError(errno.ENOENT, "another process took it away", str(target))
    if _identity(work) != ours:
        _set_apart(work, target)


def _set_apart(folder: Path, target: Path) -> None:
    """Give a folder that lost its name another that people see.

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
    """Return whether the file system can exchange names, tried on two empty folders (0.1 ms): nothing else is sure."""
    first, second = temporary_name(target), temporary_name(target)
    try:
        first.mkdir()
        second.mkdir()
        return _exchange(first, second)
    finally:
        discard(first, frozenset())
        discard(second, frozenset())


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold a lock file beside a name; a process that dies releases it.

    Raises:
        OSError: another process has held it for long.
    """
    path = target.with_name(f".{target.name}.lock")
    if sys.platform == "win32":
        from filelock import FileLock

        with FileLock(path, timeout=_PATIENCE_S):
            yield
        with suppress(OSError):
            path.unlink()  # refused where another process waits with the file open
        return
    import fcntl

    descriptor = _locked(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a fork of this process, which has the descriptor too
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Return a descriptor of a lock file that this process holds and that still has its name."""
    import fcntl

    until = time.monotonic() + _PATIENCE_S
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _identity(path) == (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino):
                return descriptor  # else its owner deleted it while we waited
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                return descriptor  # no locks here: nothing is overwritten without one either
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
    """Return the same with the time of the last change: inodes of deleted folders are reused at once."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_ctime_ns


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot (Linux 3.15 and most of its can)."""
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    status: int = renameat2(at_fdcwd, os.fsencode(first), at_fdcwd, os.fsencode(second), ctypes.c_uint(rename_exchange))
    return status == 0
