"""The watch folder: a subfolder that some program fills is taken in as if a scanner had sent it.

    <folder>/...            taken once it has a file `.complete`, or was quiet and has no `.tmp` and no `.part`
    <folder>.refused.json   why a folder was not taken, which files were left, or why its exam has no result
    .lnfast-exams.json      exams that were taken and of which the end is not known yet

A folder is taken as a whole or not at all: one DICOM file that cannot be read may be a slice. Its MR images are copied
into the spool and deleted here once all of them are safe there; a rename would let the program that wrote them go on
writing into a stored instance. Everything else stays, with its reason: other DICOM objects, NIfTI (a result is sent as
DICOM objects, which refer to DICOM images), and whatever else. Links are not followed. The folder is looked at every
few seconds, because network shares tell nobody of changes.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnfast.atomic import write_file
from lnfast.errors import LnfastError, StudyError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.exams.reception import Ending
from lnfast.node.ledger import Ledger
from lnfast.node.monitor.life import ThreadedPart
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.spool import Spool, instance_name
from lnfast.node.watch.dicom_file import Identity, NotDicomError, OtherObjectError, identify
from lnfast.node.watch.watched_files import ChangedError, Stamp, copy_file, files_below, is_unfinished, opened, remove

THREAD = "lnfast-watch"
COMPLETE = ".complete"
REFUSED = ".refused.json"
EXAMS = ".lnfast-exams.json"
POLL_S = 2.0
_BUSY_S = 600.0

_logger = logging.getLogger("lnfast.node.watch")


@dataclass
class _Seen:
    """A folder as it was when it was looked at last.

    Attributes:
        files: name below the folder to size, time of the last change and number.
        since: when it last changed, monotonic.
        settled: nothing is to be done until it changes.
    """

    files: dict[str, Stamp]
    since: float
    settled: bool = False


class WatchFolder(ThreadedPart):
    """Takes in what programs put into a folder, in a thread.

    Args:
        config: of the node, with ``watch``.
        spool, ledger, arrivals, metrics: of the node.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: NodeConfig,
        spool: Spool,
        ledger: Ledger,
        arrivals: Arrivals,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(THREAD, self._serve)
        assert config.watch is not None
        self._root = config.watch
        self._quiet_s = max(config.receive.quiet_s, config.receive.quiet_without_release_s)
        self._most_bytes = config.receive.max_instance_bytes
        self._spool, self._ledger, self._arrivals, self._metrics = spool, ledger, arrivals, metrics
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._loose = 0
        self._exams: dict[str, str] | None = None  # exam to its folder; read when it is first needed
        self._stopping = threading.Event()

    def stop(self, drain_s: float = 30.0) -> None:
        """Let the folder that is being taken be taken."""
        self._stopping.set()
        self._join(drain_s)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._life.busy(_BUSY_S):
                    self.poll()
            except LnfastError as error:
                _logger.warning("the watch folder waits: %s", error.message, extra={"code": error.code})
            except OSError as error:  # a share that is not mounted, a right that is missing
                reason = os.strerror(error.errno or 0)
                _logger.warning("the watch folder cannot be read: %s", reason, extra={"code": "watch-unreadable"})
            self._stopping.wait(POLL_S)

    def poll(self) -> None:
        """Look at the folder once, and take what is ready.

        Raises:
            BackendError: of the disk of the spool.
            OSError: of the watch folder.
        """
        folders, loose = self._folders()
        if loose != self._loose:
            self._loose = loose
            if loose:
                _logger.warning("files lie beside the subfolders and are not taken", extra={"amount": loose})
        self._seen = {name: seen for name, seen in self._seen.items() if name in folders}
        for name in folders:
            self._look_at(name)
        self._report_ends()

    def _folders(self) -> tuple[list[str], int]:
        """The names of the subfolders, and how many files lie beside them."""
        names, loose = [], 0
        for entry in os.scandir(self._root):
            if entry.name.startswith(".") or is_unfinished(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif not entry.name.endswith(REFUSED):
                loose += 1
        return sorted(names), loose

    def _look_at(self, name: str) -> None:
        try:
            files = dict(files_below(self._root / name))
        except FileNotFoundError:  # it is being taken away
            return
        seen = self._seen.get(name)
        if seen is None or seen.files != files:
            self._seen[name] = seen = _Seen(files, self._clock())
        if seen.settled or not files or any(map(is_unfinished, files)):
            return
        if COMPLETE not in files and self._clock() - seen.since < self._quiet_s:
            return
        try:
            seen.settled = self._take(name, files)
        except ChangedError:
            seen.since = self._clock()

    def _take(self, name: str, files: dict[str, Stamp]) -> bool:
        """Take a folder; return whether nothing is left to be done with it.

        Raises:
            BackendError: of the disk; the folder is as it was.
            ChangedError: it changed meanwhile; as it was.
        """
        folder = self._root / name
        images: dict[str, Identity] = {}
        left: dict[str, str] = {}
        for file in files:
            if os.path.basename(file) == COMPLETE:
                continue
            try:
                images[file] = self._identity(folder, file, files[file])
            except NotDicomError:
                left[file] = "not-dicom"
            except OtherObjectError:
                left[file] = "no-mr-image"
            except StudyError as error:
                self._refuse(name, {"code": error.code, "message": error.message, "file": file})
                return True
        if not images:
            self._refuse(name, {"code": "no-mr-image", "message": "no file is a DICOM MR image", "left": left})
            return True
        self._store(name, files, images)
        self._empty(folder, [*images, *(file for file in files if os.path.basename(file) == COMPLETE)])
        self._metrics.count("watch_folders_total", outcome="taken")
        _logger.info("a folder was taken", extra={"instances": len(images), "amount": len(left)})
        remove(self._root / f"{name}{REFUSED}")
        if left:
            self._write(name, {"code": "files-left", "message": "some files are no DICOM MR images", "left": left})
        return True

    def _identity(self, folder: Path, file: str, stamp: Stamp) -> Identity:
        with opened(folder / file, stamp) as descriptor:
            if stamp[0] > self._most_bytes:
                head = os.pread(descriptor, 132, 0)
                if head[128:] != b"DICM":
                    raise NotDicomError
                raise StudyError("too-large", f"a file has {stamp[0]} bytes, wanted at most {self._most_bytes}")
            return identify(descriptor)

    def _store(self, name: str, files: dict[str, Stamp], images: dict[str, Identity]) -> None:
        key = ("watch", name, self._clock())
        exams = {self._spool.exam_id(identity.study_uid) for identity in images.values()}
        self._note(dict.fromkeys(exams, name))
        self._arrivals.association_opened(key, f"watch {name}")
        how: Ending = "lost"
        try:
            for file, identity in images.items():
                self._life.beat()
                exam, instance = self._spool.exam_id(identity.study_uid), instance_name(identity.sop_uid)
                self._arrivals.instance_arrives(key, exam, instance)
                part = self._spool.new_part()
                with self._spool.writing():
                    copy_file(self._root / name / file, files[file], part)
                stored = self._spool.store(part, exam, identity.sop_uid)
                self._arrivals.instance_stored(key, exam, instance, stored.outcome)
                self._metrics.count("instances_received_total", outcome=stored.outcome)
            if dict(files_below(self._root / name)) != files:
                raise ChangedError
            how = "released"
        finally:
            self._arrivals.association_closed(key, how)

    def _empty(self, folder: Path, files: Iterable[str]) -> None:
        """Delete what is in the spool now, and the folders that are empty then."""
        for file in files:
            remove(folder / file)
        for path, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):  # something is left in it
                os.rmdir(path)

    def _refuse(self, name: str, reason: dict[str, Any]) -> None:
        self._metrics.count("watch_folders_total", outcome="refused")
        _logger.warning("a folder is refused", extra={"code": reason["code"]})
        self._write(name, reason)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_file(self._root / f"{name}{REFUSED}", (json.dumps(content, indent=2) + "\n").encode())

    def _note(self, exams: dict[str, str]) -> None:
        """Remember which folder exams came in, also beyond a restart."""
        before = self._noted()
        self._exams = {**before, **exams}
        if self._exams != before:
            write_file(self._root / EXAMS, (json.dumps(self._exams, indent=2) + "\n").encode())

    def _noted(self) -> dict[str, str]:
        if self._exams is None:
            self._exams = {}
            with suppress(OSError, ValueError):
                content = json.loads((self._root / EXAMS).read_bytes())
                self._exams = {str(exam): str(name) for exam, name in dict(content).items()}
        return self._exams

    def _report_ends(self) -> None:
        """Say beside a folder why its exam has no result."""
        waiting = self._noted()
        for exam, name in waiting.items():
            row = self._ledger.exam(exam)
            if row is not None and row.state in ("refused", "dead"):
                self._write(Path(name).name, {"exam": exam, "code": row.code, "message": row.message})
            if row is None or row.state != "receiving":
                self._exams = {other: name for other, name in self._noted().items() if other != exam}
        if self._exams != waiting:
            write_file(self._root / EXAMS, (json.dumps(self._exams, indent=2) + "\n").encode())
