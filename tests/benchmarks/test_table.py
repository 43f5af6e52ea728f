"""The most important rows of a file, as Markdown and as plots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")

from benchmarks.__main__ import main
from benchmarks.harness.engines import STAGES
from benchmarks.harness.environment import describe_environment
from benchmarks.harness.rows import BenchmarkFile, Row, RowKey, make_row, write_json
from benchmarks.report.markdown import headlines, render_markdown
from benchmarks.report.plots import scaling_figure

KEY = RowKey("pipeline", "2 of 3", "total", "ours int8", "theirs")
SCALING = {
    "columns": ["subject", "along", "sizes", "stage", "ms", "slope", "slope p5", "slope p95"],
    "rows": [
        ["ours", "voxels", [300_000, 1_200_000], "read", [1.0, 10.0], 1.0, 0.9, 1.1],
        ["ours", "voxels", [300_000, 1_200_000], "infer", [476.4, 476.0], -0.001, -0.004, 0.002],
        ["ours", "nodes", [16, 64], "measure", [4.8, 17.6], 0.69, 0.64, 0.73],
    ],
}


def row(key: RowKey = KEY, verdict: str = "same", **bounds: Any) -> Row:
    return make_row(key, [2.0, 2.0, 2.2], [40.0, 40.0, 44.0], {"verdict": verdict}, **bounds)


def several() -> list[Row]:
    pipeline = [row(replace(KEY, stage=stage), target=20.0 if stage == "total" else None) for stage in STAGES]
    windows = "openvino int8, in its windows"
    further = [
        row(replace(KEY, study="achieva")),  # one study beside all of them
        row(replace(KEY, subject="ours fp32")),  # what auto did not take
        row(RowKey("pipeline", "28 x 3 DICOM files", "read DICOM", "ours int8", "pydicom"), limit=15.0),
        row(RowKey("network", "achieva", "infer", "openvino int8", "torch")),
        row(RowKey("network", "achieva", "infer", "openvino fp32", "torch")),
        row(RowKey("network", "24 of the certificate", "infer", windows, "torch")),
        row(RowKey("memory", "achieva", "peak", "ours", "theirs", "MB"), "different", limit=700.0),
        row(RowKey("kernels", "64x256x256", "label", "lnfast_ext", "cc3d"), target=10.0),
        row(RowKey("kernels", "64x256x256", "label", "lnfast_ext", "scipy")),
    ]
    return pipeline + further


def test_headlines_are_what_auto_takes_on_all_studies_and_kernels_with_a_target() -> None:
    keys = [(line.bench, line.stage, line.study, line.subject, line.peer) for line in headlines(several())]
    assert keys == [
        ("pipeline", "around", "2 of 3", "ours int8", "theirs"),
        ("pipeline", "total", "2 of 3", "ours int8", "theirs"),
        ("pipeline", "read DICOM", "28 x 3 DICOM files", "ours int8", "pydicom"),
        ("network", "infer", "achieva", "openvino int8", "torch"),
        ("network", "infer", "24 of the certificate", "openvino int8, in its windows", "torch"),
        ("memory", "peak", "achieva", "ours", "theirs"),
        ("kernels", "label", "64x256x256", "lnfast_ext", "cc3d"),
    ]


def test_the_table_has_ratios_targets_and_no_ratio_where_answers_differ() -> None:
    text = render_markdown([BenchmarkFile(describe_environment(2), several(), {"scaling": SCALING})])
    lines = text.splitlines()
    total = "| pipeline, total: 2 of 3 | ours int8 | theirs | 2.00 ms (2.00-2.18) | 40.0 (40.0-43.6) | 20.00x | 20x |"
    assert total in lines
    assert "| memory, peak: achieva | ours | theirs | 2.00 MB (2.00-2.18) |" in text
    assert "| different | under 700 MB |" in text
    assert "| ours | voxels | 300000 1200000 | read | 1.00 10.0 | 1.00 | 0.90 | 1.10 |" in lines
    assert len({line.count("|") for line in lines if line.startswith("| pipeline") or "---" in line[:4]}) == 1


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    write_json(files[0], describe_environment(2), several())
    write_json(files[1], describe_environment(1), [], {"scaling": SCALING})
    done = CliRunner().invoke(main, ["table", *map(str, files), "--plot", str(tmp_path / "pictures")])
    assert done.exit_code == 0, done.output
    assert done.stdout.count(" threads on ") == 2 and "20.00x" in done.stdout
    for name in ("benchmarks.png", "scaling.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")
    assert CliRunner().invoke(main, ["table"]).exit_code == 2


def test_a_plot_of_growth_says_sizes_and_slopes() -> None:
    voxels, nodes = scaling_figure(SCALING).axes
    assert [label.get_text() for label in voxels.get_xticklabels()] == ["0.3 M", "1.2 M"]
    assert [label.get_text() for label in nodes.get_xticklabels()] == ["16", "64"]
    assert voxels.get_legend_handles_labels()[1] == ["read: 1.00", "infer: 0.00"]
