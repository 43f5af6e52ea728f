"""An outbox without an engine: results of made files in a spool, released in a ledger, and a sender for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from instance_files import REPORT, SEGMENTATION, write_instance
from receivers import node_config

from lnfast.node.client.client import Timeouts
from lnfast.node.config.settings import Target, Tls
from lnfast.node.ledger import Job, Ledger, NewResult
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.outbox.backoff import Backoff
from lnfast.node.outbox.sender import Sender
from lnfast.node.spool import Spool

QUICK = Timeouts(connect_s=2.0, acse_s=1.0, dimse_s=1.0, network_s=1.0)
IMPATIENT = Backoff(first_s=0.05, most_s=0.2)


def target(port: int, name: str = "pacs", *, aet: str = "SINK", **changes: Any) -> Target:
    """A PACS on loopback."""
    plain = Target(name=name, aet=aet, host="127.0.0.1", port=port, send=("seg", "sr"), enabled=True, tls=False)
    return replace(plain, **changes)


@dataclass(frozen=True)
class Outbox:
    """A spool and its ledger."""

    spool: Spool
    ledger: Ledger
    metrics: Metrics

    def release(
        self, exam: str, targets: Sequence[str] = ("pacs",), *, nodes: int = 2, size: int = 3000
    ) -> tuple[Path, ...]:
        """Release a result with some nodes; return the files that go out, the segmentation first."""
        self.ledger.exam_received(exam)
        self.ledger.exam_ended_receiving(exam, "released", instances=84)
        self.ledger.begin_run(exam)
        number = self.ledger.next_number(exam)
        folder = self.spool.new_result() / exam
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"nodes": [{"id": id} for id in range(1, nodes + 1)]}))
        if nodes:
            write_instance(folder / "seg.dcm", SEGMENTATION, size=size)
        write_instance(folder / "sr.dcm", REPORT, size=size)
        place = self.spool.place_result(folder, exam, number)
        result = self.ledger.store_result(NewResult(exam, number, 1, f"f{number}", "r", "N1", None))
        self.ledger.release(result.id, targets)
        return tuple(place / name for name in ("seg.dcm", "sr.dcm") if (place / name).exists())

    def state(self, exam: str) -> tuple[str, str | None, int]:
        """State, code and attempts of an exam's last job."""
        job = self.jobs(exam)[-1]
        return job.state, job.code, job.attempts

    def jobs(self, exam: str | None = None) -> list[Job]:
        return self.ledger.jobs(exam)

    @contextmanager
    def sending(
        self,
        *targets: Target,
        backoff: Backoff = IMPATIENT,
        timeouts: Timeouts = QUICK,
        tls: Tls | None = None,
        drain_s: float = 5.0,
    ) -> Iterator[Sender]:
        """A sender that runs; it is stopped at the end."""
        config = replace(node_config(self.spool.root, tls=tls), targets=targets)
        sender = Sender(config, self.spool, self.ledger, self.metrics, backoff=backoff, timeouts=timeouts)
        sender.start()
        try:
            yield sender
        finally:
            sender.stop(drain_s)
            assert not any(thread.is_alive() for thread in sender.threads)


@contextmanager
def outbox(folder: Path) -> Iterator[Outbox]:
    """An empty outbox."""
    spool = Spool(folder)
    ledger = Ledger(spool.ledger_path)
    try:
        yield Outbox(spool, ledger, Metrics())
    finally:
        ledger.close()
