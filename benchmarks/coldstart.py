"""From the start of a process to the report on disk, once: what a study costs where nothing is resident.

Both sides are real processes of the same interpreter, started in turn: ``lnfast run`` with what `auto` takes here, and
the researcher's pipeline of `benchmarks.peers`, which imports torch and reads the same weights; a thread for each core.
Files are in the system's memory, and lnfast's self-test has been passed since the machine was started: each side ran
once before. The quick run has that one run only, which proves the engine on its probe as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.agreement import Verdict, WrongAnswerError
from benchmarks.environment import usable_cores
from benchmarks.pipeline import write_study
from benchmarks.reference import Reference
from benchmarks.rows import Pair, Row, make_row
from benchmarks.settings import Settings
from benchmarks.timing import Samples, Times, interleave

PEER = "pytorch eager fp32"
# A process of the peer; what is installed comes before what lies in the checkout.
_PEER_CODE = "import sys; sys.path.append(sys.argv[1]); from benchmarks.coldstart import peer; peer(*sys.argv[2:])"
_POLL_S = 0.001


Call = Callable[[], tuple[Times, dict[str, Any]]]


class ProcessFailedError(WrongAnswerError):
    """A process ended without its report."""


def run(settings: Settings, reference: Reference) -> list[Row]:
    """Rows for ``report`` (written) and ``exit`` (the process is gone).

    Raises:
        ProcessFailedError: a side wrote no report.
    """
    with tempfile.TemporaryDirectory(prefix="lnfast-cold-") as work:
        folder = Path(work)
        study = write_study(reference.volumes[reference.study], folder / f"{reference.study}.nii.gz")
        precisions = ("auto",) if settings.quick else ("auto", "fp32")
        ours = {precision: partial(_ours, settings, study, folder, precision) for precision in precisions}
        theirs = partial(_theirs, settings, study, folder)
        first = {precision: call() for precision, call in ours.items()}
        reports = {precision: report for precision, (_, report) in first.items()}
        once, expected = theirs()
        names = {precision: _name(report) for precision, report in reports.items()}
        calls: dict[str, Call] = {names[precision]: call for precision, call in ours.items()} | {PEER: theirs}
        samples = {names[precision]: _series(times) for precision, (times, _) in first.items()} | {PEER: _series(once)}
        if not settings.quick:
            samples = interleave(
                {name: partial(_times, call) for name, call in calls.items()},
                repeats=settings.repeats,
                warmups=0,
                log=lambda line: settings.log(f"coldstart: {line}"),
            )
    return [
        make_row(
            Pair("coldstart", reference.study, stage, names[precision], PEER),
            samples[names[precision]][stage],
            samples[PEER][stage],
            agree(report, expected) | {"self_test": "run" if settings.quick else "remembered"},
        )
        for precision, report in reports.items()
        for stage in ("report", "exit")
    ]


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Stage and number of suspicious nodes of two reports."""
    stages = ours["summary"]["n_stage"], theirs["n_stage"]
    suspicious = ours["summary"]["suspicious"], theirs["suspicious"]
    verdict: Verdict = "wrong" if stages[0] != stages[1] else "same" if suspicious[0] == suspicious[1] else "different"
    return {"verdict": verdict, "n_stage": stages, "suspicious": suspicious}


def peer(study: str, out: str, model: str, threads: str) -> None:
    """What a researcher's script does, from import to report."""
    import torch

    from benchmarks.onnx_torch import OnnxUNet
    from benchmarks.peers import TorchPipeline
    from lnfast.card import load_model

    torch.set_num_threads(int(threads))
    loaded = load_model(Path(model))
    TorchPipeline(OnnxUNet(loaded.onnx_bytes).eval(), loaded.card).run(Path(study), Path(out))


def _ours(settings: Settings, study: Path, folder: Path, precision: str) -> tuple[Times, dict[str, Any]]:
    out = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "lnfast", "run", study, "-o", out, "--model", settings.model.folder]
    command += ["--device", "cpu", "--precision", precision]
    return _timed(command, out / study.name.removesuffix(".nii.gz") / "report.json", folder)


def _theirs(settings: Settings, study: Path, folder: Path) -> tuple[Times, dict[str, Any]]:
    out = Path(tempfile.mkdtemp(dir=folder)) / "study"
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", _PEER_CODE, root, study, out, settings.model.folder, usable_cores()]
    return _timed(command, out / "report.json", folder)


def _timed(command: list[Any], report: Path, folder: Path) -> tuple[Times, dict[str, Any]]:
    started = perf_counter()
    written: float | None = None
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while child.poll() is None:
            if written is None and report.exists():
                written = perf_counter()
            sleep(_POLL_S)
        ended = perf_counter()
        said.seek(0)
        told = said.read().decode(errors="replace").strip()
    if child.returncode != 0 or not report.exists():
        raise ProcessFailedError(f"{' '.join(map(str, command[:4]))} ended with {child.returncode}: {told}")
    times = {"report": ((written or ended) - started) * 1e3, "exit": (ended - started) * 1e3}
    return times, json.loads(report.read_text(encoding="utf-8"))


def _times(call: Call) -> Times:
    return call()[0]


def _series(times: Times) -> Samples:
    return {stage: [milliseconds] for stage, milliseconds in times.items()}


def _name(report: dict[str, Any]) -> str:
    engine = report["engine"]
    kind = "the model's own graph" if engine["certificate"] is None else "certified engine"
    return f"lnfast {engine['backend']} {engine['precision']}, {kind}"
