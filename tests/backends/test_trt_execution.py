"""TensorRT engines executed on a fake GPU that works in order."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from fake_gpu import Gpu
from model_files import SHAPE_ZYX
from trt_files import BUILT, FP16, FP32, RTX, io, refusal

from lnfast.backends import Candidate, trt
from lnfast.backends.protocol import NetworkIO
from lnfast.backends.trt import cuda, toolkit
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import BuiltFor
from lnfast.errors import BackendError, EngineError, UsageError

if not toolkit.PACKAGES[RTX].installed() and not os.environ.get("CI"):
    pytest.skip("needs tensorrt-rtx-cu13, which this machine has no wheel of", allow_module_level=True)


@pytest.mark.parametrize(("candidate", "dtype"), [(FP32, "float32"), (FP16, "float16")], ids=["fp32", "fp16"])
def test_a_study_goes_in_through_and_out(plug: Any, candidate: Candidate, dtype: str) -> None:
    gpu = plug(Gpu(io(dtype)))
    rng = np.random.default_rng(3)
    with closing(open_engine(b"engine", io(dtype), BUILT, candidate)) as backend:
        source, target = backend.input, backend.output
        assert np.isnan(target).all(), "what was never inferred must not look like an empty mask"
        assert not source.any()
        for array in (source, target):
            assert array.dtype == dtype and array.shape == (1, 1, *SHAPE_ZYX)
            assert array.flags.c_contiguous and array.flags.writeable
        addresses = source.ctypes.data, target.ctypes.data
        for _ in range(3):
            study = rng.integers(-50, 50, source.shape).astype(dtype)
            source[...] = study
            target.fill(np.nan)
            backend.infer()
            assert np.array_equal(target, 2 * study + 1) and np.array_equal(source, study)
        assert (backend.input.ctypes.data, backend.output.ctypes.data) == addresses
        info = backend.info
        assert (info.name, info.version, info.device) == ("tensorrt", "rtx 1.7.1", "cuda:0")
        assert info.precision == candidate.precision
    assert gpu.log == ["network"] * 2 + ["launch"] * 3, "warmed up, recorded once, then launched"


def test_threads_and_the_host_programs_own_gpu(plug: Any) -> None:
    gpu = plug(Gpu(io()))
    gpu.local.device = 0  # the host program's
    backends = [open_engine(b"engine", io(), BUILT, Candidate("tensorrt", f"cuda:{n}", "fp32", "")) for n in (0, 1)]
    assert gpu.current == 0
    left: list[int | None] = []

    def serve(number: int) -> None:
        backends[number].input.fill(number)
        for _ in range(20):
            backends[number].infer()
        left.append(gpu.current)

    threads = [threading.Thread(target=serve, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [None, None] and gpu.current == 0
    assert [float(backend.output.max()) for backend in backends] == [1.0, 3.0]
    assert [backend.info.device for backend in backends] == ["cuda:0", "cuda:1"]


def test_after_close_the_arrays_stay_and_nothing_else(plug: Any) -> None:
    plug(Gpu(io()))
    backend = open_engine(b"engine", io(), BUILT, FP32)
    backend.input.fill(4)
    backend.infer()
    source, target = backend.input, backend.output
    backend.close()
    backend.close()
    assert refusal(EngineError, backend.infer).code == "backend-closed"
    del backend
    assert source.min() == 4 and target.max() == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_is_refused(plug: Any) -> None:
    plug(Gpu(io()))
    backend = open_engine(b"engine", io(), BUILT, FP32)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            backend.infer()
        except EngineError as error:
            code = 0 if error.code == "forked" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    backend.infer()


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [
        ("context", "compile-failed", "no memory left"),
        ("address", "not-in-place", "input"),
        ("capturable", "compile-failed", "CUDA graph"),
        ("network", "inference-failed", "Cask convolution failed"),
        ("recording", "inference-failed", "Cask convolution failed"),
        ("sync", "inference-failed", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_what_fails_while_opening_is_told(plug: Any, broken: str, code: str, words: str) -> None:
    gpu = plug(Gpu(io()))
    gpu.broken.add(broken)
    error = refusal(EngineError, lambda: open_engine(b"engine", io(), BUILT, FP32))
    assert error.code == code and words in error.message
    assert gpu.current is None and all(stream.recording is None for stream in gpu.streams.values())


def test_what_fails_later_is_told(plug: Any) -> None:
    gpu = plug(Gpu(io()))
    backend = open_engine(b"engine", io(), BUILT, FP32)
    gpu.broken.add("sync")
    error = refusal(EngineError, backend.infer)
    assert error.code == "inference-failed" and "a kernel went astray" in error.message
    assert isinstance(error.__cause__, RuntimeError) and gpu.current is None


@pytest.mark.parametrize(
    ("validity", "code", "words"),
    [
        (0, "engine-damaged", "the magic is wrong"),
        (32, "engine-damaged", "the magic is wrong"),
        (1, "engine-mismatch", "another version"),
        (2, "engine-mismatch", "other GPUs"),
        (4, "engine-mismatch", "driver is too old"),
    ],
)
def test_an_engine_that_does_not_load_says_why(plug: Any, validity: int, code: str, words: str) -> None:
    gpu = plug(Gpu(io()))
    gpu.validity = validity
    error = refusal(EngineError, lambda: open_engine(b"rubbish", io(), BUILT, FP32))
    assert error.code == code and words in error.message and "lnfast export" in error.message


@pytest.mark.parametrize(
    "built", [BuiltFor(RTX, "1.6.1.120", ("8.9",)), BuiltFor(RTX, "1.7.1.116", ("8.6", "12.0"))], ids=["version", "gpu"]
)
def test_an_engine_made_for_something_else_is_not_even_tried(plug: Any, built: BuiltFor) -> None:
    plug(Gpu(io()))
    error = refusal(EngineError, lambda: open_engine(b"rubbish", io(), built, FP32))
    assert error.code == "engine-mismatch"
    for word in (built.version, *built.capabilities, "1.7.1.116", "SM 8.9", "NVIDIA Fake 4090", "lnfast export"):
        assert word in error.message


def test_an_engine_with_other_ports_is_refused(plug: Any) -> None:
    plug(Gpu(io()))
    for wanted in (io("float16"), io(shape=(8, 16, 32)), NetworkIO("dwi", "logits", SHAPE_ZYX, "float32")):
        error = refusal(EngineError, lambda wanted=wanted: open_engine(b"engine", wanted, BUILT, FP32))  # type: ignore[misc]
        assert error.code == "engine-mismatch" and f"wanted input {wanted.input_name} {wanted.dtype}" in error.message


def test_a_device_that_is_not_there_is_refused(plug: Any) -> None:
    plug(Gpu(io(), devices=1))
    there = Candidate("tensorrt", "cuda:1", "fp32", "")
    error = refusal(BackendError, lambda: open_engine(b"engine", io(), BUILT, there))
    assert error.code == "device-missing" and "here: cuda:0" in error.message
    cpu = Candidate("tensorrt", "cpu", "fp32", "")
    assert refusal(UsageError, lambda: open_engine(b"engine", io(), BUILT, cpu)).code == "unknown-device"
    plug(Gpu(io(), devices=0))
    error = refusal(BackendError, lambda: open_engine(b"engine", io(), BUILT, FP32))
    assert error.code == "device-missing" and "shows no GPU" in error.message


def test_offers_follow_the_gpu(plug: Any) -> None:
    plug(Gpu(io(), devices=1))
    assert [(offer.backend, offer.device, offer.precision) for offer in trt.offers()] == [
        ("tensorrt", "cuda:0", precision) for precision in ("fp16", "fp32", "int8")
    ]
    assert all("tensorrt-rtx on NVIDIA Fake 4090" in offer.reason for offer in trt.offers())
    plug(Gpu(io(), devices=2, capability=(7, 5)))
    assert [(offer.device, offer.precision) for offer in trt.offers()] == [("cuda:0", "fp16"), ("cuda:1", "fp16")]


def test_facts_of_a_device(plug: Any) -> None:
    plug(Gpu(io()))
    assert cuda.device_facts(1) == cuda.DeviceFacts("cuda:1", "NVIDIA Fake 4090", "8.9", 8 << 30, None, "13.1")
