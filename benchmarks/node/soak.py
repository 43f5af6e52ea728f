"""A thousand small exams in a row: whether the node holds more memory, descriptors or threads, and each exam's time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import numpy as np
import pydicom

from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.rows import Tables
from benchmarks.harness.settings import Settings
from benchmarks.node.exams import exam, small_patient
from benchmarks.node.programs import Site, site

EXAMS, QUICK_EXAMS = 1000, 3
# Exams are sent no faster than this, and never while so many wait: times are those of an exam and not of a queue.
PACE_S, MOST_WAITING = 0.8, 3
QUIET_S = 1.0
DRAIN_S = 300.0
# Of the exams: libraries are loaded and pools are filled in them, and growth is counted after them.
WARM_SHARE = 0.1
_SAMPLES = 100


@dataclass(frozen=True)
class Holdings:
    """What a process holds after so many exams; memory in MB of 10^6 bytes."""

    exams: int
    memory_mb: float
    descriptors: int
    threads: int


def run_soak(settings: Settings) -> Tables:
    """Send the exams, and look at the node in between.

    Raises:
        WrongAnswerError: an exam was not sent on, or the PACS has not its objects.
    """
    volume = small_patient(settings)
    count = QUICK_EXAMS if settings.quick else EXAMS
    ended: dict[str, float] = {}
    holdings: list[Holdings] = []
    with TemporaryDirectory(prefix="lnfast-node-") as work, site(settings, Path(work), quiet_s=QUIET_S) as place:
        begin = due = monotonic()
        for number in range(count):
            with exam(volume, f"soak {number}") as folder:
                place.wait_sent(number + 1 - MOST_WAITING, DRAIN_S)
                sleep(max(0.0, due - monotonic()))
                due = monotonic() + PACE_S
                uid = _study(next(iter(folder.iterdir())))
                ended[uid] = place.send(folder)
            if number % max(1, count // _SAMPLES) == 0:
                holdings.append(look_at(place.process, number + 1))
                settings.progress(f"node: exam {number + 1} of {count}, {holdings[-1].memory_mb:.0f} MB")
        place.wait_sent(count, DRAIN_S)
        holdings.append(look_at(place.process, count))
        seconds = monotonic() - begin
        return {
            "node, soak: from the last instance to the PACS": _times(_latencies(place, ended), seconds),
            "node, soak: what the process holds": summarize_holdings(holdings),
        }


def look_at(process: int, exams: int) -> Holdings:
    """Return what a process holds now. Linux only."""
    folder = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    memory = int(status["VmRSS"].split()[0]) * 1024 / 1e6
    return Holdings(exams, memory, len(list((folder / "fd").iterdir())), int(status["Threads"]))


def summarize_holdings(holdings: list[Holdings]) -> dict[str, Any]:
    """Return a row for each thing that is held: when warm, at the end, the most, and the slope for 1000 exams.

    The slope is that of a line through all samples after the warm part.
    """
    warm = [sample for sample in holdings if sample.exams >= WARM_SHARE * holdings[-1].exams]
    rows = []
    for name, label in (("memory_mb", "resident memory, MB"), ("descriptors", "descriptors"), ("threads", "threads")):
        values = [float(getattr(sample, name)) for sample in warm]
        exams = [sample.exams for sample in warm]
        slope = float(np.polyfit(exams, values, 1)[0]) * 1000 if len(set(exams)) > 1 else 0.0
        rows.append([label, len(values), values[0], values[-1], max(values), slope])
    columns = ["held", "samples", "when warm", "at the end", "most", "a line's rise for 1000 exams"]
    return {"columns": columns, "rows": rows}


def _latencies(place: Site, ended: dict[str, float]) -> list[float]:
    """Milliseconds from the sender's end until the last object of each exam lay in the PACS."""
    arrived: dict[str, float] = {}
    for path in place.received.iterdir():
        uid = _study(path)
        arrived[uid] = max(arrived.get(uid, 0.0), path.stat().st_mtime)
    if arrived.keys() != ended.keys():
        raise WrongAnswerError(f"the PACS has objects of {len(arrived)} of {len(ended)} exams")
    return [(arrived[uid] - ended[uid]) * 1e3 for uid in ended]


def _times(milliseconds: list[float], seconds: float) -> dict[str, Any]:
    p50, p95, p99, most = np.percentile(milliseconds, (50, 95, 99, 100))
    columns = ["exams", "ms p50", "ms p95", "ms p99", "ms at most", "of them quiet time", "exams an hour"]
    hourly = len(milliseconds) / seconds * 3600
    row = [len(milliseconds), float(p50), float(p95), float(p99), float(most), QUIET_S * 1e3, hourly]
    return {"columns": columns, "rows": [row]}


def _study(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
