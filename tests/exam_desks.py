"""A node without threads and without a network: exams of real files, a clock that is moved, and a real engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from receptions import Clock

from lnfast.engine import Engine
from lnfast.node.config import read_config
from lnfast.node.config.settings import NodeConfig
from lnfast.node.exams.arrivals import Arrivals
from lnfast.node.exams.decisions import Decisions
from lnfast.node.exams.runs import Runs
from lnfast.node.ledger import Ledger, StoredResult
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.spool import Spool, instance_name

PEER = "MR1@10.0.0.5"


def node_config(folder: Path, more: str = "") -> NodeConfig:
    """The configuration of a node whose spool is in a folder.

    Args:
        folder: made where it is missing.
        more: further lines of its node.toml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = '[node]\naet = "LNFAST"\nspool = "spool"\n' + more
    if "[receive]" not in text:
        text += "[receive]\nmin_free_gib = 0\n"
    if "[[target]]" not in text:
        text += '[[target]]\nname = "pacs"\naet = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
    (folder / "node.toml").write_text(text)
    return read_config(folder / "node.toml")


@dataclass
class Desk:
    """Receives, runs and decides as a node does, when it is told so."""

    config: NodeConfig
    engine: Engine
    spool: Spool
    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    released: list[StoredResult] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what only the process knew, and take up what the ledger has."""
        self.arrivals = Arrivals(self.config.receive, self.spool, self.ledger, clock=self.clock)
        self.runs = Runs(self.engine, self.config, self.spool, self.ledger, self.metrics)
        targets = [target.name for target in self.config.enabled_targets]
        self.decisions = Decisions(self.runs, self.arrivals, self.ledger, self.metrics, targets, self.released.append)
        self.decisions.take_up()

    def open(self, peer: str = PEER) -> int:
        key = next(self.numbers)
        self.arrivals.association_opened(key, peer)
        return key

    def give(self, key: int, paths: Iterable[Path]) -> None:
        """Store files in an association that is open."""
        for path in paths:
            exam, sop_uid = self.identify(path)
            name = instance_name(sop_uid)
            self.arrivals.instance_arrives(key, exam, name)
            part = self.spool.new_part()
            shutil.copyfile(path, part)
            stored = self.spool.store(part, exam, sop_uid)
            self.arrivals.instance_stored(key, exam, name, stored.outcome)

    def close(self, key: int, how: str = "released") -> None:
        self.arrivals.association_closed(key, how)  # type: ignore[arg-type]

    def send(self, paths: Iterable[Path], how: str = "released", peer: str = PEER) -> None:
        """Send files in one association."""
        key = self.open(peer)
        self.give(key, paths)
        self.close(key, how)

    def identify(self, path: Path) -> tuple[str, str]:
        """Exam id and SOP Instance UID of a file."""
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        return self.spool.exam_id(str(dataset.StudyInstanceUID)), str(dataset.SOPInstanceUID)

    def exam(self, path: Path) -> str:
        return self.identify(path)[0]

    def work(self) -> None:
        """Do everything that is due now."""
        for _ in range(100):
            due = self.arrivals.due()
            if not due:
                return
            self.decisions.do(due[0])
        raise AssertionError("there is always something due")

    def after(self, seconds: float, step: float = 0.5) -> None:
        """Let time go by, and do whatever becomes due."""
        for _ in range(round(seconds / step)):
            self.clock.now += step
            self.work()

    def state(self, exam: str) -> tuple[str, str | None]:
        row = self.ledger.exam(exam)
        assert row is not None
        return row.state, row.code

    def folder(self, exam: str, number: int = 1) -> Path:
        return self.spool.result_folder(exam, number)

    def kinds(self, exam: str) -> list[str]:
        """Kinds of the events of an exam, the oldest first."""
        return [event.kind for event in reversed(self.ledger.events(exam))]
