"""Real processes of both sides, from their start to a report on disk.

Ours is ``lnfast run`` of the same interpreter, in what ``auto`` takes here and in `benchmarks.engines.precisions`; a
peer's is a script that imports what it needs, reads the same weights and runs its pipeline once; a thread for each
core. The first run of everyone is for the answers. It also brings files into the system's memory and proves our engine
on its probe, which is then remembered. This module imports no peer: what a script imports is the script's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.agreement import Verdict, WrongAnswerError
from benchmarks.engines import name_of, precisions
from benchmarks.environment import usable_cores
from benchmarks.settings import Settings
from benchmarks.timing import Samples, Times, interleave

# Module and class of each peer's pipeline.
PEERS = {
    "pytorch eager fp32": ("benchmarks.peers", "TorchPipeline"),
    "monai eager fp32": ("benchmarks.monai_peer", "MonaiPipeline"),
}
# A process of a peer; what is installed comes before what lies in the checkout.
_PEER_CODE = "import sys; sys.path.append(sys.argv[1]); from benchmarks.processes import peer; peer(*sys.argv[2:])"
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


def peer(name: str, study: str, out: str, model: str, threads: str) -> None:
    """What a researcher's script does, from import to report."""
    import torch

    from benchmarks.onnx_torch import OnnxUNet
    from lnfast.card import load_model

    module, pipeline = PEERS[name]
    torch.set_num_threads(int(threads))
    loaded = load_model(Path(model))
    network = OnnxUNet(loaded.onnx_bytes).eval()
    getattr(import_module(module), pipeline)(network, loaded.card).run(Path(study), Path(out))


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


def _ours(settings: Settings, study: Path, folder: Path, peak: bool, backend: str, precision: str) -> Ended:
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "lnfast", "run", study, "-o", out, "--model", settings.model.folder]
    command += ["--device", "cpu", "--backend", backend, "--precision", precision]
    return run_process(command, out / study.name.removesuffix(".nii.gz") / "report.json", folder, peak=peak)


def _theirs(settings: Settings, study: Path, folder: Path, peak: bool, name: str) -> Ended:
    out = Path(tempfile.mkdtemp(dir=folder)) / "study"
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", _PEER_CODE, root, name, study, out, settings.model.folder, usable_cores()]
    return run_process(command, out / "report.json", folder, peak=peak)


def _times(call: Callable[[], Ended]) -> Times:
    return call().times
