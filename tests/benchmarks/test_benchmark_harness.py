"""Interleaved runs, processes and the environment."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.groups.fresh_process import compare_reports
from benchmarks.harness import processes
from benchmarks.harness.environment import describe_environment
from benchmarks.harness.processes import ProcessFailedError
from benchmarks.harness.timing import Stopwatch, interleave, pool, summarize


def test_summary_is_median_and_percentiles() -> None:
    summary = summarize([float(value) for value in range(101)])
    assert (summary.n, summary.median, summary.p5, summary.p95) == (101, 50.0, 5.0, 95.0)
    with pytest.raises(ValueError, match="no runs"):
        summarize([])


def test_runs_alternate_and_warmups_do_not_count() -> None:
    order: list[str] = []

    def contender(name: str) -> Any:
        def run() -> dict[str, float]:
            order.append(name)
            return {"total": float(len(order))}

        return run

    samples = interleave({"a": contender("a"), "b": contender("b")}, repeats=2, warmups=1, settle_s=0.0)
    assert order == ["a", "b"] * 3
    assert samples == {"a": {"total": [3.0, 5.0]}, "b": {"total": [4.0, 6.0]}}
    assert pool([samples["a"], samples["b"]]) == {"total": [3.0, 5.0, 4.0, 6.0]}


def test_the_total_holds_every_stage() -> None:
    stopwatch = Stopwatch()
    for stage in ("read", "infer"):
        with stopwatch.stage(stage):
            pass
    assert set(stopwatch.times_ms) == {"read", "infer", "total"}
    assert stopwatch.times_ms["total"] >= stopwatch.times_ms["read"] + stopwatch.times_ms["infer"]


def test_another_stage_in_a_fresh_process_is_wrong() -> None:
    ours = {"summary": {"n_stage": "N1", "suspicious": 2}}
    verdicts = [
        compare_reports(ours, {"n_stage": n, "suspicious": s})["verdict"] for n, s in (("N1", 2), ("N1", 1), ("N0", 0))
    ]
    assert verdicts == ["same", "different", "wrong"]


def test_a_process_without_a_report_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailedError, match="ended with 3: no luck"):
        processes.run_process(["sh", "-c", "echo no luck; exit 3"], tmp_path / "report.json", tmp_path)
    with pytest.raises(ProcessFailedError, match="ended with 0"):
        processes.run_process(["true"], tmp_path / "report.json", tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a peak is read from /proc")
def test_a_peak_is_the_child_s_own_and_the_most_it_held(tmp_path: Path) -> None:
    """This process, which starts it, holds torch."""
    report = tmp_path / "report.json"
    code = "import sys, time; a = bytearray({}); del a; open(sys.argv[1], 'w').write('{{}}'); time.sleep(0.05)"
    peaks = []
    for size in (0, 100_000_000):
        command = [sys.executable, "-S", "-c", code.format(size), report]
        peaks.append(processes.run_process(command, report, tmp_path, peak=True).times["peak"])
    assert peaks[0] < 40
    assert peaks[1] - peaks[0] == pytest.approx(100, abs=5)


def test_the_environment_is_json_and_names_nobody() -> None:
    text = json.dumps(describe_environment(2))
    wanted = "cpu cpu_flags cpu_limit cores threads governor load_average versions date commit"
    assert set(wanted.split()) <= set(json.loads(text))
    assert str(Path.home()) not in text
    assert platform.node() not in text
