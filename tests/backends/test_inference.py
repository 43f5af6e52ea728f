"""Both CPU runtimes against a numpy oracle, in place, from opening to closing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from model_files import SHAPE_ZYX, make_model_folder, network
from numpy.typing import NDArray
from onnx import numpy_helper
from runtime_files import BOTH, ONNXRUNTIME, OPENVINO, folder_model, oracle, refusal

from lnfast.backends import Backend, Candidate, candidates, open_backend
from lnfast.card import Model, load_model
from lnfast.errors import EngineError


def test_every_candidate_computes_what_the_oracle_computes(model: Model, study: NDArray[np.float32]) -> None:
    wanted = oracle(study, model.onnx_bytes)
    offered = [candidate for candidate in candidates() if not candidate.needs_engine]
    assert {("openvino", "fp32"), ("onnxruntime", "fp32")} <= {
        (candidate.backend, candidate.precision) for candidate in offered
    }
    for candidate in offered:
        with closing(open_backend(model, candidate, threads=1)) as backend:
            backend.input[...] = study
            backend.infer()
            worst = np.abs(backend.output - wanted).max() / np.abs(wanted).max()
            assert worst < (1e-5 if candidate.precision == "fp32" else 2e-2), candidate
            info = backend.info
            assert (info.name, info.device, info.precision) == (candidate.backend, "cpu", candidate.precision)
            assert info.version.count(".") == 2


def test_bf16_is_used_where_it_is_promised(model: Model, study: NDArray[np.float32]) -> None:
    promised = [candidate for candidate in candidates("openvino") if candidate.precision == "bf16"]
    if not promised:
        pytest.skip("this CPU has no bf16")
    with closing(open_backend(model, promised[0])) as backend:
        backend.input[...] = study
        backend.infer()
        error = np.abs(backend.output - oracle(study, model.onnx_bytes)).max()
    assert error > 1e-4, "fp32 is more exact than this: the requested precision was not used"


@BOTH
def test_the_runtime_works_in_the_buffers_themselves(
    model: Model, study: NDArray[np.float32], candidate: Candidate
) -> None:
    with closing(open_backend(model, candidate, threads=1)) as backend:
        assert np.isnan(backend.output).all(), "what was never inferred must not look like an empty mask"
        source, target = backend.input, backend.output
        addresses = source.ctypes.data, target.ctypes.data
        for array in (source, target):
            assert array.dtype == np.float32 and array.shape == (1, 1, *SHAPE_ZYX)
            assert array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % 64 == 0
        for factor in (1, -2, 3):
            source[...] = study * factor
            target.fill(np.nan)
            backend.infer()
            assert np.abs(target - oracle(study * factor, model.onnx_bytes)).max() < 1e-4
        assert np.array_equal(source, study * 3), "the runtime scribbled over its input"
        assert (backend.input.ctypes.data, backend.output.ctypes.data) == addresses
        assert backend.input is source and backend.output is target


@BOTH
def test_infer_allocates_no_volume(tmp_path: Path, candidate: Candidate) -> None:
    shape = (16, 64, 64)
    model = load_model(make_model_folder(tmp_path, network(shape), shape_zyx=shape))
    with closing(open_backend(model, candidate, threads=1)) as backend:
        backend.infer()
        tracemalloc.start()
        try:
            backend.infer()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < backend.output.nbytes // 8


def test_a_runtime_that_copies_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    shared = openvino.Tensor
    monkeypatch.setattr(openvino, "Tensor", lambda array, shared_memory: shared(array, shared_memory=False))
    assert refusal(EngineError, lambda: open_backend(model, OPENVINO)) == "not-in-place"


@BOTH
def test_infer_lets_other_threads_run(tmp_path: Path, candidate: Candidate) -> None:
    shape = (64, 128, 128)
    model = load_model(make_model_folder(tmp_path, network(shape), shape_zyx=shape))
    with closing(open_backend(model, candidate, threads=1)) as backend:
        backend.infer()
        for _ in range(20):
            window: list[float] = []

            def work(window: list[float] = window, backend: Backend = backend) -> None:
                window.append(time.perf_counter())
                backend.infer()
                window.append(time.perf_counter())

            thread, ticks = threading.Thread(target=work), []
            thread.start()
            while thread.is_alive():
                ticks.append(time.perf_counter())
                time.sleep(0.0005)
            start, end = window
            quarter = (end - start) / 4
            if any(start + quarter < tick < end - quarter for tick in ticks):
                return
    pytest.fail("no other thread ever ran in the middle half of an inference")


def test_backends_in_several_threads_do_not_disturb_each_other(model: Model, study: NDArray[np.float32]) -> None:
    wrong: list[str] = []

    def work(candidate: Candidate, factor: int) -> None:
        with closing(open_backend(model, candidate, threads=1)) as backend:
            backend.input[...] = study * factor
            for _ in range(5):
                backend.infer()
            if np.abs(backend.output - oracle(study * factor, model.onnx_bytes)).max() > 1e-4:
                wrong.append(f"{candidate} {factor}")

    threads = [
        threading.Thread(target=work, args=(candidate, i)) for i in (1, 2) for candidate in (OPENVINO, ONNXRUNTIME)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@BOTH
def test_a_working_runtime_prints_nothing(
    tmp_path: Path, candidate: Candidate, capfd: pytest.CaptureFixture[str]
) -> None:
    chatty = network()
    chatty.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "used_by_nobody"))
    with closing(open_backend(folder_model(tmp_path, chatty), candidate)) as backend:
        backend.infer()
    assert capfd.readouterr() == ("", "")


@BOTH
def test_close_twice_and_then_infer(model: Model, candidate: Candidate) -> None:
    backend = open_backend(model, candidate)
    backend.infer()
    logits = backend.output.copy()
    backend.close()
    backend.close()
    assert refusal(EngineError, backend.infer) == "backend-closed"
    assert np.array_equal(backend.output, logits), "the arrays outlive the runtime"


@BOTH
def test_a_failing_runtime_is_told_with_its_own_exception(model: Model, candidate: Candidate) -> None:
    def fail() -> None:
        raise RuntimeError("Exception from src/somewhere.cpp:12:\nno\nmemory\n")

    backend = open_backend(model, candidate)
    backend._run = fail  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="no memory") as caught:
        backend.infer()
    assert caught.value.code == "inference-failed" and "somewhere" not in caught.value.message
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@BOTH
def test_a_forked_child_gets_an_error_and_does_not_hang(tmp_path: Path, candidate: Candidate) -> None:
    """The fork is in a process of its own: a fork of the test process would carry the threads of other tests."""
    make_model_folder(tmp_path, network())
    script = f"""
import os, pathlib, signal, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads, which is the point here
from lnfast.backends import candidates, open_backend
from lnfast.card import load_model
from lnfast.errors import EngineError
model = load_model(pathlib.Path({str(tmp_path)!r}))
candidate = candidates({candidate.backend!r}, "cpu", "fp32")[0]
backend = open_backend(model, candidate, threads=1)
backend.infer()
child = os.fork()
if not child:
    signal.alarm(30)  # a child that hangs is killed
    try:
        backend.infer()
    except EngineError as error:
        print(error.code, flush=True)
    backend.close()
    del backend
    own = open_backend(model, candidate, threads=1)
    own.infer()
    print("own", flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.returncode) == (["forked", "own"], 0), done.stderr


def test_importing_is_light_and_nothing_is_sent(tmp_path: Path) -> None:
    """OpenVINO's own import starts a process that reports to a web address, unless CI is set or the user opted out."""
    make_model_folder(tmp_path / "model", network())
    script = f"""
import sys
seen = []
sys.addaudithook(lambda name, args: seen.append(name))
import lnfast.backends as backends
assert not {{"openvino", "onnxruntime", "onnx", "torch"}} & set(sys.modules), "an import that is not light"
import pathlib
from lnfast.card import load_model
for candidate in (offer for offer in backends.candidates() if not offer.needs_engine):
    backends.open_backend(load_model(pathlib.Path({str(tmp_path / "model")!r})), candidate, threads=1).infer()
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules, "the package that sends was imported"
bad = [name for name in seen if name.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn", "urllib."))]
assert not bad, bad
"""
    home = tmp_path / "home"
    home.mkdir()
    quiet = {"CI", "TF_BUILD", "JENKINS_URL"}  # these would silence OpenVINO and hide a failure of ours
    env = {key: value for key, value in os.environ.items() if key not in quiet} | {"HOME": str(home)}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [path for path in home.rglob("*") if "intel" in str(path.relative_to(home)).lower()]
