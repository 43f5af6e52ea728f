"""A program that kills itself at each line it executes of the spool and the ledger, and goes on from what is left.

``python killed_node.py SEGMENT FOLDER [STEP]`` writes a JSON object with the number of kills. Its life of one exam has
the segments start, receive, run, send and purge; damaged is a start with a ledger that was cut off after all was sent.
For each line (each STEP-th line) of lnfast that a segment executes, a process is killed there with SIGKILL; another
process recovers the spool, what must hold then is checked, and the life goes on to its end.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from lnfast.node.config.settings import Keep
from lnfast.node.ledger import Ledger, NewResult
from lnfast.node.spool import Spool
from lnfast.node.spool.recovery import open_and_recover
from lnfast.node.spool.retention import expired, purge

TARGETS = ("pacs", "vna")
SEGMENTS = ("start", "receive", "run", "send", "purge")
STARTS = ("start", "damaged")
# SOP Instance UID to what it holds in the end; the third is first received with other bytes.
INSTANCES = {"1.1": b"one" * 1000, "1.2": b"two" * 1000, "1.3": b"three" * 1000}
FINGERPRINT = "f" * 64
_TRACED = tuple(f"{os.sep}lnfast{os.sep}{name}" for name in ("node", "atomic", f"study{os.sep}dicom{os.sep}identity"))


class Life:
    """The life of one exam; each segment can be begun again after a kill. What was promised is noted in a file."""

    def __init__(self, root: Path) -> None:
        self.promises = root.with_name("promises")
        self.spool = Spool(root)
        self.ledger: Ledger | None = None

    def promise(self, text: str) -> None:
        with self.promises.open("ab", buffering=0) as file:
            file.write(text.encode() + b"\n")

    def start(self) -> None:
        self.ledger, _ = open_and_recover(self.spool, TARGETS)

    def receive(self) -> None:
        """As a scanner does: everything again, unless all of it was answered."""
        assert self.ledger
        exam = self.spool.exam_id("1")
        self.ledger.exam_received(exam)
        changed = False
        for uid, content in [("1.3", b"other" * 10), *INSTANCES.items()]:
            part = self.spool.new_part()
            part.write_bytes(content)
            changed |= self.spool.store(part, exam, uid).outcome != "same"
            self.promise(f"stored {uid} {len(content)}")
        self.ledger.exam_ended_receiving(exam, "released", instances=3, changed=changed)
        self.promise("received")

    def run(self) -> None:
        assert self.ledger
        exam = self.spool.exam_id("1")
        usable = [result for result in self.ledger.results(exam) if result.fingerprint == FINGERPRINT]
        if not usable:
            self.ledger.begin_run(exam)
            number = self.ledger.next_number(exam)
            written = self.spool.new_result() / exam
            written.mkdir(parents=True)
            report = {"study": {"sha256": FINGERPRINT}, "summary": {"n_stage": "N1"}}
            (written / "report.json").write_text(json.dumps(report))
            (written / "sr.dcm").write_bytes(os.urandom(8))
            self.spool.place_result(written, exam, number)
            usable = [self.ledger.store_result(NewResult(exam, number, 1, FINGERPRINT, "r", "N1"))]
        self.ledger.release(usable[-1].id, TARGETS)
        self.promise(f"released {usable[-1].number}")

    def send(self) -> None:
        assert self.ledger
        for target in TARGETS:
            while job := self.ledger.next_job(target, 1e12):
                sent = (self.spool.result_folder(job.exam, job.number) / "sr.dcm").read_bytes()
                self.promise(f"given {target} {sent.hex()}")
                self.ledger.job_sent(job.id)
                self.promise(f"sent {target}")

    def purge(self) -> None:
        assert self.ledger
        items = expired(self.ledger, Keep(days=0, dead_days=0), 1e12)
        purge(self.spool, self.ledger, items)
        self.promise("purged")


def check(life: Life) -> None:
    """Check what must hold after a kill and a recovery."""
    assert life.ledger
    promises = life.promises.read_text().splitlines() if life.promises.exists() else []
    exam = life.spool.exam_id("1")
    row = life.ledger.exam(exam)
    files = {path.name: path.read_bytes() for path in life.spool.instances(exam).glob("*")}
    assert set(files.values()) <= {*INSTANCES.values(), b"other" * 10}, "a file is half"
    leftovers = [*life.spool.root.glob("incoming/*"), *life.spool.root.glob("trash/*")]
    assert not leftovers, leftovers
    purging = row is None or (row.state == "sent" and not files)
    if not purging:
        for uid in {line.split()[1] for line in promises if line.startswith("stored")}:
            last = [line for line in promises if line.startswith(f"stored {uid} ")][-1]
            path = life.spool.instances(exam) / f"{_stem(uid)}.dcm"
            assert path.read_bytes() == INSTANCES[uid] or int(last.split()[2]) != len(INSTANCES[uid]), uid
    assert bool(files) <= (row is not None), "an exam without a row"
    released = [line for line in promises if line.startswith("released")]
    replaced = any(life.spool.root.glob("ledger.sqlite.damaged-*")) and row is not None and row.state == "receiving"
    if row is not None and released and not replaced:
        jobs = {job.target: job.state for job in life.ledger.jobs(exam)}
        assert set(jobs) == set(TARGETS)
        assert all(jobs[line.split()[1]] == "sent" for line in promises if line.startswith("sent "))
    if row is not None and row.state != "sent":
        rows = {result.number for result in life.ledger.results(exam)}
        assert rows == set(life.spool.result_numbers(exam))
    if not files:
        assert row is None or row.state != "receiving"
    given = [line for line in promises if line.startswith("given")]
    assert len({line.split()[2] for line in given}) <= 1, "other bytes were sent for one result"


def _stem(uid: str) -> str:
    from lnfast.node.spool import instance_name

    return instance_name(uid)


def in_process(
    action: Callable[[], None], kill_at: int | None = None, before: Callable[[], None] = lambda: None
) -> int | None:
    """Run in a process of its own, killed at a line; return the number of lines, or None where it was killed.

    ``before`` is run first, and not counted.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal lines
            if not any(part in frame.f_code.co_filename for part in _TRACED):
                return None
            if event == "line":
                lines += 1
                if lines == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 1
        try:
            before()
            sys.settrace(trace)
            action()
            sys.settrace(None)
            os.write(writing, str(lines).encode())
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        counted = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise SystemExit(f"the process ended with {status} and not by the kill at line {kill_at}")
    return int(counted)


def lived(root: Path, until: str) -> None:
    """Live from the start up to a segment, which is not begun."""
    life = Life(root)
    life.start()
    for segment in SEGMENTS[1 : SEGMENTS.index(until)]:
        getattr(life, segment)()
    assert life.ledger
    life.ledger.close()  # SQLite keeps all in one file then


def live_through(root: Path, segment: str, kill_at: int) -> int | None:
    """Live one segment, and be killed at a line of it; None where that happened."""
    lives: list[Life] = []

    def before() -> None:
        if segment not in STARTS:
            lives.append(Life(root))
            lives[0].start()

    def action() -> None:
        if segment in STARTS:
            Life(root).start()
        else:
            getattr(lives[0], segment)()

    return in_process(action, kill_at, before)


def go_on(root: Path, segment: str) -> None:
    """Recover, check, and live to the end."""
    life = Life(root)
    life.start()
    check(life)
    purged = segment == "purge" and life.ledger is not None and life.ledger.exam(life.spool.exam_id("1")) is None
    for following in SEGMENTS[1 if segment in STARTS else SEGMENTS.index(segment) :]:
        if not (purged and following != "purge"):
            getattr(life, following)()
        if following == "send":
            exam = life.ledger.exam(life.spool.exam_id("1")) if life.ledger else None
            assert exam is not None and exam.state == "sent", exam
            check(life)
    assert life.ledger is not None and life.ledger.exams() == [] and life.spool.exams() == ()
    assert not any((life.spool.root / "results").iterdir())


def prepare(root: Path, segment: str) -> None:
    """Make the spool in which a segment begins."""
    if segment == "damaged":
        lived(root, "purge")
        ledger = root / "ledger.sqlite"
        ledger.write_bytes(ledger.read_bytes()[:5000])
    elif segment != "start":
        lived(root, segment)


def main(segment: str, folder: Path, step: int) -> None:
    """Kill at each ``step``-th line of a segment."""
    before = folder / "before" / "spool"
    before.parent.mkdir()
    in_process(lambda: prepare(before, segment))
    kills = 0
    for line in itertools.count(1, step):
        work = folder / "work"
        shutil.copytree(before.parent, work)
        if live_through(work / "spool", segment, line) is not None:
            break
        kills += 1
        in_process(lambda: go_on(folder / "work" / "spool", segment))
        shutil.rmtree(work)
    sys.stdout.write(json.dumps({"segment": segment, "kills": kills}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
