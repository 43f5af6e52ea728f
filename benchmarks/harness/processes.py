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
class Ended:
    """What a process left.

    Attributes:
        times: ``report`` and ``exit`` in ms from the start: the report is there, the process is gone. ``peak`` in MB:
            the most memory that it held at once, where that was asked for.
        report: its report.json.
    """

    times: Times
    report: dict[str, Any]


def run_process(command: list[Any], report: Path, folder: Path, *, peak: bool = False) -> Ended:
    """Start a process in ``folder`` and wait for its report and its end.

    Raises:
        ProcessFailedError: it failed, or ``report`` is not there.
    """
    started = perf_counter()
    written: float | None = None
    most_mb = 0.0
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while child.poll() is None:
            if written is None and report.exists():
                written = perf_counter()
            if peak:
                most_mb = max(most_mb, peak_mb(child.pid))
            sleep(_POLL_S)
        ended = perf_counter()
        said.seek(0)
        told = said.read().decode(errors="replace").strip()
    if child.returncode != 0 or not report.exists():
        raise ProcessFailedError(f"{' '.join(map(str, command[:4]))} ended with {child.returncode}: {told}")
    times = {"report": ((written or ended) - started) * 1e3, "exit": (ended - started) * 1e3}
    return Ended(times | ({"peak": most_mb} if peak else {}), json.loads(report.read_text(encoding="utf-8")))


def peak_mb(process: int) -> float:
    """The most memory, in 10^6 bytes, that a process has held since its program began; 0 once it has ended. Linux only.

    Not of ``getrusage``: what that says of a child begins with the memory of the process that started it.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), default=0.0)
