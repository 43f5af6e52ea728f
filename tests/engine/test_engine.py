"""The engine as a vendor uses it: real model, real runtime, phantoms and real studies."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import make_model_folder

import lnfast
from lnfast.backends import Candidate
from lnfast.cohort import add_case
from lnfast.engine import Engine
from lnfast.errors import EngineError, StudyError, UsageError
from lnfast.geometry import Volume
from lnfast.measure import Rules
from lnfast.phantom import REALISTIC, Phantom, make_phantom
from lnfast.postprocess import JOIN
from lnfast.result import Result, StudyFailure

FP32 = Candidate("openvino", "cpu", "fp32", "second")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A network of one operation, for tests of what stands around the network; it calls what is bright a node."""
    with Engine(model=make_model_folder(tmp_path_factory.mktemp("model") / "tiny")) as engine:
        yield engine


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(11, "achieva", "n1", variety=REALISTIC)


@pytest.fixture(scope="module")
def result(engine: Engine, phantom: Phantom) -> Result:
    return engine.run(phantom.volume)


def test_a_phantom_is_found_and_measured(result: Result, phantom: Phantom) -> None:
    assert result.n_stage == "N1"
    predicted = result.labels.array > 0
    truth = phantom.labels > 0
    assert 2 * np.count_nonzero(predicted & truth) / (np.count_nonzero(predicted) + np.count_nonzero(truth)) > 0.5
    assert result.labels.array.shape == phantom.volume.array.shape
    assert [node.id for node in result.nodes] == list(range(1, int(result.labels.array.max()) + 1))
    assert all(JOIN <= node.mean_probability <= 1.0 for node in result.nodes if node.mean_probability is not None)


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
            home.values(), key=lambda twin: np.linalg.norm(np.subtract(twin.centroid_ras_mm, node.centroid_ras_mm))
        )
        assert node.centroid_ras_mm == pytest.approx(twin.centroid_ras_mm, abs=1e-6)
        assert node.box_mm == pytest.approx(twin.box_mm, abs=1e-6)
        assert (node.axial_short_mm, node.axial_long_mm) == pytest.approx((twin.axial_short_mm, twin.axial_long_mm))
        assert node.ellipsoid_short_mm == pytest.approx(twin.ellipsoid_short_mm, abs=1e-6)


def test_nothing_is_copied_between_the_file_and_the_runtime(
    engine: Engine, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels read the very bytes of the study and the network's output, and write the network's input."""
    network = engine._network
    assert network is not None
    backend = network.at(network.grid_zyx)
    arrays_by_name: dict[str, np.ndarray] = {}

    def watched(module: Any, name: str, *names: str) -> None:
        honest = getattr(module, name)

        def kernel(*arrays: Any, **options: Any) -> Any:
            arrays_by_name.update(zip(names, arrays, strict=False))
            return honest(*arrays, **options)

        monkeypatch.setattr(module, name, kernel)

    watched(lnfast.preprocess, "resample_normalize", "voxels", "input")
    watched(lnfast.postprocess, "threshold_resample", "logits")
    path = add_case(tmp_path, phantom).image
    with gzip.open(path) as packed:
        (tmp_path / "plain.nii").write_bytes(packed.read())
    for study in (engine.read(tmp_path / "plain.nii"), engine.read(path), engine.read(phantom.volume)):
        arrays_by_name.clear()
        engine.analyse(study, 0.0)
        stored = study.volume.array
        assert np.shares_memory(arrays_by_name["voxels"], stored) and arrays_by_name["voxels"].nbytes == stored.nbytes
        for name, buffer in (("input", backend.input[0, 0]), ("logits", backend.output[0, 0])):
            own = buffer[(len(buffer) - len(stored)) // 2 :][: len(stored)]
            assert arrays_by_name[name].ctypes.data == own.ctypes.data and arrays_by_name[name].shape == own.shape


def test_the_same_study_gives_the_same_answer_from_eight_threads(light: Engine, phantom: Phantom) -> None:
    wanted = light.run(phantom.volume).nodes
    assert wanted
    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(light.run, [phantom.volume] * 64):
            assert answer.nodes == wanted


def test_the_rule_decides_the_stage(engine: Engine, phantom: Phantom) -> None:
    backend_rules = engine.rules
    try:
        engine.rules = Rules(suspicious_mm=50.0)
        assert engine.run(phantom.volume).n_stage == "N0"
    finally:
        engine.rules = backend_rules


def test_run_many_keeps_order_and_goes_on_after_a_bad_study(light: Engine, phantom: Phantom, tmp_path: Path) -> None:
    blank = np.zeros_like(phantom.volume.array)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not a study")
    answers = list(light.run_many([phantom.volume, bad, (blank, phantom.volume.grid.affine), phantom.volume]))
    assert [type(answer) for answer in answers] == [Result, StudyFailure, StudyFailure, Result]
    first, second = answers[1], answers[2]
    assert isinstance(first, StudyFailure) and isinstance(second, StudyFailure)
    assert first.error.code == "not-nifti" and first.source == str(bad)
    assert second.error.code == "constant"


def test_run_many_can_be_left_early(light: Engine, phantom: Phantom) -> None:
    before = threading.active_count()
    stream = light.run_many([phantom.volume] * 20)
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


def test_run_many_ends_when_the_disk_does(light: Engine, phantom: Phantom, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileExistsError):
        list(light.run_many([phantom.volume] * 3, out=tmp_path / "file"))


def test_what_was_finished_before_the_engine_failed_is_handed_over(
    light: Engine, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = Engine.analyse, []

    def failing(self: Engine, *arguments: Any) -> Result:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("made up")
        return honest(self, *arguments)

    monkeypatch.setattr(Engine, "analyse", failing)
    answers = light.run_many([phantom.volume] * 3, out=tmp_path)
    first = next(answers)
    assert isinstance(first, Result) and first.folder == tmp_path / "array" and first.folder.is_dir()
    with pytest.raises(RuntimeError, match="made up"):
        next(answers)
    assert [path.name for path in tmp_path.iterdir()] == ["array"]


def test_an_answer_that_cannot_be_trusted_stops_only_its_own_study(
    light: Engine, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = Engine.analyse, []

    def failing(self: Engine, *arguments: Any) -> Result:
        calls.append(arguments)
        if len(calls) == 1:
            raise EngineError("non-finite-logits", "made up")
        return honest(self, *arguments)

    monkeypatch.setattr(Engine, "analyse", failing)
    first, second = light.run_many([phantom.volume] * 2)
    assert isinstance(first, StudyFailure) and first.error.exit_code == 4
    assert isinstance(second, Result)


def test_a_place_that_is_taken_stops_only_its_own_study(light: Engine, phantom: Phantom, tmp_path: Path) -> None:
    (tmp_path / "array").mkdir()
    (tmp_path / "array" / "thesis.txt").write_text("mine")
    first, second = light.run_many([phantom.volume] * 2, out=tmp_path)
    assert isinstance(first, StudyFailure) and (first.error.code, first.error.exit_code) == ("output-exists", 2)
    assert isinstance(second, Result) and second.folder == tmp_path / "array_2"


def test_a_study_that_is_still_to_come_holds_up_none_before_it(light: Engine, phantom: Phantom) -> None:
    arrived = threading.Event()

    def feed() -> Iterator[Volume]:
        yield phantom.volume
        assert arrived.wait(60), "the first answer never came"
        yield phantom.volume

    answers = light.run_many(feed())
    assert isinstance(next(answers), Result)
    arrived.set()
    assert isinstance(next(answers), Result)
    assert list(answers) == []


def test_one_patient_s_report_never_takes_the_place_of_another_s(
    light: Engine, phantom: Phantom, tmp_path: Path
) -> None:
    first = add_case(tmp_path / "a", phantom).image
    second = add_case(tmp_path / "b", make_phantom(12, "achieva", "n0")).image.rename(tmp_path / "b" / first.name)
    folder = light.run(first).write(tmp_path / "out")
    before = (folder / "report.json").read_bytes()
    with pytest.raises(UsageError, match="another study"):
        light.run(second).write(tmp_path / "out")
    assert (folder / "report.json").read_bytes() == before
    assert light.run(first).write(tmp_path / "out") == folder
    result = light.run(phantom.volume)
    result.write(tmp_path / "out")
    with pytest.raises(UsageError, match="cannot be told"):  # an array has no hash to know it by
        result.write(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_of_a_working_engine_does_not_hang(engine: Engine) -> None:
    """A lock that a thread holds at the fork is free in the child."""
    with engine._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            engine.close()
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_with_everything_named_there_is_nothing_to_explain() -> None:
    with Engine(backend="onnxruntime", device="cpu", precision="fp32") as named:
        assert named.choice is None


def test_a_result_is_written_whole(result: Result, tmp_path: Path) -> None:
    folder = result.write(tmp_path, name="case")
    assert sorted(path.name for path in folder.iterdir()) == [
        "labels.nii.gz",
        "report.html",
        "report.json",
        "report.txt",
    ]
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


def test_a_closed_engine_says_so(phantom: Phantom, tmp_path: Path) -> None:
    with Engine(make_model_folder(tmp_path / "tiny"), backend="onnxruntime") as engine:
        assert engine.info.name == "onnxruntime"
        assert engine.info.precision == "fp32"
    engine.close()
    with pytest.raises(UsageError) as refusal:
        engine.run(phantom.volume)
    assert refusal.value.code == "engine-closed"


@pytest.mark.parametrize("study", [3, "", (1, 2, 3)])
def test_what_is_no_study_is_refused(engine: Engine, study: object) -> None:
    with pytest.raises((UsageError, StudyError)):
        engine.run(study)  # type: ignore[arg-type]


def test_the_package_offers_what_it_promises() -> None:
    assert lnfast.__all__ == sorted(lnfast.__all__)
    assert all(hasattr(lnfast, name) for name in lnfast.__all__)
    with pytest.raises(AttributeError):
        _ = lnfast.nothing
