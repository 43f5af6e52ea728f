"""The groups without a peer, and a queue of studies against one study after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

for package in ("onnx", "onnxruntime", "torch", "trimesh", "cc3d"):
    pytest.importorskip(package)

from bright_model import bright_model, probe_of  # noqa: E402

from benchmarks.__main__ import main, make_settings  # noqa: E402
from benchmarks.groups import latency, scaling, throughput  # noqa: E402
from benchmarks.harness import engines, studies  # noqa: E402
from benchmarks.harness.engines import STAGES, further_engines  # noqa: E402
from benchmarks.harness.rows import BenchmarkFile, read_json  # noqa: E402
from benchmarks.harness.settings import Settings  # noqa: E402
from benchmarks.harness.studies import write_study  # noqa: E402
from lnfast.engine import Engine  # noqa: E402
from lnfast.errors import StudyError  # noqa: E402


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_model(tmp_path_factory.mktemp("models") / "bright")


@pytest.fixture(scope="module", autouse=True)
def probe_as_phantom(model_folder: Path) -> Iterator[None]:
    """A phantom takes seconds to make; the probe is one."""
    volume = probe_of(model_folder)

    def cohort(settings: Settings, folder: Path, count: int) -> list[Path]:
        return [write_study(volume, folder / f"{number}.nii.gz") for number in range(count)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "phantoms", lambda self: {"achieva": volume})
        patch.setattr(latency, "write_cohort", cohort)
        yield


@pytest.fixture(scope="module")
def document(model_folder: Path, probe_as_phantom: None, tmp_path_factory: pytest.TempPathFactory) -> BenchmarkFile:
    """The file of all three groups, quick."""
    path = tmp_path_factory.mktemp("results") / "b.json"
    options = ["--quick", "--json", str(path), "--model", str(model_folder), "--threads", "1"]
    done = CliRunner().invoke(main, ["latency", "throughput", "scaling", *options])
    assert done.exit_code == 0, done.output
    assert "p99 ms" in done.stdout and "studies/h" in done.stdout and "slope" in done.stdout
    return read_json(path)


def test_percentiles_are_those_of_every_stage(document: BenchmarkFile) -> None:
    table = document.tables["latency"]
    assert table["columns"] == ["subject", "studies", "stage", "p50 ms", "p95 ms", "p99 ms"]
    assert [row[2] for row in table["rows"]] == list(STAGES)
    assert {row[1] for row in table["rows"]} == {"3 runs of 3 phantoms in turn"}
    assert all(0 < row[3] <= row[4] <= row[5] for row in table["rows"])
    by_stage = {row[2]: row[3] for row in table["rows"]}
    assert by_stage["total"] > by_stage["infer"]


def test_a_queue_is_measured_against_its_network(document: BenchmarkFile) -> None:
    (row,) = document.rows
    assert (row.stage, row.unit, row.agreement["verdict"]) == ("threads 1", "ms/study", "same")
    assert row.floor and 0 < row.floor < row.peer_median
    assert row.limit == pytest.approx(row.floor / 0.95)


def test_growth_has_a_slope_for_each_stage(document: BenchmarkFile) -> None:
    rows = document.tables["scaling"]["rows"]
    stages = {(row[1], row[3]) for row in rows}
    assert stages == {
        *(("voxels", stage) for stage in STAGES),
        *(("nodes", stage) for stage in ("postprocess", "measure", "write")),
        ("studies", "run_many"),
    }
    for _, along, sizes, _, ms, slope, low, high in rows:
        assert slope == low == high == pytest.approx(np.log(ms[1] / ms[0]) / np.log(sizes[1] / sizes[0]))
        assert sizes == {"nodes": [4, 16], "studies": [1, 2]}.get(along, sizes)
    json.dumps(document.tables, allow_nan=False)


def test_slopes_are_of_rounds() -> None:
    sizes = [1, 4, 16]
    rounds = [[3.0 * size**power for power in (0.0, 0.5, 2.0)] for size in sizes]
    assert scaling.slopes(sizes, rounds) == pytest.approx([0.0, 0.5, 2.0])


def test_nodes_that_meet_are_no_measurement(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "QUICK_LATTICES", ((1, 1, 64), (1, 1, 1)))
    monkeypatch.setattr(scaling, "_of_voxels", lambda *arguments: {})
    monkeypatch.setattr(scaling, "_of_studies", lambda *arguments: {})
    monkeypatch.setattr(scaling, "_grown", lambda settings, along, sizes: [call() for call in sizes.values()])
    done = CliRunner().invoke(main, ["scaling", "--quick", "--model", str(model_folder)])
    assert done.exit_code == 1
    assert "64 nodes were put into the logits and 1 were found" in done.stderr


def test_a_queue_that_answers_otherwise_is_wrong(model_folder: Path, tmp_path: Path) -> None:
    with Engine(model_folder, device="cpu") as engine:
        path = write_study(probe_of(model_folder), tmp_path / "study.nii.gz")
        results = throughput.overlapped(engine, [path], tmp_path / "out")
        assert throughput.compare_results(results, results)["verdict"] == "same"
        without = [replace(results[0], nodes=results[0].nodes[:-1])]
        assert throughput.compare_results(results, without)["verdict"] == "wrong"
        broken = tmp_path / "broken.nii.gz"
        broken.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(StudyError):
            throughput.overlapped(engine, [path, broken], tmp_path / "again")


def test_cached_engines_are_measured_beside_auto(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(make_settings(False, model=str(model_folder)), progress=lambda message: None)
    cached = {("onnxruntime", "fp32")}
    runnable = [engines.Candidate(b, "cpu", p, "") for b, p in (("x", "bf16"), ("x", "fp32"), *cached, ("y", "fp32"))]
    monkeypatch.setattr(engines, "runnable_candidates", lambda device, progress: runnable)
    monkeypatch.setattr(
        engines, "_has_engine", lambda settings, candidate: (candidate.backend, candidate.precision) in cached
    )
    assert further_engines(settings, ("x", "bf16")) == [("x", "fp32"), ("onnxruntime", "fp32")]
    assert further_engines(settings, ("x", "fp32")) == [("onnxruntime", "fp32")]
    assert further_engines(replace(settings, quick=True), ("x", "bf16")) == []


def test_a_cohort_has_every_scanner_and_no_patient_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    class FakePhantom:
        def __init__(self, seed: int, scanner: str) -> None:
            seeds.append((seed, scanner))
            self.volume = None

    monkeypatch.setattr(studies, "make_phantom", FakePhantom)
    monkeypatch.setattr(studies, "write_study", lambda volume, path: path)
    paths = studies.write_cohort(make_settings(True, model="pelvic-ln-edge", seed=10), tmp_path, 4)
    assert seeds == [(110, "achieva"), (111, "discovery"), (112, "ingenia"), (113, "achieva")]
    assert len(set(paths)) == 4
