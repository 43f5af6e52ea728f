"""The benchmarks: what they time and write, and that a wrong answer never counts as a fast one."""

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
from benchmarks.groups.fresh_process import compare_reports  # noqa: E402
from benchmarks.groups.network import judge  # noqa: E402
from benchmarks.harness import processes  # noqa: E402
from benchmarks.harness.agreement import StudyAnswer, WrongAnswerError, compare_answers, dice, worst_agreement  # noqa: E402
from benchmarks.harness.environment import describe_environment  # noqa: E402
from benchmarks.harness.processes import ProcessFailedError  # noqa: E402
from benchmarks.harness.rows import Row, RowKey, make_row, write_json, wrong_rows  # noqa: E402
from benchmarks.harness.timing import Stopwatch, interleave, pool, summarize  # noqa: E402
from benchmarks.peers.nodes import measure_peer_nodes  # noqa: E402
from benchmarks.report.console import print_rows  # noqa: E402
from lnfast.phantom import make_phantom  # noqa: E402

# MONAI's LoadImaged where pydicom is installed and NVIDIA's decoder is not.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

ROW_KEYS = {"bench", "study", "stage", "subject", "peer", "subject_median", "peer_median", "ratio", "agreement"}
ROW_KEYS |= {"subject_p5", "subject_p95", "peer_p5", "peer_p95", "n", "unit", "floor", "of_floor", "target", "limit"}
KEY = RowKey("pipeline", "all", "total", "ours", "theirs")


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
    agreement = judge(0.97, 1.0, CERTIFICATE)
    assert agreement["verdict"] == "close" and agreement["certificate"]["suspicious"]["lost"] == 0
    assert judge(0.5, 1.0, CERTIFICATE)["verdict"] == "wrong"


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


def test_windows_are_weighted_by_the_studies_of_the_certificate() -> None:
    backend = cast(Any, None)
    whole = network.NetworkSubject("ours", backend, CERTIFICATE, "ours", (4, 8, 8))
    part = network.NetworkSubject("ours 4x6x8", backend, CERTIFICATE, "ours", (4, 6, 8))
    samples = {"ours": {"infer": [8.0, 16.0]}, "ours 4x6x8": {"infer": [4.0, 8.0]}, "torch": {"infer": [50.0, 100.0]}}
    peers = {"torch": lambda: np.zeros(1)}
    overlaps = {"ours": 0.97, "torch": 1.0}
    (row,) = network._average_over_patients(
        {subject.name: subject for subject in (whole, part)}, samples, peers, overlaps
    )
    assert (row.subject_median, row.ratio, row.study) == (7.5, 10.0, "4 of the certificate")


def test_the_peer_measures_what_is_known() -> None:
    labels = np.zeros((9, 12, 12), np.uint16)
    labels[2:4, 3:6, 1:5] = 1  # 2 x 3 x 4 voxels of 6 x 1.5 x 2 mm
    labels[8, 11, 11] = 2
    nodes = measure_peer_nodes(labels, 2, np.diag((2.0, 1.5, 6.0, 1.0)))
    assert nodes[0].box_mm == pytest.approx((4.5, 8.0, 12.0))
    assert nodes[1].box_mm == pytest.approx((1.5, 2.0, 6.0))
    assert [node.volume_mm3 for node in nodes] == pytest.approx([432.0, 18.0])
    assert not any(node.suspicious for node in nodes)


def test_no_box_of_the_peer_is_smaller_than_ours() -> None:
    from lnfast.geometry import Volume
    from lnfast.measure import Rules, measure_nodes

    phantom = make_phantom(17, "discovery", "n1")
    ours = measure_nodes(Volume(phantom.labels, phantom.volume.grid), len(phantom.nodes), Rules())
    theirs = measure_peer_nodes(phantom.labels, len(phantom.nodes), phantom.volume.grid.affine)
    assert len(ours) == len(theirs) > 5
    for our_node, peer_node in zip(ours, theirs, strict=True):
        assert our_node.volume_mm3 == pytest.approx(peer_node.volume_mm3)
        assert peer_node.box_mm is not None
        assert np.prod(our_node.box_mm) <= np.prod(peer_node.box_mm) * (1 + 1e-9)


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


def test_the_environment_is_json_and_names_nobody() -> None:
    text = json.dumps(describe_environment(2))
    assert {"cpu", "cpu_flags", "cores", "threads", "governor", "load_average", "versions", "date", "commit"} <= set(
        json.loads(text)
    )
    assert str(Path.home()) not in text
    assert platform.node() not in text


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_model(tmp_path_factory.mktemp("models") / "bright")


def test_every_group_runs_and_writes_its_rows(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bench.json"
    kernel_row = make_row(replace(KEY, bench="kernels"), [1.0], [2.0], {"verdict": "same", "dice": 1.0})
    monkeypatch.setattr(
        kernels, "run", lambda settings: [kernel_row]
    )  # tests/benchmarks/test_benchmark_kernels.py runs it
    runs: list[fresh_process.ProcessRuns] = []

    def run_once(settings: Any, study: Path, *, repeats: int, peak: bool = False) -> fresh_process.ProcessRuns:
        """Start each process once for both groups."""
        runs.extend([] if runs else [fresh_process.run_processes(settings, study, repeats=repeats, peak=True)])
        return runs[0]

    for group in (coldstart, memory):
        monkeypatch.setattr(group, "run_processes", run_once)
    options = ["--quick", "--json", str(path), "--model", str(model_folder), "--threads", "1"]
    done = CliRunner().invoke(main, ["network", "pipeline", "memory", "coldstart", "kernels", *options])
    assert done.exit_code == 0, done.output
    document = json.loads(path.read_text())
    assert document["environment"]["model"]["name"] == "bright"
    assert str(model_folder) not in path.read_text()
    rows = [Row(**row) for row in document["rows"]]
    assert rows[-1] == kernel_row
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
    (memory_row,) = [row for row in rows if row.bench == "memory"]
    assert (memory_row.unit, memory_row.limit, memory_row.agreement["verdict"]) == ("MB", 700.0, "same")
    assert 20 < memory_row.subject_median < memory_row.peer_median  # an interpreter with numpy, and one with torch
    warm = [row for row in rows if row not in (*cold, memory_row)]
    assert all(row.agreement["dice"] >= 0.98 and row.n == 1 and row.subject_median > 0 for row in warm)


def test_a_benchmark_on_a_gpu_that_is_not_there_is_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(main, ["network", "--device", "cuda", "--quick"])
    assert done.exit_code == 5 and done.stderr.startswith("device-missing: ") and done.stderr.count("\n") == 1


def test_a_corrupted_mask_fails_the_benchmark(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pipeline.engine_answer

    def corrupted(result: Any) -> StudyAnswer:
        true = honest(result)
        return StudyAnswer(np.roll(true.labels, 3, axis=2), true.box_mm, true.suspicious, true.n_stage)

    monkeypatch.setattr(pipeline, "engine_answer", corrupted)
    arguments = [
        "pipeline",
        "--quick",
        "--repeat",
        "1",
        "--model",
        str(model_folder),
        "--json",
        str(tmp_path / "b.json"),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "wrong answer" in done.stderr
    verdicts = {row["agreement"]["verdict"] for row in json.loads((tmp_path / "b.json").read_text())["rows"]}
    assert verdicts == {"wrong"}


@pytest.mark.parametrize(("arguments", "code"), [(["speed"], 2), (["--repeat", "0"], 2), (["--model", "no-such"], 4)])
def test_usage_and_model_have_their_exit_codes(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == code
