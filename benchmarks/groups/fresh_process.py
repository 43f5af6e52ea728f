"""One process per run, from its start to a report on disk, for the groups ``coldstart`` and ``memory``.

Ours is ``lnfast run`` of the same interpreter, with what ``auto`` takes here and with
`benchmarks.harness.engines.further_engines`; a peer's is `benchmarks.peers.script`. Each has one thread per core. The
first run of each is for the answers. It also brings files into the system's memory and proves our engine on its probe,
which is then remembered.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.agreement import Verdict
from benchmarks.harness.engines import engine_name, further_engines
from benchmarks.harness.environment import usable_cores
from benchmarks.harness.processes import FinishedProcess, run_process
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Samples, Times, interleave
from benchmarks.peers.script import PEERS
from lnfast.backends.registry import AUTO

# A process of a peer; installed packages come before the checkout.
_PEER_CODE = "import sys; sys.path.append(sys.argv[1]); from benchmarks.peers.script import run; run(*sys.argv[2:])"

Start = Callable[[], FinishedProcess]


@dataclass(frozen=True)
class ProcessRuns:
    """Processes of both sides on one study.

    Attributes:
        ours, theirs: reports of the first run by name.
        samples: times and peaks, by name.
    """

    ours: dict[str, dict[str, Any]]
    theirs: dict[str, dict[str, Any]]
    samples: dict[str, Samples]


def run_processes(settings: Settings, study: Path, *, repeats: int, peak: bool = False) -> ProcessRuns:
    """Run each process once for the answers, then all in turn.

    A quick run has the first run alone, of one subject and one peer.

    Args:
        settings: with the model.
        study: a file.
        repeats: rounds after the first, at least 1.
        peak: measure memory, at the price of a reading every millisecond.

    Raises:
        ProcessFailedError: a side wrote no report.
    """
    with tempfile.TemporaryDirectory(prefix="lnfast-processes-") as work:
        run_ours = partial(_run_ours, settings, study, Path(work), peak)
        starts: dict[str, Start] = {}
        finished: dict[str, FinishedProcess] = {}

        def first_run(start: Start, name: str = "") -> FinishedProcess:
            process = start()
            name = name or engine_name(process.report)
            starts[name], finished[name] = start, process
            return process

        engine = first_run(partial(run_ours, AUTO, AUTO)).report["engine"]
        for backend, precision in further_engines(settings, (engine["backend"], engine["precision"])):
            first_run(partial(run_ours, backend, precision))
        subjects = list(finished)
        peers = list(PEERS)[: 1 if settings.quick else None]
        for name in peers:
            first_run(partial(_run_peer, settings, study, Path(work), peak, name), name)
        if settings.quick:
            samples = {name: {what: [value] for what, value in finished[name].times.items()} for name in finished}
        else:
            samples = interleave(
                {name: partial(_times, start) for name, start in starts.items()},
                repeats=repeats,
                warmups=0,
                progress=lambda message: settings.progress(f"processes: {message}"),
            )
    ours, theirs = ({name: finished[name].report for name in names} for names in (subjects, peers))
    return ProcessRuns(ours, theirs, samples)


def compare_reports(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Compare the stage and the number of suspicious nodes of two reports."""
    stages = ours["summary"]["n_stage"], theirs["n_stage"]
    suspicious = ours["summary"]["suspicious"], theirs["suspicious"]
    verdict: Verdict = "wrong" if stages[0] != stages[1] else "same" if suspicious[0] == suspicious[1] else "different"
    return {"verdict": verdict, "n_stage": stages, "suspicious": suspicious}


def _run_ours(
    settings: Settings, study: Path, folder: Path, peak: bool, backend: str, precision: str
) -> FinishedProcess:
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "lnfast", "run", study, "-o", out, "--model", settings.model.folder]
    command += ["--device", "cpu", "--backend", backend, "--precision", precision]
    return run_process(command, out / study.name.removesuffix(".nii.gz") / "report.json", folder, peak=peak)


def _run_peer(settings: Settings, study: Path, folder: Path, peak: bool, name: str) -> FinishedProcess:
    out = Path(tempfile.mkdtemp(dir=folder)) / "study"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _PEER_CODE, root, name, study, out, settings.model.folder, usable_cores()]
    return run_process(command, out / "report.json", folder, peak=peak)


def _times(start: Start) -> Times:
    return start().times
