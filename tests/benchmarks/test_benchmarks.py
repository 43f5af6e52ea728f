"""The benchmark suite: what it times and writes, and that a wrong answer is never timed as a fast one."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
pytest.importorskip("trimesh")
pytest.importorskip("cc3d")

from bright_model import bright_model  # noqa: E402

from benchmarks import kernels  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.groups import coldstart, fresh_process, memory, network, pipeline  # noqa: E402
from benchmarks.groups.fresh_process import agree  # noqa: E402
from benchmarks.groups.network import judge  # noqa: E402
from benchmarks.harness import processes  # noqa: E402
from benchmarks.harness.agreement import Answer, WrongAnswerError, compare, dice, worst  # noqa: E402
from benchmarks.harness.environment import describe  # noqa: E402
from benchmarks.harness.processes import ProcessFailedError  # noqa: E402
from benchmarks.harness.rows import Pair, Row, make_row, write_json, wrong  # noqa: E402
from benchmarks.harness.timing import Stopwatch, interleave, pool, summarize  # noqa: E402
from benchmarks.peers.nodes import measure  # noqa: E402
from benchmarks.report.console import print_rows  # noqa: E402
from lnfast.phantom import make_phantom  # noqa: E402

# MONAI's LoadImaged where pydicom is installed and NVIDIA's decoder is not.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

ROW_KEYS = {"bench", "study", "stage", "subject", "peer", "subject_median", "peer_median", "ratio", "agreement"}
ROW_KEYS |= {"subject_p5", "subject_p95", "peer_p5", "peer_p95", "n", "unit", "floor", "of_floor", "target", "limit"}
PAIR = Pair("pipeline", "all", "total", "ours", "theirs")


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
    watch = Stopwatch()
    for stage in ("read", "infer"):
        with watch.stage(stage):
            pass
    assert set(watch.times_ms) == {"read", "infer", "total"}
    assert watch.times_ms["total"] >= watch.times_ms["read"] + watch.times_ms["infer"]


def answer(labels: np.ndarray, box: tuple[float, float, float] = (2.0, 3.0, 4.0), stage: str = "N0") -> Answer:
    return Answer(labels, (box,) * int(labels.max()), (1,) if stage == "N1" else (), stage)


@pytest.fixture
def labels() -> np.ndarray:
    made = np.zeros((8, 20, 20), np.uint16)
    made[2:5, 3:10, 3:10] = 1
    made[6, 15, 15] = 2
    return made


def test_equal_answers_are_the_same(labels: np.ndarray) -> None:
    agreement = compare(answer(labels), answer(labels, box=(2.5, 3.0, 4.0)))
    assert (agreement.verdict, agreement.dice, agreement.same_voxels) == ("same", 1.0, 2)
    assert agreement.short_axis_mm == 0.5
    assert agreement.box_excess == pytest.approx(-0.2)


def test_a_small_node_more_is_close_and_the_row_says_so(labels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    more = labels.copy()
    more[0, 0, 0] = 3
    agreement = compare(answer(labels, stage="N1"), answer(more, stage="N1"))
    assert agreement.verdict == "close"
    row = make_row(PAIR, [1.0], [9.0], agreement.to_dict())
    assert row.ratio == 9.0
    print_rows(describe(2), [row])
    assert "close: nodes 2 / 3" in capsys.readouterr().out


@pytest.mark.parametrize("peer_says", [(), (2,), (1, 2)])
def test_another_suspicious_node_is_different_not_beaten(labels: np.ndarray, peer_says: tuple[int, ...]) -> None:
    ours, theirs = answer(labels, stage="N1"), replace(answer(labels, stage="N1"), suspicious=peer_says)
    for agreement in (compare(ours, theirs), compare(theirs, ours)):
        assert agreement.verdict == "different"
        row = make_row(PAIR, [1.0], [9.0], agreement.to_dict())
        assert row.ratio is None
        assert not wrong([row])


@pytest.mark.parametrize("fault", ["shifted mask", "another stage", "box that is not minimal", "blank"])
def test_a_wrong_answer_is_called_wrong(labels: np.ndarray, fault: str) -> None:
    bad = {
        "shifted mask": answer(np.roll(labels, 1, axis=1)),
        "another stage": answer(labels, stage="N1"),
        "box that is not minimal": answer(labels, box=(2.0, 3.0, 4.001)),
        "blank": answer(np.zeros_like(labels)),
    }[fault]
    agreement = compare(bad, answer(labels))
    assert agreement.verdict == "wrong"
    assert wrong([make_row(PAIR, [1.0], [9.0], agreement.to_dict())])
    assert worst([compare(answer(labels), answer(labels)), agreement])["verdict"] == "wrong"


def test_another_method_is_no_wrong_answer_and_has_a_ratio(labels: np.ndarray) -> None:
    agreement = compare(answer(labels), answer(np.roll(labels, 1), stage="N1"), other=True)
    assert (agreement.verdict, agreement.n_stage) == ("other", ("N0", "N1"))
    assert make_row(PAIR, [2.0], [6.0], agreement.to_dict()).ratio == 3.0


def test_the_ratio_is_drawn_from_the_studies_answered_alike(labels: np.ndarray) -> None:
    both = replace(answer(labels), suspicious=(1,))
    agreements = {
        "a": {("ours", "theirs"): compare(answer(labels), answer(labels))},
        "b": {("ours", "theirs"): compare(answer(labels), both)},
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


def test_a_network_that_is_off_is_wrong_and_a_peer_that_is_off_is_different() -> None:
    assert [judge(*pair)["verdict"] for pair in ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0))] == ["same", "different", "wrong"]


CERTIFICATE = {
    "studies": 4,
    "stage_flips": {"box": 0, "axial": 0},
    "suspicious": {"reference": 3, "lost": 0, "added": 0},
    "short_axis_mm": {"max_difference": 1.0, "mean_difference": 0.1},
    "dice": {"worst": 0.95, "mean": 0.97},
    "windows": {"4x6x8": 3, "4x8x8": 1},
    "source": "phantoms",
}


def test_a_certified_engine_may_be_a_little_off_and_not_broken() -> None:
    assert judge(0.97, 1.0)["verdict"] == "wrong"
    told = judge(0.97, 1.0, CERTIFICATE)
    assert told["verdict"] == "close" and told["certificate"]["suspicious"]["lost"] == 0
    assert judge(0.5, 1.0, CERTIFICATE)["verdict"] == "wrong"


def test_another_stage_in_a_fresh_process_is_wrong() -> None:
    ours = {"summary": {"n_stage": "N1", "suspicious": 2}}
    verdicts = [agree(ours, {"n_stage": n, "suspicious": s})["verdict"] for n, s in (("N1", 2), ("N1", 1), ("N0", 0))]
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
    held = []
    for size in (0, 100_000_000):
        command = [sys.executable, "-S", "-c", code.format(size), report]
        held.append(processes.run_process(command, report, tmp_path, peak=True).times["peak"])
    assert held[0] < 40
    assert held[1] - held[0] == pytest.approx(100, abs=5)


def test_windows_count_as_patients_chose_them() -> None:
    backend = cast(Any, None)
    whole = network.Subject("ours", backend, CERTIFICATE, "ours", (4, 8, 8))
    part = network.Subject("ours 4x6x8", backend, CERTIFICATE, "ours", (4, 6, 8))
    samples = {"ours": {"infer": [8.0, 16.0]}, "ours 4x6x8": {"infer": [4.0, 8.0]}, "torch": {"infer": [50.0, 100.0]}}
    peers = {"torch": lambda: np.zeros(1)}
    overlaps = {"ours": 0.97, "torch": 1.0}
    (row,) = network._patients({one.name: one for one in (whole, part)}, samples, peers, overlaps)
    assert (row.subject_median, row.ratio, row.study) == (7.5, 10.0, "4 of the certificate")


def test_the_peer_measures_what_is_known() -> None:
    labels = np.zeros((9, 12, 12), np.uint16)
    labels[2:4, 3:6, 1:5] = 1  # 2 x 3 x 4 voxels of 6 x 1.5 x 2 mm
    labels[8, 11, 11] = 2
    nodes = measure(labels, 2, np.diag((2.0, 1.5, 6.0, 1.0)))
    assert nodes[0].box_mm == pytest.approx((4.5, 8.0, 12.0))
    assert nodes[1].box_mm == pytest.approx((1.5, 2.0, 6.0))
    assert [node.volume_mm3 for node in nodes] == pytest.approx([432.0, 18.0])
    assert not any(node.suspicious for node in nodes)


def test_no_box_of_the_peer_is_smaller_than_ours() -> None:
    from lnfast.geometry import Volume
    from lnfast.measure import Rules, measure_nodes

    phantom = make_phantom(17, "discovery", "n1")
    ours = measure_nodes(Volume(phantom.labels, phantom.volume.grid), len(phantom.nodes), Rules())
    theirs = measure(phantom.labels, len(phantom.nodes), phantom.volume.grid.affine)
    assert len(ours) == len(theirs) > 5
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.volume_mm3 == pytest.approx(other.volume_mm3)
        assert other.box_mm is not None
        assert np.prod(mine.box_mm) <= np.prod(other.box_mm) * (1 + 1e-9)


def test_rows_are_printed_and_kept(tmp_path: Path, labels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    agreement = compare(answer(labels), answer(labels)).to_dict()
    row = make_row(PAIR, [10.0, 12.0, 11.0], [110.0, 99.0, 121.0], agreement)
    assert (row.subject_median, row.peer_median, row.ratio, row.n) == (11.0, 110.0, 10.0, 3)
    print_rows(describe(2), [row])
    printed = capsys.readouterr().out
    assert "10.00x" in printed
    assert "floor" not in printed and "target" not in printed
    write_json(tmp_path / "rows.json", {"cpu": "any"}, [row])
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert kept["environment"] == {"cpu": "any"}
    assert set(kept["rows"][0]) == ROW_KEYS


def test_floor_and_target_stand_beside_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    row = make_row(PAIR, [3.0, 4.0, 3.5], [7.0], {"verdict": "same"}, floor=[0.5, 2.0, 0.01], target=8.0)
    assert (row.ratio, row.floor, row.of_floor, row.target) == (2.0, 0.5, 7.0, 8.0)
    print_rows(describe(2), [row, make_row(PAIR, [2.0], [0.04], {"verdict": "wrong"})])
    printed = capsys.readouterr().out
    assert "Dice" not in printed
    cells = [line.split() for line in printed.splitlines() if line.strip().startswith(PAIR.study)]
    assert [row[7:11] for row in cells] == [["2.00x", "8x", "0.50", "7.0x"], ["-", "-", "-", "-"]]
    assert "0.0400" in printed


def test_the_environment_can_be_kept_and_names_nobody() -> None:
    text = json.dumps(describe(2))
    assert {"cpu", "cpu_flags", "cores", "threads", "governor", "load_average", "versions", "date", "commit"} <= set(
        json.loads(text)
    )
    assert str(Path.home()) not in text
    assert platform.node() not in text


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_model(tmp_path_factory.mktemp("models") / "bright")


def test_every_group_runs_and_keeps_its_rows(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "bench.json"
    of_kernels = make_row(replace(PAIR, bench="kernels"), [1.0], [2.0], {"verdict": "same", "dice": 1.0})
    monkeypatch.setattr(
        kernels, "run", lambda settings: [of_kernels]
    )  # tests/benchmarks/test_benchmark_kernels.py runs it
    started: list[fresh_process.Contest] = []

    def of_both(settings: Any, study: Path, *, repeats: int, peak: bool = False) -> fresh_process.Contest:
        """One start of each process serves both groups."""
        started.extend([] if started else [fresh_process.contest(settings, study, repeats=repeats, peak=True)])
        return started[0]

    for group in (coldstart, memory):
        monkeypatch.setattr(group, "contest", of_both)
    asked = ["--quick", "--json", str(kept), "--model", str(model_folder), "--threads", "1"]
    done = CliRunner().invoke(main, ["network", "pipeline", "memory", "coldstart", "kernels", *asked])
    assert done.exit_code == 0, done.output
    document = json.loads(kept.read_text())
    assert document["environment"]["model"]["name"] == "bright"
    assert str(model_folder) not in kept.read_text()
    rows = [Row(**row) for row in document["rows"]]
    assert rows[-1] == of_kernels
    stages = {row.stage for row in rows if row.bench == "pipeline"}
    assert stages == set(pipeline.STAGES)
    assert {row.peer for row in rows if row.bench == "network"} <= {
        "pytorch channels_last_3d fp32",
        "pytorch channels_last_3d bf16 autocast",
    }
    cold = [row for row in rows if row.bench == "coldstart"]
    assert [(row.stage, row.n, row.agreement["verdict"]) for row in cold] == [
        ("report", 1, "same"),
        ("exit", 1, "same"),
    ]
    assert all(not row.subject.endswith("engine") and row.subject_median > 50 for row in cold)
    (held,) = [row for row in rows if row.bench == "memory"]
    assert (held.unit, held.limit, held.agreement["verdict"]) == ("MB", 700.0, "same")
    assert 20 < held.subject_median < held.peer_median  # an interpreter with numpy, and one with torch
    warm = [row for row in rows if row not in (*cold, held)]
    assert all(row.agreement["dice"] >= 0.98 and row.n == 1 and row.subject_median > 0 for row in warm)


def test_a_benchmark_on_a_gpu_that_is_not_there_is_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(main, ["network", "--device", "cuda", "--quick"])
    assert done.exit_code == 5 and done.stderr.startswith("device-missing: ") and done.stderr.count("\n") == 1


def test_a_corrupted_mask_fails_the_benchmark(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pipeline.answer_of_engine

    def corrupted(result: Any) -> Answer:
        true = honest(result)
        return Answer(np.roll(true.labels, 3, axis=2), true.box_mm, true.suspicious, true.n_stage)

    monkeypatch.setattr(pipeline, "answer_of_engine", corrupted)
    asked = ["pipeline", "--quick", "--repeat", "1", "--model", str(model_folder), "--json", str(tmp_path / "b.json")]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 1
    assert "wrong answer" in done.stderr
    verdicts = {row["agreement"]["verdict"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]}
    assert verdicts == {"wrong"}


@pytest.mark.parametrize(("asked", "code"), [(["speed"], 2), (["--repeat", "0"], 2), (["--model", "no-such"], 4)])
def test_usage_and_model_have_their_exit_codes(asked: list[str], code: int) -> None:
    assert CliRunner().invoke(main, asked).exit_code == code
