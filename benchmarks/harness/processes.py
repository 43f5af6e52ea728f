"""A process from its start to a report on disk."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.timing import Times

_POLL_S = 0.001


class ProcessFailedError(WrongAnswerError):
    """A process ended without its report."""


@dataclass(frozen=True)
class FinishedProcess:
    """The times and the report of a process.

    Attributes:
        times: ``report`` and ``exit`` in ms, from the start until the report is written and until the process has
            ended. ``peak`` in MB, where it was requested: the most memory that it held at once.
        report: the content of its report.json.
    """

    times: Times
    report: dict[str, Any]


def run_process(command: list[Any], report: Path, folder: Path, *, peak: bool = False) -> FinishedProcess:
    """Start a process in ``folder`` and wait for its report and its end.

    Raises:
        ProcessFailedError: it failed, or ``report`` does not exist.
    """
    started = perf_counter()
    written: float | None = None
    most_mb = 0.0
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        while child.poll() is None:
            if written is None and report.exists():
                written = perf_counter()
            if peak:
                most_mb = max(most_mb, peak_mb(child.pid))
            sleep(_POLL_S)
        ended = perf_counter()
        output.seek(0)
        message = output.read().decode(errors="replace").strip()
    if child.returncode != 0 or not report.exists():
        raise ProcessFailedError(f"{' '.join(map(str, command[:4]))} ended with {child.returncode}: {message}")
    times = {"report": ((written or ended) - started) * 1e3, "exit": (ended - started) * 1e3}
    return FinishedProcess(times | ({"peak": most_mb} if peak else {}), json.loads(report.read_text(encoding="utf-8")))


def peak_mb(process: int) -> float:
    """Return the peak memory of a process in 10^6 bytes since its program began; 0 once it has ended. Linux only.

    ``getrusage`` does not serve: its peak of a child begins with the memory of the process that started it.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), default=0.0)
