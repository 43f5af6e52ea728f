"""The spool: the folders in which the node keeps instances and results, and how both get there without loss.

    <spool>/node.lock           held by the node that runs
    <spool>/id.key              of the keyed hashes; nobody else may read it
    <spool>/ledger.sqlite       see `lnfast.node.ledger`
    <spool>/incoming/           <random>.part, an instance that arrives; <random>.result, a result that is being written
    <spool>/exams/<exam id>/instances/<hash of the SOP Instance UID>.dcm
    <spool>/results/<exam id>/<number>/     a study folder as ``lnfast run`` writes it, from 1
    <spool>/trash/              what is being deleted

Everything gets its place by one rename, after it was flushed to the disk; no name holds a UID. A file in ``exams`` is
an instance that was received: the ledger has no row for it. An instance may be replaced by a newer one while somebody
reads the exam; half of one is never there.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lnfast.atomic import flush
from lnfast.errors import BackendError, UsageError
from lnfast.node.spool.disk import free_bytes
from lnfast.study.dicom.identity import exam_id, load_key

Outcome = Literal["new", "same", "replaced"]
# The folders are the owner's alone: they hold patients' images.
_FOLDER_MODE = 0o700
_LOCK = "node.lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_START_TIMEOUT_S = 2.0  # `is_running` holds the lock for an instant


@dataclass(frozen=True)
class Stored:
    """An instance on the disk.

    Attributes:
        path: of the file.
        outcome: ``new``; ``same`` where these bytes were there; ``replaced`` where the instance had other bytes.
    """

    path: Path
    outcome: Outcome


class Spool:
    """The folders of one node; safe from many threads. A second process may delete by way of `Ledger.forget`.

    Args:
        root: of the spool; made where it is missing, with everything in it that is always there.
        min_free_bytes: on its disk, below which `has_room` is False.

    Attributes:
        ledger_path: of the ledger.
        key_is_new: there was no key of the exams' ids yet.

    Raises:
        BackendError: ``spool-failed``, ``spool-full``: the folders cannot be made or written.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self.root = root
        self.min_free_bytes = min_free_bytes
        self.ledger_path = root / "ledger.sqlite"
        self._incoming, self._exams = root / "incoming", root / "exams"
        self._results, self._trash = root / "results", root / "trash"
        self._moving = threading.Lock()
        with self.writing():
            root.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            with suppress(PermissionError):  # made by somebody else, who keeps it
                root.chmod(_FOLDER_MODE)
            for folder in (self._incoming, self._exams, self._results, self._trash):
                folder.mkdir(exist_ok=True, mode=_FOLDER_MODE)
            self.key_is_new = not (root / "id.key").exists()
            self._key = load_key(root / "id.key")

    def exam_id(self, study_uid: str) -> str:
        """Return the name of an exam: 16 hexadecimal digits that only this spool's key leads to."""
        return exam_id(study_uid, self._key)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the node that runs; the system releases it when the process dies.

        Raises:
            UsageError: ``node-running``: another process holds it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / _LOCK, timeout=_START_TIMEOUT_S, mode=0o600)
        try:
            lock.acquire()
        except Timeout:
            raise UsageError(
                "node-running", f"another node works with the spool {self.root}; stop it, or give this one its own"
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the disk says into an error with a code; for whoever writes into a `new_part` as well.

        Raises:
            BackendError: ``spool-full`` or ``spool-failed``.
        """
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__  # without the name of a file
            if error.errno in _FULL:
                raise BackendError("spool-full", f"the disk of the spool {self.root} is full: {reason}") from error
            raise BackendError("spool-failed", f"cannot write to the spool {self.root}: {reason}") from error

    def has_room(self) -> bool:
        """Return whether an instance may be taken: the disk has more free than is to stay free."""
        return self.free_bytes() >= self.min_free_bytes

    def free_bytes(self) -> int:
        """Return how much the disk has free for this user; 0 where it cannot be told."""
        return free_bytes(self.root)

    def new_part(self) -> Path:
        """Return a free name in ``incoming`` for the file of an instance (with its preamble and file meta)."""
        return self._incoming / f"{secrets.token_hex(16)}.part"

    def store(self, part: Path, exam: str, sop_uid: str) -> Stored:
        """Give a received instance its place, durably: when this returns, a power cut loses nothing of it.

        Args:
            part: written and closed; the name is free afterwards, also after an error.
            exam: id, as `exam_id` returned it.
            sop_uid: SOP Instance UID.

        Raises:
            BackendError: ``spool-full`` or ``spool-failed``: the instance is not stored, an older one is unchanged.
        """
        folder = self.instances(exam)
        target = folder / f"{instance_name(sop_uid)}.dcm"
        with self.writing():
            try:
                flush(part)
                with self._moving:
                    self._make(folder)
                    outcome = _outcome(part, target)
                    if outcome != "same":
                        os.replace(part, target)
                flush(folder)
            finally:
                part.unlink(missing_ok=True)
        return Stored(target, outcome)

    def instances(self, exam: str) -> Path:
        """Return the folder of an exam's instances; it is there once one was stored."""
        return self._exams / exam / "instances"

    def exams(self) -> tuple[str, ...]:
        """Return the ids of the exams that have a folder."""
        return tuple(sorted(entry.name for entry in os.scandir(self._exams) if entry.is_dir(follow_symlinks=False)))

    def count_instances(self, exam: str) -> int:
        """Return the number of an exam's instances."""
        try:
            return sum(name.endswith(".dcm") for name in os.listdir(self.instances(exam)))
        except FileNotFoundError:
            return 0

    def result_folder(self, exam: str, number: int) -> Path:
        """Return the folder of an exam's result; it is whole or absent."""
        return self._results / exam / str(number)

    def result_numbers(self, exam: str) -> tuple[int, ...]:
        """Return the numbers of the results that are there."""
        try:
            return tuple(sorted(int(name) for name in os.listdir(self._results / exam) if name.isdecimal()))
        except FileNotFoundError:
            return ()

    def new_result(self) -> Path:
        """Return a free name in ``incoming`` for a folder into which a result is written (with `Result.write`)."""
        return self._incoming / f"{secrets.token_hex(16)}.result"

    def place_result(self, written: Path, exam: str, number: int) -> Path:
        """Give a written result its place: the folder with all its files appears at once.

        Args:
            written: the study folder, its files flushed, below a `new_result`.
            exam, number: of the result; a folder of that name, which no row of the ledger names, is replaced.

        Raises:
            BackendError: ``spool-full`` or ``spool-failed``.
        """
        target = self.result_folder(exam, number)
        with self.writing():
            with self._moving:
                self._make(target.parent)
                if target.exists():
                    os.rename(target, self._trash / secrets.token_hex(16))
                os.rename(written, target)
            flush(target.parent)
            with suppress(OSError):
                written.parent.rmdir()
        return target

    def remove_result(self, exam: str, number: int) -> None:
        """Delete a result's folder."""
        folder = self.result_folder(exam, number)
        with self.writing():
            if folder.exists():
                name = self._trash / secrets.token_hex(16)
                os.rename(folder, name)
                shutil.rmtree(name, ignore_errors=True)

    def remove(self, exam: str) -> bool:
        """Delete an exam's instances and results; return True. See `Ledger.forget`.

        Raises:
            BackendError: ``spool-failed``.
        """
        names = []
        with self.writing():
            with self._moving:
                for folder in (self._results / exam, self._exams / exam):
                    if folder.exists():
                        names.append(self._trash / secrets.token_hex(16))
                        os.rename(folder, names[-1])
            flush(self._results, self._exams)
        for name in names:
            shutil.rmtree(name, ignore_errors=True)
        return True

    def clean(self) -> int:
        """Delete what an earlier process left half-written or half-deleted; return the number of instances.

        Only for the process that holds `lock`.
        """
        if hasattr(os, "sync"):
            os.sync()  # a folder that a killed process made may not be flushed yet
        parts = list(self._incoming.iterdir())
        for path in (*parts, *self._trash.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return sum(path.suffix == ".part" for path in parts)

    def _make(self, folder: Path) -> None:
        """Make a folder below ``exams`` or ``results``, durably; only while nobody else moves."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            flush(*(parent for parent in folder.parents if self.root in (parent, *parent.parents)))


def is_running(root: Path) -> bool:
    """Return whether a node works with the spool in a folder now. Nothing is made there."""
    from filelock import FileLock, Timeout

    path = root / _LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, mode=0o600):
            return False
    except Timeout:
        return True


def instance_name(sop_uid: str) -> str:
    """Return the name by which the node calls an instance: the stem of its file."""
    return hashlib.sha256(sop_uid.encode()).hexdigest()[:32]


def _outcome(part: Path, target: Path) -> Outcome:
    if not target.exists():
        return "new"
    return "same" if filecmp.cmp(part, target, shallow=False) else "replaced"
