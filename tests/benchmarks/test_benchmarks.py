"""The benchmarks: what they time and write, and that a wrong answer never counts as a fast one."""

from __future__ import annotations

import json
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
from benchmarks.groups import coldstart, dicom, fresh_process, memory, network, pipeline  # noqa: E402
from benchmarks.groups.network import judge  # noqa: E402
from benchmarks.harness.agreement import StudyAnswer  # noqa: E402
from benchmarks.harness.rows import Row, RowKey, make_row  # noqa: E402
from benchmarks.peers.nodes import measure_peer_nodes  # noqa: E402
from lnfast.phantom import make_phantom  # noqa: E402

# MONAI's LoadImaged where pydicom is installed and NVIDIA's decoder is not.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
KEY = RowKey("pipeline", "all", "total", "ours", "theirs")


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
    dicom_rows = [row for row in rows if row.stage == dicom.STAGE]
    assert {row.bench for row in dicom_rows} == {"pipeline"} and len(dicom_rows) >= 2
    assert all(row.agreement["verdict"] == "same" and row.ratio and row.limit == 15.0 for row in dicom_rows)
    assert [row[2] for row in document["tables"]["writing of DICOM"]["rows"]] == list(dicom.PARTS)
    stages = {row.stage for row in rows if row.bench == "pipeline" and row not in dicom_rows}
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
    warm = [row for row in rows if row not in (*cold, memory_row, *dicom_rows)]
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
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert {row["agreement"]["verdict"] for row in rows if row["stage"] != dicom.STAGE} == {"wrong"}


@pytest.mark.parametrize(("arguments", "code"), [(["speed"], 2), (["--repeat", "0"], 2), (["--model", "no-such"], 4)])
def test_usage_and_model_have_their_exit_codes(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == code
