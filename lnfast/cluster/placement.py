"""The folder that the driver and all workers share: its lock, the rows of the run, and proof that a worker sees it.

OUT/.cohort/lock      held by the one driver that writes here
OUT/.cohort/token     random; a machine on which OUT is another folder does not have it
OUT/.cohort/rows      of the studies that have ended, while a run works
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lnfast.errors import BackendError, UsageError
from lnfast.folder_exchange import discard
from lnfast.report.folder import OWN_FILES

FOLDER = ".cohort"
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")


@contextmanager
def held(out: Path, log: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    """Hold the lock of an output folder.

    Args:
        out: made where it is missing.
        log: gets a line where the file system has no locks.

    Yields:
        The token that workers must see, and the path for the rows.

    Raises:
        UsageError: ``output-in-use`` when another process holds it.
        OSError: of the file system.
    """
    from filelock import FileLock, Timeout

    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        message = f"another lnfast cohort writes to {out}; wait for it, or give another -o"
        raise UsageError("output-in-use", message) from None
    except NotImplementedError:
        log(f"{out}: this file system has no locks; nothing keeps a second lnfast cohort from writing there")
    try:
        token = secrets.token_hex(16)
        (folder / "token").write_text(token, encoding="ascii")
        yield token, folder / "rows"
    finally:
        # Another process may make and lock a new file once this one is gone: nothing is written any more.
        with suppress(OSError):
            for probe in folder.glob("probe-*"):
                probe.rmdir()
            for name in ("rows", "token", "lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        lock.release()


def check_shared(out: Path, token: str) -> None:
    """Refuse, on a worker's machine, a folder that is not the driver's or that may not be written.

    Raises:
        BackendError: ``output-not-shared``.
    """
    folder = out / FOLDER
    probe = folder / f"probe-{secrets.token_hex(8)}"
    try:
        seen = (folder / "token").read_text(encoding="ascii")
        if seen == token:
            probe.mkdir()
            probe.rmdir()
    except OSError as error:
        raise BackendError("output-not-shared", f"{out} cannot be used there: {error.strerror}; mount it") from error
    if seen != token:
        raise BackendError("output-not-shared", f"{out} is another folder there than where lnfast cohort was started")


def sweep(out: Path, names: Collection[str]) -> None:
    """Delete what killed workers left half-written of some studies; nobody else writes them while the lock is held.

    Args:
        out: folder of study folders.
        names: of their folders.
    """
    with suppress(OSError), os.scandir(out) as entries:
        left = [entry for entry in entries if (match := _TEMPORARY.fullmatch(entry.name)) and match[1] in names]
        for entry in left:
            discard(Path(entry.path), OWN_FILES)
