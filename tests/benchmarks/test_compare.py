"""Two files of rows: a slower machine is no regression, noise is none, and a ratio that fell is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.harness.rows import BenchmarkFile, Row, RowKey, make_row, read_json, write_json
from benchmarks.report.compare import compare_files
from lnfast.errors import UsageError

KEY = RowKey("pipeline", "all", "total", "ours", "theirs")
FACTS: dict[str, Any] = {"model": {"name": "bright", "sha256": "a" * 64}, "threads": 2, "versions": {"torch": "2.13"}}


def row(subject: float, peer: float, *, spread: float = 1.02, key: RowKey = KEY, verdict: str = "same") -> Row:
    """Three runs of each, p5 to p95 within 0.95 of the spread either way."""
    runs = [[value / spread, value, value * spread] for value in (subject, peer)]
    return make_row(key, *runs, {"verdict": verdict})


def file_of(*rows: Row, **facts: Any) -> BenchmarkFile:
    return BenchmarkFile({**FACTS, **facts}, list(rows), {})


def outcome(old: Row, new: Row, threshold: float = 1.1) -> str:
    (change,) = compare_files(file_of(old), file_of(new), threshold).changes
    return change.outcome


def test_a_machine_of_half_the_speed_is_no_slowdown() -> None:
    comparison = compare_files(file_of(row(10, 100)), file_of(row(20, 200)))
    (change,) = comparison.changes
    assert (change.old, change.new, change.change, change.outcome) == (10.0, 10.0, 1.0, "unchanged")
    assert not comparison.regressions


def test_what_became_slower_against_its_peer_is_a_regression() -> None:
    comparison = compare_files(file_of(row(10, 100)), file_of(row(25, 200)))
    (change,) = comparison.regressions
    assert change.change == pytest.approx(0.8)
    assert change.low and change.high and change.low < 0.8 < change.high < 1
    # Four series, each with its p5 and p95 at 0.9 of the way to a factor of 1.02.
    assert change.high / 0.8 == pytest.approx(1.02 ** (0.9 * 2), rel=1e-3)
    assert outcome(row(25, 200), row(10, 100)) == "faster"


def test_noise_is_no_regression() -> None:
    assert outcome(row(10, 100), row(25, 200, spread=1.5)) == "unchanged"
    assert outcome(row(10, 100), row(10.5, 100)) == "unchanged"
    assert outcome(row(10, 100), row(12, 100)) == "slower"
    assert outcome(row(10, 100), row(12, 100), threshold=1.25) == "unchanged"


def test_of_two_runs_nothing_is_known() -> None:
    once = make_row(KEY, [40.0, 40.0], [100.0, 100.0], {"verdict": "same"})
    assert outcome(row(10, 100), once) == "unknown"


def test_an_answer_that_became_wrong_is_a_regression_and_one_that_differs_has_no_ratio() -> None:
    assert outcome(row(10, 100), row(10, 100, verdict="wrong")) == "worse answer"
    assert outcome(row(10, 100), row(10, 100, verdict="different")) == "unknown"
    assert outcome(row(10, 100, verdict="different"), row(10, 100, verdict="wrong")) == "unknown"


def test_rows_are_matched_by_all_that_they_are_about() -> None:
    other_keys = [replace(KEY, **{name: "other"}) for name in ("bench", "study", "stage", "subject", "peer")]
    old = file_of(row(10, 100), *(row(10, 100, key=key) for key in other_keys[:2]))
    new = file_of(
        *(row(50, 100, key=key) for key in other_keys[2:]), row(10, 100), versions={"torch": "2.14"}, threads=1
    )
    comparison = compare_files(old, new)
    assert (len(comparison.changes), comparison.only_old, comparison.only_new) == (1, 2, 3)
    assert comparison.differences == ["threads: 2 and 1", "torch: 2.13 and 2.14"]


def test_the_worst_comes_first() -> None:
    keys = [replace(KEY, stage=name) for name in ("a", "b", "c")]
    old = file_of(*(row(10, 100, key=key) for key in keys))
    new = file_of(*(row(ms, 100, key=key) for ms, key in zip((10, 20, 40), keys, strict=True)))
    assert [change.key.stage for change in compare_files(old, new).changes] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (file_of(row(10, 100), model={"sha256": "b" * 64}), "other-model"),
        (file_of(row(10, 100, key=replace(KEY, stage="read"))), "nothing-in-common"),
        (file_of(row(10, 100), row(10, 100)), "nothing-in-common"),
    ],
)
def test_what_does_not_compare_is_refused(new: BenchmarkFile, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare_files(file_of(row(10, 100)), new)
    assert caught.value.code == code


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / f"{name}.json" for name in ("old", "same", "slower", "first", "none")}
    write_json(files["old"], FACTS, [row(10, 100)], {"t": {"columns": ["a"], "rows": [[1]]}})
    write_json(files["same"], FACTS, [row(20, 200)])
    write_json(files["slower"], FACTS, [row(30, 200)])
    files["first"].write_text(files["old"].read_text().replace("benchmarks/2", "benchmarks/1"))
    files["none"].write_text("[]")
    return files


def test_what_is_written_is_read(written: dict[str, Path]) -> None:
    back = read_json(written["old"])
    assert (back.environment, back.rows) == (FACTS, [row(10, 100)])
    assert back.tables == {"t": {"columns": ["a"], "rows": [[1]]}}


@pytest.mark.parametrize(
    ("new", "options", "code", "message"),
    [
        ("same", [], 0, "1 unchanged"),
        ("slower", [], 1, "slower"),
        ("slower", ["--threshold", "1.6"], 0, "1 unchanged"),
        ("slower", ["--threshold", "1"], 2, "threshold"),
        ("first", [], 2, "other-schema: "),
        ("none", [], 2, "not-benchmarks: "),
    ],
)
def test_the_command_has_its_exit_codes(
    written: dict[str, Path], new: str, options: list[str], code: int, message: str
) -> None:
    done = CliRunner().invoke(main, ["compare", str(written["old"]), str(written[new]), *options])
    assert (done.exit_code, message in done.output) == (code, True), done.output
    if message.endswith(": "):
        assert done.stderr.count("\n") == 1
