"""TensorRT engines executed on a real GPU, where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import SHAPE_ZYX, network
from numpy.typing import NDArray
from trt_files import FP16, FP32, RTX, halved, io, refusal, sm

from lnfast.backends import Candidate, trt
from lnfast.backends.trt import builder, cuda, toolkit
from lnfast.backends.trt.builder import build
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import BuiltFor
from lnfast.errors import EngineError

if not toolkit.PACKAGES[RTX].installed() and not os.environ.get("CI"):
    pytest.skip("needs tensorrt-rtx-cu13, which this machine has no wheel of", allow_module_level=True)


@pytest.fixture(scope="module")
def engines() -> dict[str, tuple[bytes, BuiltFor]]:
    models = {"float32": network(), "float16": halved(network())}
    target = sm()
    return {
        dtype: (build(model.SerializeToString(), io(dtype), target), builder.built_for(target))
        for dtype, model in models.items()
    }


def reference(x: NDArray[Any]) -> NDArray[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(network().SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[Any] = session.run(None, {"input": x.astype(np.float32)})[0]
    return answer


@pytest.mark.gpu
@pytest.mark.parametrize(("candidate", "dtype"), [(FP32, "float32"), (FP16, "float16")], ids=["fp32", "fp16"])
def test_gpu_computes_what_the_cpu_computes(engines: Any, candidate: Candidate, dtype: str) -> None:
    rng = np.random.default_rng(5)
    with closing(open_engine(engines[dtype][0], io(dtype), engines[dtype][1], candidate)) as backend:
        assert np.isnan(backend.output).all() and backend.input.dtype == backend.output.dtype == dtype
        assert backend.input.ctypes.data % 64 == backend.output.ctypes.data % 64 == 0
        addresses = backend.input.ctypes.data, backend.output.ctypes.data
        before = None
        for _ in range(3):  # the recording must read the memory, not what was in it
            study = rng.standard_normal(backend.input.shape).astype(dtype)
            backend.input[...] = study
            backend.output.fill(np.nan)
            backend.infer()
            wanted = reference(study)
            worst = np.abs(backend.output.astype(np.float64) - wanted).max() / np.abs(wanted).max()
            assert worst < (1e-5 if dtype == "float32" else 1e-2)
            assert before is None or not np.array_equal(before, backend.output)
            before = backend.output.copy()
        assert (backend.input.ctypes.data, backend.output.ctypes.data) == addresses


@pytest.mark.gpu
def test_gpu_serves_two_threads(engines: Any) -> None:
    blob, built = engines["float16"]
    backends = [open_engine(blob, io("float16"), built, FP16) for _ in range(2)]
    studies = [np.random.default_rng(i).standard_normal(backends[0].input.shape).astype(np.float16) for i in (1, 2)]
    worst = [1.0, 1.0]

    def serve(i: int) -> None:
        wanted = reference(studies[i])
        for _ in range(20):
            backends[i].input[...] = studies[i]
            backends[i].output.fill(np.nan)
            backends[i].infer()
        worst[i] = float(np.abs(backends[i].output - wanted).max() / np.abs(wanted).max())

    threads = [threading.Thread(target=serve, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) < 1e-2
    for backend in backends:
        backend.close()
        assert refusal(EngineError, backend.infer).code == "backend-closed"
        assert np.isfinite(backend.output).all(), "the arrays outlive the runtime"


@pytest.mark.gpu
def test_gpu_refuses_a_damaged_engine(engines: Any) -> None:
    blob, built = engines["float16"]
    for bad in (b"", b"x" * 4096, blob[: len(blob) // 2]):
        error = refusal(EngineError, lambda bad=bad: open_engine(bad, io("float16"), built, FP16))  # type: ignore[misc]
        assert error.code in ("engine-damaged", "engine-mismatch")


@pytest.mark.gpu
def test_gpu_refuses_a_fork_and_goes_quietly(tmp_path: Path, engines: Any) -> None:
    (tmp_path / "engine").write_bytes(engines["float16"][0])
    code = f"""
import os, pathlib
from lnfast.backends import Candidate
from lnfast.backends.protocol import NetworkIO
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import BuiltFor
from lnfast.errors import EngineError
io = NetworkIO("input", "logits", {SHAPE_ZYX}, "float16")
blob = pathlib.Path({str(tmp_path / "engine")!r}).read_bytes()
backend = open_engine(blob, io, {engines["float16"][1]}, Candidate("tensorrt", "cuda:0", "fp16", ""))
backend.infer()
if os.fork() == 0:
    try:
        backend.infer()
    except EngineError as error:
        print(error.code)
    backend.close()
    del backend  # and out through the interpreter's own end
else:
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    backend.infer()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "forked\n", "")


@pytest.mark.gpu
def test_gpu_facts() -> None:
    facts = cuda.device_facts(0)
    assert facts.name and float(facts.capability) >= 7.5 and facts.memory_bytes > 1 << 30 and facts.cuda
    assert {offer.backend for offer in trt.offers()} == {"tensorrt"}
