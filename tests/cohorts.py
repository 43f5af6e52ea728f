"""Cohorts for tests: studies, workers that are slow or deadly, what the folders hold, and processes of Ray to kill."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import psutil
from command_line import SHAPE_ZYX
from model_files import blob_network, make_model_folder
from nifti_files import write_nifti

from lnfast.cluster.inputs import Entry
from lnfast.cluster.messages import Outcome, Task
from lnfast.cluster.run import CohortSummary
from lnfast.cluster.worker import CohortWorker

TABLES = {"studies.parquet", "studies.csv", "nodes.parquet", "nodes.csv"}
FATAL = "fatal"
_TIMES = re.compile(
    rb'"(?:read|preprocess|infer|postprocess|measure|write|total)": [\d.e+-]+'
    rb"|\d{4}-\d\d-\d\dT[\d:.]+Z|\d[\d,.]* m?s\b"
)


class SlowWorker(CohortWorker):
    """Takes its time before each study, so that something can happen in the middle."""

    def run(self, task: Task) -> Outcome:
        time.sleep(0.4)
        return super().run(task)


class FatalWorker(CohortWorker):
    """Dies of a study, as of a bug of a runtime."""

    def run(self, task: Task) -> Outcome:
        if FATAL in task.path:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(task)


class Lines:
    """A `lnfast.cluster.Display` that keeps what it is shown, and calls back at a number of studies."""

    def __init__(self, at: int = -1, act: object = None) -> None:
        self.lines: list[str] = []
        self.indices: list[int] = []
        self._at, self._act = at, act

    def log(self, line: str) -> None:
        self.lines.append(line)

    def ended(self, entry: Entry, outcome: Outcome, summary: CohortSummary) -> None:
        self.indices.append(outcome.index)
        if len(self.indices) == self._at:
            assert callable(self._act)
            self._act()


def make_model(folder: Path) -> Path:
    """Write a model whose network marks bright voxels, of the studies of `write_studies`."""
    return make_model_folder(folder, blob_network(SHAPE_ZYX), shape_zyx=SHAPE_ZYX)


def write_study(path: Path, seed: int) -> Path:
    """Write a study with one or two nodes, whose size and place depend on the seed."""
    rng = np.random.default_rng(seed)
    array = rng.integers(80, 120, SHAPE_ZYX).astype(np.int16)
    size = rng.integers(2, 5, 3)
    array[tuple(slice(2, 2 + edge) for edge in size)] = 1000 + seed
    if seed % 2:
        array[8:10, 15:20, 14:22] = 900
    path.parent.mkdir(parents=True, exist_ok=True)
    srow = (-3.0, 0.0, 0.0, 60.0, 0.0, -2.0, 0.0, 40.0, 0.0, 0.0, 2.5, -20.0)
    return write_nifti(path, array, bval="1000", srow=srow, pixdim=(1, 3, 2, 2.5, 1, 1, 1, 1))


def write_studies(folder: Path, count: int) -> list[Path]:
    """Write studies ``p0`` to ``pN``."""
    return [write_study(folder / f"p{seed}.nii.gz", seed) for seed in range(count)]


def content(out: Path, *, whole: bool = True) -> dict[str, dict[str, bytes]]:
    """Return every file of every study folder, without times; check that there is nothing else but the tables.

    Args:
        out: of a run.
        whole: nothing may be half-written; else hidden folders are left out.
    """
    folders = {}
    for path in out.iterdir():
        if path.name in TABLES or (not whole and path.name.startswith(".")):
            continue
        assert path.is_dir() and not path.name.startswith("."), path
        folders[path.name] = {file.name: _TIMES.sub(b"TIME", file.read_bytes()) for file in path.iterdir()}
        json.loads((path / "report.json").read_bytes())
    return folders


def worker_processes(parent: int) -> list[int]:
    """Return the processes of workers below a process, or of a whole machine of `ray.cluster_utils`."""
    processes = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    return [process.pid for process in processes if _title(process).startswith("ray::") and "Worker" in _title(process)]


def _title(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""
