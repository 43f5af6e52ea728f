"""One exam after the other through a node: what its time goes to, from the last instance until the PACS has its SR."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

import numpy as np

from benchmarks.harness.rows import Tables
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import summarize
from benchmarks.node.exams import exam, whole_patient
from benchmarks.node.programs import Site, site

# As a node.toml has it by default.
QUIET_S = 10.0
EXAM_S = 120.0
# The wanted time of receiving a whole exam.
RECEPTION_LIMIT_MS = 1500.0
PARTS = ("until the run begins", "read and network", "report, SEG and SR", "waiting for more instances", "sending")
_COLUMNS = ("part", "ms p50", "ms p5", "ms p95", "share")


@dataclass(frozen=True)
class Journey:
    """Milliseconds of one exam.

    Attributes:
        reception: from the sender's start to its end.
        parts: by name, as `PARTS`.
        total: from the sender's end until the PACS has everything.
    """

    reception: float
    parts: dict[str, float]
    total: float


def measure_journeys(settings: Settings) -> Tables:
    """Send exams one at a time, each when the one before it has arrived."""
    volume = whole_patient(settings)
    count = settings.warmups + settings.repeats
    journeys: list[Journey] = []
    with TemporaryDirectory(prefix="lnfast-node-") as work, site(settings, Path(work), quiet_s=QUIET_S) as place:
        for number in range(count):
            settings.progress(f"node: exam {number + 1} of {count}")
            with exam(volume, f"journey {number}") as folder:
                instances = len(list(folder.iterdir()))
                started = time()
                ended = place.send(folder)
            place.wait_sent(number + 1, EXAM_S)
            journeys.append(_journey(place, started, ended))
    measured = journeys[settings.warmups :]
    return {
        "node, from the last instance to the PACS": _parts(measured),
        f"node, reception of {instances} instances": _reception(measured, instances),
    }


def _journey(place: Site, started: float, ended: float) -> Journey:
    result = place.rows("SELECT * FROM results ORDER BY id DESC LIMIT 1")[0]
    job = place.rows("SELECT * FROM jobs ORDER BY id DESC LIMIT 1")[0]
    report = place.spool / "results" / result["exam"] / str(result["number"]) / "report.json"
    timings: dict[str, float] = json.loads(report.read_bytes())["timings_ms"]
    network = sum(milliseconds for name, milliseconds in timings.items() if name not in ("write", "total"))
    run_began, run_ended = report_times(report, network)
    parts = (
        (run_began - ended) * 1e3,
        network,
        (result["created_at"] - run_ended) * 1e3,
        (result["released_at"] - result["created_at"]) * 1e3,
        (job["sent_at"] - result["released_at"]) * 1e3,
    )
    return Journey((ended - started) * 1e3, dict(zip(PARTS, parts, strict=True)), (job["sent_at"] - ended) * 1e3)


def report_times(report: Path, network_ms: float) -> tuple[float, float]:
    """Return when the run began and when the report was written (Unix seconds): the rest of the run is the objects."""
    written = report.stat().st_mtime
    return written - network_ms / 1e3, written


def _parts(journeys: list[Journey]) -> dict[str, Any]:
    total = float(np.median([journey.total for journey in journeys]))
    rows = []
    for part in (*PARTS, "total"):
        summary = summarize([journey.total if part == "total" else journey.parts[part] for journey in journeys])
        share = f"{100 * summary.median / total:.0f} %"
        rows.append([part, summary.median, summary.p5, summary.p95, share])
    return {"columns": list(_COLUMNS), "rows": rows}


def _reception(journeys: list[Journey], instances: int) -> dict[str, Any]:
    summary = summarize([journey.reception for journey in journeys])
    columns = ["sender", "ms p50", "ms p5", "ms p95", "ms an instance", "wanted ms"]
    row = ["dcmsend", summary.median, summary.p5, summary.p95, summary.median / instances, RECEPTION_LIMIT_MS]
    return {"columns": columns, "rows": [row]}
