"""Answers that agree and answers that do not, and the rows that are printed and written of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package in ("onnx", "onnxruntime", "torch", "trimesh", "monai", "cc3d"):
    pytest.importorskip(package)

from benchmarks.groups import pipeline  # noqa: E402
from benchmarks.harness.agreement import StudyAnswer, WrongAnswerError, compare_answers, dice, worst_agreement  # noqa: E402
from benchmarks.harness.environment import describe_environment  # noqa: E402
from benchmarks.harness.rows import RowKey, make_row, write_json, wrong_rows  # noqa: E402
from benchmarks.report.console import print_rows  # noqa: E402

ROW_KEYS = {"bench", "study", "stage", "subject", "peer", "subject_median", "peer_median", "ratio", "agreement"}
ROW_KEYS |= {"subject_p5", "subject_p95", "peer_p5", "peer_p95", "n", "unit", "floor", "of_floor", "target", "limit"}
KEY = RowKey("pipeline", "all", "total", "ours", "theirs")


def answer(labels: np.ndarray, box: tuple[float, float, float] = (2.0, 3.0, 4.0), stage: str = "N0") -> StudyAnswer:
    return StudyAnswer(labels, (box,) * int(labels.max()), (1,) if stage == "N1" else (), stage)


@pytest.fixture
def labels() -> np.ndarray:
    array = np.zeros((8, 20, 20), np.uint16)
    array[2:5, 3:10, 3:10] = 1
    array[6, 15, 15] = 2
    return array


def test_equal_answers_are_the_same(labels: np.ndarray) -> None:
    agreement = compare_answers(answer(labels), answer(labels, box=(2.5, 3.0, 4.0)))
    assert (agreement.verdict, agreement.dice, agreement.same_voxels) == ("same", 1.0, 2)
    assert agreement.short_axis_mm == 0.5
    assert agreement.box_excess == pytest.approx(-0.2)


def test_a_small_node_more_is_close_and_the_row_says_so(labels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    more = labels.copy()
    more[0, 0, 0] = 3
    agreement = compare_answers(answer(labels, stage="N1"), answer(more, stage="N1"))
    assert agreement.verdict == "close"
    row = make_row(KEY, [1.0], [9.0], agreement.to_dict())
    assert row.ratio == 9.0
    print_rows(describe_environment(2), [row])
    assert "close: nodes 2 / 3" in capsys.readouterr().out


@pytest.mark.parametrize("peer_suspicious", [(), (2,), (1, 2)])
def test_another_suspicious_node_is_different_not_beaten(labels: np.ndarray, peer_suspicious: tuple[int, ...]) -> None:
    ours, theirs = answer(labels, stage="N1"), replace(answer(labels, stage="N1"), suspicious=peer_suspicious)
    for agreement in (compare_answers(ours, theirs), compare_answers(theirs, ours)):
        assert agreement.verdict == "different"
        row = make_row(KEY, [1.0], [9.0], agreement.to_dict())
        assert row.ratio is None
        assert not wrong_rows([row])


@pytest.mark.parametrize("fault", ["shifted mask", "another stage", "box that is not minimal", "blank"])
def test_a_wrong_answer_is_called_wrong(labels: np.ndarray, fault: str) -> None:
    bad = {
        "shifted mask": answer(np.roll(labels, 1, axis=1)),
        "another stage": answer(labels, stage="N1"),
        "box that is not minimal": answer(labels, box=(2.0, 3.0, 4.001)),
        "blank": answer(np.zeros_like(labels)),
    }[fault]
    agreement = compare_answers(bad, answer(labels))
    assert agreement.verdict == "wrong"
    assert wrong_rows([make_row(KEY, [1.0], [9.0], agreement.to_dict())])
    assert worst_agreement([compare_answers(answer(labels), answer(labels)), agreement])["verdict"] == "wrong"


def test_another_method_is_no_wrong_answer_and_has_a_ratio(labels: np.ndarray) -> None:
    agreement = compare_answers(answer(labels), answer(np.roll(labels, 1), stage="N1"), other_method=True)
    assert (agreement.verdict, agreement.n_stage) == ("other", ("N0", "N1"))
    assert make_row(KEY, [2.0], [6.0], agreement.to_dict()).ratio == 3.0


def test_the_ratio_is_drawn_from_the_studies_answered_alike(labels: np.ndarray) -> None:
    both = replace(answer(labels), suspicious=(1,))
    agreements = {
        "a": {("ours", "theirs"): compare_answers(answer(labels), answer(labels))},
        "b": {("ours", "theirs"): compare_answers(answer(labels), both)},
    }
    times = {stage: [1.0] for stage in pipeline.STAGES}
    slow = {stage: [5.0] for stage in pipeline.STAGES}
    samples = {study: {"ours": times, "theirs": slow} for study in agreements}
    rows = pipeline._rows(samples, agreements)
    assert {row.study: row.ratio for row in rows} == {"1 of 2": 5.0, "a": 5.0, "b": None}
    (total,) = [row for row in rows if row.target]
    assert (total.stage, total.study, total.floor, total.of_floor) == ("total", "1 of 2", 1.0, 1.0)
    assert total.limit == pytest.approx(1 / 0.9)


def test_agreement_on_nothing_proves_nothing() -> None:
    with pytest.raises(WrongAnswerError, match="blank"):
        dice(np.zeros(3), np.zeros(3))


def test_rows_are_printed_and_written(tmp_path: Path, labels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    agreement = compare_answers(answer(labels), answer(labels)).to_dict()
    row = make_row(KEY, [10.0, 12.0, 11.0], [110.0, 99.0, 121.0], agreement)
    assert (row.subject_median, row.peer_median, row.ratio, row.n) == (11.0, 110.0, 10.0, 3)
    print_rows(describe_environment(2), [row])
    printed = capsys.readouterr().out
    assert "10.00x" in printed
    assert "floor" not in printed and "target" not in printed
    write_json(tmp_path / "rows.json", {"cpu": "any"}, [row])
    document = json.loads((tmp_path / "rows.json").read_text())
    assert document["environment"] == {"cpu": "any"}
    assert set(document["rows"][0]) == ROW_KEYS


def test_floor_and_target_stand_beside_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    row = make_row(KEY, [3.0, 4.0, 3.5], [7.0], {"verdict": "same"}, floor=[0.5, 2.0, 0.01], target=8.0)
    assert (row.ratio, row.floor, row.of_floor, row.target) == (2.0, 0.5, 7.0, 8.0)
    print_rows(describe_environment(2), [row, make_row(KEY, [2.0], [0.04], {"verdict": "wrong"})])
    printed = capsys.readouterr().out
    assert "Dice" not in printed
    cells = [line.split() for line in printed.splitlines() if line.strip().startswith(KEY.study)]
    assert [row[7:11] for row in cells] == [["2.00x", "8x", "0.50", "7.0x"], ["-", "-", "-", "-"]]
    assert "0.0400" in printed
