"""`lnfast cohort` on a cluster of three machines: equal to `lnfast run`, and whole after every kill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from cohorts import FATAL, FatalWorker, Lines, SlowWorker, content, worker_processes, write_study
from command_line import lnfast

from lnfast.cluster import CohortRequest, run_cohort
from lnfast.cluster.placement import held
from lnfast.errors import UsageError

Content = dict[str, dict[str, bytes]]

DRIVER = """
import sys
from pathlib import Path
from cohorts import Lines, SlowWorker
from lnfast.cluster import CohortRequest, run_cohort
class Printed(Lines):
    def ended(self, entry, outcome, summary):
        print(summary.done, flush=True)
folder, out, model, address = sys.argv[1:]
request = CohortRequest(studies=(Path(folder),), out=Path(out), model=model, backend="openvino", address=address)
run_cohort(request, Printed(), kind=SlowWorker)
"""


def requested(studies: list[Path], out: Path, model: Path, machines: Any, **changes: Any) -> CohortRequest:
    return CohortRequest(studies=tuple(studies), out=out, model=str(model), address=machines.address, **changes)


def rows(out: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pyarrow.parquet.read_table(out / "studies.parquet").to_pylist()
    return table


def test_all_folders_are_those_of_run_and_the_tables_have_all_of_it(
    machines: Any, model: Path, studies: list[Path], expected: Content, tmp_path: Path
) -> None:
    display = Lines()
    summary = run_cohort(requested([studies[0].parent], tmp_path / "out", model, machines), display)
    assert content(tmp_path / "out") == expected
    assert (summary.done, summary.refused, summary.resumed) == (8, 0, 0)
    assert sorted(display.indices) == list(range(8))
    table = rows(tmp_path / "out")
    assert [row["study"] for row in table] == sorted(expected) and {row["status"] for row in table} == {"done"}
    nodes = pyarrow.parquet.read_table(tmp_path / "out" / "nodes.parquet").to_pylist()
    assert len(nodes) == sum(row["nodes"] for row in table)
    with open(tmp_path / "out" / "nodes.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["short_axis_mm"]) for row in read] == [row["short_axis_mm"] for row in nodes]

    again = run_cohort(requested(studies, tmp_path / "out", model, machines), Lines())
    assert (again.done, again.resumed) == (8, 8)
    timings = [name for name in table[0] if name.endswith("_ms") or name == "created"]
    resumed = rows(tmp_path / "out")
    assert [[row[name] for name in timings] for row in resumed] == [[row[name] for name in timings] for row in table]


def test_a_study_that_kills_its_worker_and_a_missing_one_are_rows_and_the_others_are_run(
    machines: Any, model: Path, studies: list[Path], expected: Content, tmp_path: Path
) -> None:
    fatal = write_study(tmp_path / f"{FATAL}.nii.gz", 99)
    manifest = tmp_path / "archive.csv"
    lines = [f"{path},site {number}" for number, path in enumerate([*studies, fatal, "gone.nii.gz"])]
    manifest.write_text("\n".join(["path,site", *lines]), encoding="utf-8")
    summary = run_cohort(requested([manifest], tmp_path / "out", model, machines), Lines(), kind=FatalWorker)
    assert content(tmp_path / "out") == expected
    assert summary.codes == {"worker-died": 1, "not-found": 1} and summary.exit_code == 3
    table = rows(tmp_path / "out")
    assert [row["site"] for row in table] == [f"site {number}" for number in range(10)]
    assert [row["code"] for row in table] == [None] * 8 + ["worker-died", "not-found"]
    assert table[8]["n_stage"] is None and table[8]["nodes"] is None


def test_the_kill_of_a_worker_costs_nothing(
    machines: Any,
    model: Path,
    studies: list[Path],
    expected: Content,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    killed: list[int] = []

    def kill() -> None:
        killed.append(worker_processes(os.getpid())[0])
        os.kill(killed[0], signal.SIGKILL)

    display = Lines(2, kill)
    summary = run_cohort(requested(studies, tmp_path / "out", model, machines), display, kind=SlowWorker)
    assert killed and content(tmp_path / "out") == expected
    assert (summary.done, summary.refused) == (8, 0) and sorted(display.indices) == list(range(8))
    assert capfd.readouterr().out == ""  # what Ray says of it is no result


def test_the_kill_of_a_machine_costs_nothing(
    machines: Any, model: Path, studies: list[Path], expected: Content, tmp_path: Path
) -> None:
    lost = machines.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
    display = Lines(3, lambda: machines.remove_node(lost, allow_graceful=False))
    request = requested(studies, tmp_path / "out", model, machines, workers=4)
    summary = run_cohort(request, display, kind=SlowWorker)
    assert content(tmp_path / "out") == expected
    assert (summary.done, summary.refused) == (8, 0) and sorted(display.indices) == list(range(8))


def test_after_the_kill_of_the_driver_the_same_command_does_what_is_left(
    machines: Any,
    model: Path,
    studies: list[Path],
    expected: Content,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = [str(studies[0].parent), str(out), str(model), machines.address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments], stdout=subprocess.PIPE, env=environment
    ) as driver:
        assert driver.stdout is not None
        try:
            while driver.stdout.readline().strip() != b"3":
                assert driver.poll() is None
        finally:
            driver.kill()
    partly = content(out, whole=False)
    assert 3 <= len(partly) < 8 and not (out / "studies.csv").exists()
    assert lnfast("cohort", studies[0].parent, "-o", out, "--model", model, "--address", machines.address) == 0
    assert content(out) == expected
    summary = capsys.readouterr().out
    assert summary.startswith("8 studies: 8 done (") and "0 refused" in summary
    assert len(rows(out)) == 8


def test_two_cohorts_never_write_to_one_folder_at_once(
    machines: Any, model: Path, studies: list[Path], tmp_path: Path
) -> None:
    with held(tmp_path / "out", print), pytest.raises(UsageError) as refused:
        run_cohort(requested(studies, tmp_path / "out", model, machines), Lines())
    assert refused.value.code == "output-in-use"
    assert os.listdir(tmp_path / "out") == []


def test_an_interrupt_leaves_whole_folders_and_nothing_else(model: Path, studies: list[Path], tmp_path: Path) -> None:
    """On a cluster that the command starts by itself, and that ends with it."""
    out = tmp_path / "out"
    call = [sys.executable, "-m", "lnfast", "cohort", *map(str, studies * 40), "-o", str(out), "--model", str(model)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        try:
            signal.signal(signal.SIGINT, before)
            until = time.monotonic() + 60
            while len(list(out.glob("*_p*"))) < 2 and driver.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            driver.send_signal(signal.SIGINT)
            _, lines = driver.communicate(timeout=60)
        finally:
            driver.kill()
    assert driver.returncode == 130, lines
    assert lines.splitlines()[-1] == "lnfast: interrupted" and "Traceback" not in lines
    assert 2 <= len(content(out)) < 320 and not (out / "studies.csv").exists()
