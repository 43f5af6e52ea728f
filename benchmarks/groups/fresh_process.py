"""Real processes of both sides, from their start to a report on disk.

Ours is ``lnfast run`` of the same interpreter, in what ``auto`` takes here and in
`benchmarks.harness.engines.precisions`; a peer's is `benchmarks.peers.script`. Each has one thread per core. The first
run of everyone is for the answers. It also brings files into the system's memory and proves our engine on its probe,
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
from benchmarks.harness.engines import name_of, precisions
from benchmarks.harness.environment import usable_cores
from benchmarks.harness.processes import Ended, run_process
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Samples, Times, interleave
from benchmarks.peers.script import PEERS

# A process of a peer; what is installed comes before what lies in the checkout.
_PEER_CODE = "import sys; sys.path.append(sys.argv[1]); from benchmarks.peers.script import run; run(*sys.argv[2:])"


@dataclass(frozen=True)
class Contest:
    """Processes of everyone on one study.

    Attributes:
        ours, theirs: reports of the first run by name.
        samples: what was measured, by name.
    """

    ours: dict[str, dict[str, Any]]
    theirs: dict[str, dict[str, Any]]
    samples: dict[str, Samples]


def contest(settings: Settings, study: Path, *, repeats: int, peak: bool = False) -> Contest:
    """Run everyone once for the answers, then in turn; a quick run has the first alone, of one subject and one peer.

    Args:
        settings: whose model is run.
        study: a file.
        repeats: rounds after the first, at least 1.
        peak: measure memory, at the price of looking every millisecond.

    Raises:
        ProcessFailedError: a side wrote no report.
    """
    with tempfile.TemporaryDirectory(prefix="lnfast-processes-") as work:
        start = partial(_ours, settings, study, Path(work), peak)
        auto = partial(start, "auto", "auto")
        first = auto()
        engine = first.report["engine"]
        others = [partial(start, *way) for way in precisions(settings, (engine["backend"], engine["precision"]))]
        ours = {name_of(one.report): (call, one) for call, one in [(auto, first), *((call, call()) for call in others)]}
        scripts = {name: partial(_theirs, settings, study, Path(work), peak, name) for name in PEERS}
        theirs = {name: (scripts[name], scripts[name]()) for name in list(PEERS)[: 1 if settings.quick else None]}
        everyone = ours | theirs
        samples = {name: {what: [value] for what, value in one.times.items()} for name, (_, one) in everyone.items()}
        if not settings.quick:
            samples = interleave(
                {name: partial(_times, call) for name, (call, _) in everyone.items()},
                repeats=repeats,
                warmups=0,
                log=lambda line: settings.log(f"processes: {line}"),
            )
    ours_told, theirs_told = ({name: one.report for name, (_, one) in side.items()} for side in (ours, theirs))
    return Contest(ours_told, theirs_told, samples)


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Stage and number of suspicious nodes of two reports."""
    stages = ours["summary"]["n_stage"], theirs["n_stage"]
    suspicious = ours["summary"]["suspicious"], theirs["suspicious"]
    verdict: Verdict = "wrong" if stages[0] != stages[1] else "same" if suspicious[0] == suspicious[1] else "different"
    return {"verdict": verdict, "n_stage": stages, "suspicious": suspicious}


def _ours(settings: Settings, study: Path, folder: Path, peak: bool, backend: str, precision: str) -> Ended:
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "lnfast", "run", study, "-o", out, "--model", settings.model.folder]
    command += ["--device", "cpu", "--backend", backend, "--precision", precision]
    return run_process(command, out / study.name.removesuffix(".nii.gz") / "report.json", folder, peak=peak)


def _theirs(settings: Settings, study: Path, folder: Path, peak: bool, name: str) -> Ended:
    out = Path(tempfile.mkdtemp(dir=folder)) / "study"
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _PEER_CODE, root, name, study, out, settings.model.folder, usable_cores()]
    return run_process(command, out / "report.json", folder, peak=peak)


def _times(call: Callable[[], Ended]) -> Times:
    return call().times
