"""What the pages of a node say of its parts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from node_process import target, toml_text

from lnfast.errors import BackendError, EngineError, LnfastError
from lnfast.node.config import read_config
from lnfast.node.ledger import Ledger, NewResult
from lnfast.node.monitor.health import Health
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.monitor.supervisor import Supervisor
from lnfast.node.observation import Observed, make_health, pages_of, register_gauges, shared_counts
from lnfast.node.spool import Spool

EXAM = "0123456789abcdef"
FACTS = {
    "model": "pelvic-ln-edge",
    "version": "2.0",
    "backend": "openvino",
    "backend_version": "2026.1",
    "device": "cpu",
    "precision": "int8",
    "certificate": "24 studies",
}


@dataclass
class Worker:
    engine_problem: LnfastError | None = None
    engine_facts: Mapping[str, str] | None = None
    running: bool = False


class Parts:
    """A node without threads."""

    def __init__(self, folder: Path, **node: Any) -> None:
        config = folder / "node.toml"
        tables = {"node": {"aet": "LNFAST", "spool": folder / "spool"}, "target": [target(104)], **node}
        config.write_text(toml_text(tables))
        self.now = time.time()
        self.spool = Spool(folder / "spool", min_free_bytes=0)
        self.ledger = Ledger(self.spool.ledger_path, clock=lambda: self.now)
        self.worker = Worker()
        self.metrics = Metrics()
        observed = Observed(read_config(config), self.spool, self.ledger, self.worker, Supervisor(), self.metrics)
        self.health: Health = make_health(observed, self.ledger.counts)
        register_gauges(observed, self.health, self.ledger.counts)
        self.health.phase = "running"
        self.pages = pages_of(self.health, self.metrics)

    def healthz(self) -> tuple[int, dict[str, Any]]:
        page = self.pages["/healthz"]()
        return page.status, json.loads(page.text)

    def samples(self) -> dict[str, float]:
        lines = [line for line in self.pages["/metrics"]().text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def release(self) -> None:
        self.ledger.exam_received(EXAM)
        self.ledger.exam_ended_receiving(EXAM, "released", instances=8)
        result = self.ledger.store_result(NewResult(EXAM, 1, 1, "f" * 64, "e" * 64, "N1"))
        self.ledger.release(result.id, ["pacs"])


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def test_a_node_without_work_is_well(parts: Parts) -> None:
    status, content = parts.healthz()
    assert (status, content["reasons"], content["notices"]) == (200, [], [])
    assert content["exams"]["receiving"] == 0 and content["free_bytes"] > 0 and content["engine"] is None
    samples = parts.samples()
    assert samples["lnfast_node_healthy"] == 1 and samples["lnfast_node_outbox_oldest_seconds"] == 0
    assert samples['lnfast_node_outbox_jobs{target="pacs"}'] == 0
    assert not any("engine_info" in name for name in samples)


def test_the_engine_that_serves_and_the_one_that_is_refused(parts: Parts) -> None:
    parts.worker.engine_facts = FACTS
    assert parts.healthz()[1]["engine"] == FACTS
    (info,) = [name for name in parts.samples() if "engine_info" in name]
    assert 'precision="int8"' in info and 'certificate="24 studies"' in info
    parts.worker.engine_facts = None
    parts.worker.engine_problem = EngineError("self-test-failed", "Dice 0.5")
    status, content = parts.healthz()
    assert status == 503 and content["reasons"] == [{"code": "self-test-failed", "message": "Dice 0.5"}]
    assert parts.samples()["lnfast_node_healthy"] == 0


def test_a_disk_that_is_too_full_to_receive(parts: Parts) -> None:
    parts.spool.min_free_bytes = 1 << 60
    status, content = parts.healthz()
    assert status == 503 and content["reasons"][0]["code"] == "disk-full"
    assert parts.samples()["lnfast_node_spool_reserve_bytes"] == 1 << 60


def test_a_ledger_that_cannot_be_read(parts: Parts) -> None:
    parts.ledger.close()
    status, content = parts.healthz()
    assert status == 503 and content["reasons"][0]["code"] == "ledger-failed" and content["exams"] is None
    samples = parts.samples()
    assert samples['lnfast_node_gauge_errors_total{gauge="exams"}'] == 1
    assert "lnfast_node_spool_free_bytes" in samples


def test_what_is_dead_or_late_is_a_notice(parts: Parts) -> None:
    parts.ledger.exam_received("f" * 16)
    parts.ledger.kill("f" * 16, "missing-slices", "a slice is missing")
    parts.now -= 3600.0
    parts.release()
    status, content = parts.healthz()
    assert status == 200
    assert [notice["code"] for notice in content["notices"]] == ["exam-dead", "outbox-late"]
    assert "missing-slices" in content["notices"][0]["message"]
    samples = parts.samples()
    assert samples['lnfast_node_dead_exams{code="missing-slices"}'] == 1
    assert samples['lnfast_node_outbox_jobs{target="pacs"}'] == 1
    assert 3590 < samples["lnfast_node_outbox_oldest_seconds"] < 3700


def test_a_node_without_a_target_says_so(tmp_path: Path) -> None:
    parts = Parts(tmp_path, target=[])
    assert [notice["code"] for notice in parts.healthz()[1]["notices"]] == ["no-target"]


def test_nothing_of_an_exam_stands_on_the_pages(parts: Parts) -> None:
    parts.release()
    text = parts.pages["/healthz"]().text + parts.pages["/metrics"]().text
    assert EXAM not in text and "N1" not in text and "f" * 64 not in text


def test_a_page_reads_the_ledger_once() -> None:
    now, reads = [0.0], []

    class Slow:
        def counts(self) -> object:
            reads.append(now[0])
            if len(reads) == 3:
                raise BackendError("spool-failed", "no disk")
            return len(reads)

    counts = shared_counts(Slow(), clock=lambda: now[0])  # type: ignore[arg-type]
    assert [counts(), counts()] == [1, 1]
    now[0] += 1.0
    assert [counts(), counts()] == [2, 2]
    now[0] += 1.0
    with pytest.raises(BackendError):
        counts()
    assert counts() == 4, "an error is not kept"
