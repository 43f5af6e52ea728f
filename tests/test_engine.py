"""The engine as a vendor uses it: real model, real runtime, phantoms and real studies."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnfast
from lnfast.backends import BackendInfo, Candidate
from lnfast.card import Model, load_model
from lnfast.engine import Engine, Result, StudyFailure, distinct_names
from lnfast.errors import BackendError, EngineError, ModelError, StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.measure import Rules
from lnfast.phantom import Phantom, make_phantom
from lnfast.selftest import prove


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(11, "achieva", "n1")


@pytest.fixture(scope="module")
def result(engine: Engine, phantom: Phantom) -> Result:
    return engine.run(phantom.volume)


def test_a_phantom_is_found_and_measured(result: Result, phantom: Phantom) -> None:
    assert result.n_stage == "N1"
    found = result.labels.array > 0
    truth = phantom.labels > 0
    assert 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth)) > 0.5
    assert result.labels.array.shape == phantom.volume.array.shape
    assert [node.id for node in result.nodes] == list(range(1, int(result.labels.array.max()) + 1))
    assert all(0.5 <= node.mean_probability <= 1.0 for node in result.nodes if node.mean_probability is not None)


def test_every_stage_is_timed(result: Result) -> None:
    timings = result.timings_ms
    assert all(timings[stage] > 0 for stage in ("preprocess", "infer", "postprocess", "measure"))


def test_a_volume_an_array_and_a_file_give_the_same_nodes(
    engine: Engine, phantom: Phantom, result: Result, tmp_path: Path
) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "study.nii.gz"
    image = nibabel.Nifti1Image(phantom.volume.array.transpose(2, 1, 0), phantom.volume.grid.affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    from_file = engine.run(path)
    from_array = engine.run((phantom.volume.array, phantom.volume.grid.affine))
    assert from_array.nodes == result.nodes
    np.testing.assert_array_equal(from_file.labels.array, result.labels.array)
    np.testing.assert_allclose(
        [node.box_mm for node in from_file.nodes], [node.box_mm for node in result.nodes], rtol=1e-6
    )


def test_a_mirrored_file_has_the_same_nodes_in_the_patient(engine: Engine, phantom: Phantom, result: Result) -> None:
    turned = phantom.volume.oriented("RAI")
    mirrored = engine.run(Volume(np.ascontiguousarray(turned.array), turned.grid))
    home = {node.centroid_ras_mm: node for node in result.nodes}
    assert len(mirrored.nodes) == len(home)
    for node in mirrored.nodes:
        twin = min(
            home.values(), key=lambda other: np.linalg.norm(np.subtract(other.centroid_ras_mm, node.centroid_ras_mm))
        )
        assert node.centroid_ras_mm == pytest.approx(twin.centroid_ras_mm, abs=1e-6)
        assert node.box_mm == pytest.approx(twin.box_mm, abs=1e-6)
        assert (node.axial_short_mm, node.axial_long_mm) == pytest.approx((twin.axial_short_mm, twin.axial_long_mm))


def test_nothing_is_copied_on_the_way_to_the_network(engine: Engine) -> None:
    backend = engine._backend
    assert backend is not None
    first = backend.input.ctypes.data, backend.output.ctypes.data
    engine.run(make_phantom(12, "achieva", "n0").volume)
    assert (backend.input.ctypes.data, backend.output.ctypes.data) == first


def test_the_same_study_gives_the_same_answer_from_eight_threads(
    engine: Engine, phantom: Phantom, result: Result
) -> None:
    answers: list[Result] = []
    threads = [threading.Thread(target=lambda: answers.append(engine.run(phantom.volume))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert all(answer.nodes == result.nodes for answer in answers)


def test_the_rule_decides_the_stage(engine: Engine, phantom: Phantom) -> None:
    backend_rules = engine.rules
    try:
        engine.rules = Rules(suspicious_mm=200.0)
        assert engine.run(phantom.volume).n_stage == "N0"
    finally:
        engine.rules = backend_rules


def test_run_many_keeps_order_and_goes_on_after_a_bad_study(engine: Engine, phantom: Phantom, tmp_path: Path) -> None:
    blank = np.zeros_like(phantom.volume.array)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a study")
    answers = list(engine.run_many([phantom.volume, bad, (blank, phantom.volume.grid.affine), phantom.volume]))
    assert [type(answer) for answer in answers] == [Result, StudyFailure, StudyFailure, Result]
    first, second = answers[1], answers[2]
    assert isinstance(first, StudyFailure) and isinstance(second, StudyFailure)
    assert first.error.code == "not-nifti" and first.source == str(bad)
    assert second.error.code == "constant"


def test_run_many_can_be_left_early(engine: Engine, phantom: Phantom) -> None:
    before = threading.active_count()
    stream = engine.run_many([phantom.volume] * 20)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_run_many_writes_while_it_works_and_keeps_studies_of_one_name_apart(
    engine: Engine, phantom: Phantom, result: Result, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a study")
    answers = list(engine.run_many([phantom.volume, bad, phantom.volume], out=tmp_path / "out"))
    assert [type(answer) for answer in answers] == [Result, StudyFailure, Result]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["array", "array_2"]
    for answer, name in ((answers[0], "array"), (answers[2], "array_2")):
        assert isinstance(answer, Result) and answer.folder == tmp_path / "out" / name
        report = json.loads((answer.folder / "report.json").read_text())
        assert (report["study"]["name"], report["summary"]["nodes"]) == (name, len(result.nodes))


def test_run_many_ends_when_the_disk_does(engine: Engine, phantom: Phantom, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileExistsError):
        list(engine.run_many([phantom.volume] * 3, out=tmp_path / "file"))


def test_what_was_finished_before_the_engine_failed_is_handed_over(
    engine: Engine, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = Engine._analyse, []

    def failing(self: Engine, *arguments: Any) -> Result:
        calls.append(arguments)
        if len(calls) == 2:
            raise EngineError("non-finite-logits", "made up")
        return honest(self, *arguments)

    monkeypatch.setattr(Engine, "_analyse", failing)
    answers = engine.run_many([phantom.volume] * 3, out=tmp_path)
    first = next(answers)
    assert isinstance(first, Result) and first.folder == tmp_path / "array" and first.folder.is_dir()
    with pytest.raises(EngineError, match="made up"):
        next(answers)
    assert [path.name for path in tmp_path.iterdir()] == ["array"]


def test_a_result_is_written_whole(result: Result, tmp_path: Path) -> None:
    folder = result.write(tmp_path, name="case")
    assert sorted(path.name for path in folder.iterdir()) == ["labels.nii.gz", "report.json", "report.txt"]
    report = json.loads((folder / "report.json").read_text())
    assert report["study"]["name"] == "case"
    assert report["summary"]["n_stage"] == result.n_stage
    assert report["engine"]["self_test"] == "passed"
    assert report["timings_ms"]["write"] > 0


def test_real_studies_are_read_at_their_high_b_and_stay_plausible(engine: Engine, shared_data: Path) -> None:
    first = engine.run(shared_data / "prostatex-0000" / "6_ep2d_diff_tra_DYNDIST.nii.gz")
    second = engine.run(next((shared_data / "prostatex-0218").glob("*.nii.gz")))
    assert (first.study.b_value, second.study.b_value) == (800.0, 800.0)
    for answer in (first, second):
        grid = answer.labels.grid
        assert len(answer.nodes) < 60
        assert sum(node.volume_mm3 for node in answer.nodes) < 0.02 * np.prod(grid.extent_zyx_mm)
        for node in answer.nodes:
            assert node.volume_mm3 == pytest.approx(node.voxels * grid.voxel_mm3)
            assert node.box_mm[0] * node.box_mm[1] * node.box_mm[2] >= node.volume_mm3 * (1 - 1e-9)
    with pytest.raises(StudyError):
        engine.run(next((shared_data / "prostatex-0000").glob("*ADC.nii.gz")))


def test_a_closed_engine_says_so(phantom: Phantom) -> None:
    with Engine(backend="onnxruntime") as engine:
        assert engine.info.name == "onnxruntime"
        assert engine.info.precision == "fp32"
    engine.close()
    with pytest.raises(UsageError) as refusal:
        engine.run(phantom.volume)
    assert refusal.value.code == "engine-closed"


def test_what_is_asked_for_by_name_is_used_or_refused() -> None:
    with pytest.raises(BackendError) as refusal:
        Engine(backend="tensorrt")
    assert refusal.value.exit_code == 5
    with pytest.raises(UsageError):
        Engine(backend="abacus")


@pytest.mark.parametrize("study", [3, "", (1, 2, 3)])
def test_what_is_no_study_is_refused(engine: Engine, study: object) -> None:
    with pytest.raises((UsageError, StudyError)):
        engine.run(study)  # type: ignore[arg-type]


class Broken:
    """A backend whose answer is wrong in a chosen way."""

    info = BackendInfo("fake", "1", "cpu", "fp16")

    def __init__(self, model: Model, answer: float) -> None:
        shape = (1, 1, *model.card.shape_zyx)
        self.input = np.zeros(shape, np.float32)
        self.output = np.full(shape, answer, np.float32)

    def infer(self) -> None:
        return None

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("answer", "code"), [(-9.0, "self-test-failed"), (9.0, "self-test-failed"), (np.nan, "non-finite-logits")]
)
def test_an_engine_that_is_blank_full_or_not_finite_never_serves(answer: float, code: str) -> None:
    model = load_model("pelvic-ln-edge")
    with pytest.raises(EngineError) as refusal:
        prove(Broken(model, answer), model)
    assert refusal.value.code == code
    assert refusal.value.exit_code == 4


def test_auto_passes_over_an_engine_that_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import lnfast.engine as module

    real_open = module.open_backend

    def open_backend(model: Model, candidate: Candidate, *, threads: int = 0) -> object:
        if candidate.precision != "fp32":
            return Broken(model, -9.0)
        return real_open(model, candidate, threads=threads)

    options = (Candidate("openvino", "cpu", "bf16", "first"), Candidate("openvino", "cpu", "fp32", "second"))
    monkeypatch.setattr(module, "candidates", lambda *_: options)
    monkeypatch.setattr(module, "open_backend", open_backend)
    with Engine() as engine:
        assert engine.info.precision == "fp32"
        assert "finds nothing on the probe" in engine.choice
    monkeypatch.setattr(module, "candidates", lambda *_: options[:1])
    with pytest.raises(EngineError, match="finds nothing on the probe"):
        Engine()


def test_a_model_whose_weights_were_changed_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(load_model("pelvic-ln-edge").folder, tmp_path / "model")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0x40
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError) as refusal:
        Engine(model=folder)
    assert refusal.value.code == "model-damaged"


def test_studies_of_one_name_are_told_apart() -> None:
    assert distinct_names(["a/x.nii.gz", "b/y.nii"]) == ["x", "y"]
    assert distinct_names(["a/x.nii.gz", "b/x.nii"]) == ["a_x", "b_x"]
    assert distinct_names(["a/x.nii.gz", "a/x.nii", "c/z.nii"]) == ["a_x", "a_x_2", "z"]
    assert distinct_names(["a/x_y.nii", "b/x:y.nii", "c/X_Y.nii"]) == ["a_x_y", "b_x_y", "c_X_Y"]
    assert distinct_names(["a/x.nii", "b/x.nii", "c/a_x.nii"]) == ["a_x", "b_x", "a_x_2"]
    assert distinct_names(["x.nii", "a/../b/x.nii", "x.nii.gz"]) == ["x", "b_x", "x_2"]


def test_the_package_offers_what_it_promises() -> None:
    assert lnfast.__all__ == sorted(lnfast.__all__)
    assert all(hasattr(lnfast, name) for name in lnfast.__all__)
    with pytest.raises(AttributeError):
        _ = lnfast.nothing
