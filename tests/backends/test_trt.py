"""TensorRT engines: built for real without a GPU, executed on a fake GPU, and on a real GPU where there is one."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from model_files import SHAPE_ZYX, graph, network
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnfast import optional
from lnfast.backends import Candidate, trt
from lnfast.backends.protocol import NetworkIO
from lnfast.backends.trt import builder, cuda, toolkit
from lnfast.backends.trt.builder import BuildTarget, build
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import BuiltFor
from lnfast.card import load_model
from lnfast.errors import BackendError, EngineError, LnfastError, ModelError, UsageError

RTX = "tensorrt-rtx"
if not toolkit.PACKAGES[RTX].installed() and not os.environ.get("CI"):
    pytest.skip("needs tensorrt-rtx-cu13, which this machine has no wheel of", allow_module_level=True)
FP32 = Candidate("tensorrt", "cuda:0", "fp32", "")
FP16 = Candidate("tensorrt", "cuda:0", "fp16", "")


def io(dtype: str = "float32", shape: tuple[int, int, int] = SHAPE_ZYX) -> NetworkIO:
    return NetworkIO("input", "logits", shape, dtype)


def sm(*capabilities: str) -> BuildTarget:
    return BuildTarget(RTX, capabilities)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in float16 from end to end, by which a strongly typed network computes in float16."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(w).astype(np.float16), w.name)
        if w.data_type == TensorProto.FLOAT
        else w
        for w in half.graph.initializer
    ]
    del half.graph.initializer[:]
    half.graph.initializer.extend(weights)
    del half.graph.value_info[:]
    for port in (*half.graph.input, *half.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    return half


def refusal(kind: type[LnfastError], call: Callable[[], object]) -> LnfastError:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and "\n" not in caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def shipped() -> tuple[onnx.ModelProto, tuple[int, int, int], str, str]:
    model = load_model("pelvic-ln-edge")
    card = model.card
    return onnx.load_from_string(model.onnx_bytes), card.shape_zyx, card.input_name, card.output_name


# --- engines are built here, GPU or not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "capabilities"),
    [("float32", ("8.6",)), ("float32", ("8.6", "8.9", "12.0")), ("float16", ("8.6", "8.9")), ("float16", ("7.5",))],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else value,
)
def test_the_shipped_model_becomes_an_engine(shipped: Any, dtype: str, capabilities: tuple[str, ...]) -> None:
    model, shape, input_name, output_name = shipped
    onnx_bytes = (model if dtype == "float32" else halved(model)).SerializeToString()
    engine = build(onnx_bytes, NetworkIO(input_name, output_name, shape, dtype), sm(*capabilities))
    assert engine[:4] == b"vtrt", "the head of a TensorRT-RTX plan"
    weights = sum(numpy_helper.to_array(w).nbytes for w in model.graph.initializer)
    assert len(engine) > weights / (1 if dtype == "float32" else 2)


def test_no_choice_of_gpus_is_a_choice_too() -> None:
    assert build(network().SerializeToString(), io(), sm())[:4] == b"vtrt"


def test_the_same_graph_gives_the_same_bytes() -> None:
    graphs = [halved(network(seed=seed)).SerializeToString() for seed in (0, 0, 1)]
    first, again, different = (build(content, io("float16"), sm("8.6")) for content in graphs)
    assert first == again and first != different


def test_a_build_says_how_far_it_is_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    reports: list[tuple[str, int, int]] = []
    build(network().SerializeToString(), io(), sm("8.6"), progress=lambda *step: reports.append(step))
    assert {phase for phase, _, _ in reports} >= {"Building engine"}
    assert all(0 <= done <= steps for _, done, steps in reports)
    assert any(done == steps for _, done, steps in reports)
    refusal(EngineError, lambda: build(network().SerializeToString(), io(), sm("7.5")))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_what_progress_raises_stops_the_build(stop: type[BaseException]) -> None:
    phases = []

    def progress(phase: str, done: int, steps: int) -> None:
        phases.append(phase)
        if len(phases) == 5:
            raise stop("enough")

    with pytest.raises(stop, match="enough"):
        build(network().SerializeToString(), io(), sm("8.6"), progress=progress)
    assert len(phases) == 5
    assert build(network().SerializeToString(), io(), sm("8.6")), "and leaves the next one alone"


def test_other_threads_run_while_one_builds(shipped: Any) -> None:
    model, shape, input_name, output_name = shipped
    inside = threading.Event()
    done = threading.Thread(
        target=lambda: build(
            model.SerializeToString(),
            NetworkIO(input_name, output_name, shape, "float32"),
            sm("8.6"),
            progress=lambda phase, step, steps: inside.set(),
        )
    )
    done.start()
    assert inside.wait(60)
    turns = 0
    while done.is_alive():
        turns += 1
    done.join()
    assert turns > 100


def test_two_threads_build_at_once() -> None:
    built: dict[str, bytes] = {}

    def build_for(capability: str) -> None:
        built[capability] = build(network().SerializeToString(), io(), sm(capability))

    threads = [threading.Thread(target=build_for, args=(capability,)) for capability in ("8.6", "8.9")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 2
    assert all(built[capability] == build(network().SerializeToString(), io(), sm(capability)) for capability in built)


# --- what is not built, and why ---------------------------------------------------------------------------------------


def test_fp32_is_not_built_for_turing() -> None:
    error = refusal(EngineError, lambda: build(network().SerializeToString(), io(), sm("7.5")))
    assert error.code == "compile-failed"
    assert "refuses to build for SM 7.5" in error.message
    assert "FP32 3D convolution is not supported" in error.message
    assert "/_src/" not in error.message and ".cpp" not in error.message


def test_a_refusal_leaves_nothing_behind() -> None:
    """TensorRT-RTX 1.7.1 puts Turing's kernels, 50 MB, into the next engine that it makes."""
    content = network().SerializeToString()
    clean = build(content, io(), sm("8.6"))
    for _ in range(2):
        refusal(EngineError, lambda: build(content, io(), sm("7.5")))
        assert build(content, io(), sm("8.6")) == clean


def test_too_little_memory_is_said() -> None:
    target = BuildTarget(RTX, ("8.6",), workspace_bytes=1)
    error = refusal(
        EngineError, lambda: build(network((16, 64, 64)).SerializeToString(), io(shape=(16, 64, 64)), target)
    )
    assert error.code == "compile-failed" and "workspace" in error.message


@pytest.mark.parametrize("operator", ["Foo", "Det"])
def test_an_operator_that_it_lacks_is_named(operator: str) -> None:
    node = helper.make_node(operator, ["input"], ["logits"], name=f"/x/{operator}")
    error = refusal(ModelError, lambda: build(graph([node], [], SHAPE_ZYX).SerializeToString(), io(), sm("8.6")))
    assert error.code == "unsupported-op"
    assert f"has no operator {operator} (node /x/{operator})" in error.message


def test_an_operator_without_a_name_is_counted() -> None:
    nodes = [helper.make_node("Relu", ["input"], ["middle"]), helper.make_node("Foo", ["middle"], ["logits"])]
    error = refusal(ModelError, lambda: build(graph(nodes, [], SHAPE_ZYX).SerializeToString(), io(), sm("8.6")))
    assert "operator Foo (node number 1)" in error.message


def test_an_int32_bias_is_refused_with_its_reason() -> None:
    weights = [
        numpy_helper.from_array(np.zeros(1, np.int32), "b"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.ones((1, 1, 1, 1, 1), np.float32), "w"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "scale"], ["bias"], name="bias_dequantize"),
        helper.make_node("Conv", ["input", "w", "bias"], ["logits"], kernel_shape=[1, 1, 1]),
    ]
    error = refusal(ModelError, lambda: build(graph(nodes, weights, SHAPE_ZYX).SerializeToString(), io(), sm("8.6")))
    assert error.code == "unsupported-op"
    assert "operator DequantizeLinear (node bias_dequantize)" in error.message
    assert "Int32" in error.message and "cudaError" not in error.message


@pytest.mark.parametrize("content", [b"not onnx", network().SerializeToString()[:500]], ids=["text", "half"])
def test_a_damaged_graph_is_refused(content: bytes) -> None:
    error = refusal(ModelError, lambda: build(content, io(), sm("8.6")))
    assert error.code == "bad-onnx" and "Failed to parse the ONNX model" in error.message


def test_weights_in_another_file_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given bytes alone, the parser would take them from the current folder."""
    onnx.save_model(network(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "w.bin").stat().st_size
    error = refusal(ModelError, lambda: build((tmp_path / "m.onnx").read_bytes(), io(), sm("8.6")))
    assert error.code == "bad-onnx" and "initializer" in error.message


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (network(), io("float16")),
        (halved(network()), io()),
        (network(), io(shape=(8, 16, 17))),
        (network(("z", 16, 16)), io()),
        (network(input_name="other"), io()),
        (onnx.ModelProto(), io()),
    ],
    ids=["float32", "float16", "shape", "free axis", "name", "empty"],
)
def test_a_graph_with_other_ports_is_refused(model: onnx.ModelProto, wanted: NetworkIO) -> None:
    error = refusal(ModelError, lambda: build(model.SerializeToString(), wanted, sm("8.6")))
    assert error.code == "model-mismatch" and f"wanted input {wanted.dtype}" in error.message


def test_what_does_not_exist_cannot_be_built_for() -> None:
    content = network().SerializeToString()
    error = refusal(UsageError, lambda: build(content, io(), sm("8.6", "9.9")))
    assert error.code == "unknown-capability" and "8.9" in error.message
    error = refusal(UsageError, lambda: build(content, io(), BuildTarget("tensorflow")))
    assert error.code == "unknown-target" and "tensorrt, tensorrt-rtx" in error.message


def test_builders_say_what_they_can() -> None:
    rtx = next(facts for facts in builder.builders() if facts.target == RTX)
    assert not rtx.needs_gpu and rtx.version == toolkit.PACKAGES[RTX].version()
    assert {"7.5", "8.0", "8.6", "8.9", "12.0"} <= set(rtx.capabilities)
    assert builder.built_for(sm("8.6")) == BuiltFor(RTX, rtx.version, ("8.6",))


def test_an_engine_is_as_exact_as_its_graph_and_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt_rtx

    configs: list[Any] = []
    real = builder._config
    monkeypatch.setattr(builder, "_config", lambda *args: configs.append(real(*args)) or configs[0])  # type: ignore[func-returns-value]
    build(network().SerializeToString(), io(), sm("8.6", "8.9"))
    flags = tensorrt_rtx.BuilderFlag
    assert not configs[0].get_flag(flags.TF32) and configs[0].get_flag(flags.REQUIRE_USER_ALLOCATION)
    assert [configs[0].get_compute_capability(i).name for i in range(configs[0].num_compute_capabilities)] == [
        "SM86",
        "SM89",
    ]


# --- packages and drivers that are not there --------------------------------------------------------------------------


def test_without_a_gpu_there_is_no_offer() -> None:
    try:
        cuda.count()
    except BackendError:
        pass
    else:
        pytest.skip("there is a GPU here")
    for call in (trt.offers, lambda: open_engine(b"", io(), BuiltFor(RTX, "1", ()), FP32)):
        error = refusal(BackendError, call)
        assert error.code == "device-missing" and "driver" in error.message and "--device cpu" in error.message


@pytest.mark.parametrize("missing", ["tensorrt", "cuda"])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find_spec = optional.find_spec
    monkeypatch.setattr(optional, "find_spec", lambda name: None if name.startswith(missing) else find_spec(name))
    monkeypatch.setattr(trt, "nvidia_gpus", lambda: 1)
    error = refusal(BackendError, trt.offers)
    assert error.code == "backend-missing" and "pip install 'lnfast[rtx]'" in error.message
    assert ("and neither is installed" if missing == "tensorrt" else "cuda-core") in error.message


def test_no_package_is_no_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    assert builder.builders() == ()
    error = refusal(BackendError, lambda: build(network().SerializeToString(), io(), BuildTarget("tensorrt")))
    assert error.code == "backend-missing" and "pip install 'lnfast[tensorrt]'" in error.message


# --- execution, on a GPU that is not there ----------------------------------------------------------------------------


class Gpu:
    """CUDA as far as it is used, in order: nothing happens before a sync, and recording does nothing at all.

    Each call must find its device current in its thread, as the driver wants it. Device memory begins as garbage. The
    engine computes ``2 x + 1`` on its own shape and type, from and to the addresses that it was given.
    """

    def __init__(self, io: NetworkIO, devices: int = 2, capability: tuple[int, int] = (8, 9)) -> None:
        self.io, self.devices, self.capability = io, devices, capability
        self.local = threading.local()
        self.streams: dict[int, Stream] = {}
        self.log: list[str] = []
        self.broken: set[str] = set()  # what fails
        self.validity = 0
        self.core = SimpleNamespace(
            Device=lambda number: FakeDevice(self, number), LegacyPinnedMemoryResource=lambda: Pinned(self)
        )
        self.trt = self._trt()

    @property
    def current(self) -> int | None:
        return getattr(self.local, "device", None)

    def must_be_current(self, number: int) -> None:
        if self.current != number:
            raise RuntimeError(f"CUDA_ERROR_INVALID_CONTEXT: {self.current} is current, not {number}")

    # the driver's functions
    def cuInit(self, flags: int) -> tuple[int]:  # noqa: N802
        return (100 if self.devices == 0 else 0,)

    def cuDeviceGetCount(self) -> tuple[int, int]:  # noqa: N802
        return 0, self.devices

    def cuDeviceGet(self, number: int) -> tuple[int, int]:  # noqa: N802
        return 0, number

    def cuDeviceTotalMem(self, device: int) -> tuple[int, int]:  # noqa: N802
        return 0, 8 << 30

    def cuDriverGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return 0, 13010

    def cuCtxGetCurrent(self) -> tuple[int, int | None]:  # noqa: N802
        return 0, self.current

    def cuCtxSetCurrent(self, device: int | None) -> tuple[int]:  # noqa: N802
        self.local.device = device
        return (0,)

    def _trt(self) -> Any:
        logger = type("ILogger", (), {"ERROR": 1, "__init__": lambda self: None})
        bits = SimpleNamespace(MALFORMED_ENGINE=32, VERSION_MISMATCH=1, UNSUPPORTED_CC=2, OLD_CUDA_DRIVER=4)
        return SimpleNamespace(
            __version__="1.7.1.116",
            ILogger=logger,
            Runtime=lambda logger: Runtime(self, logger),
            EngineInvalidityDiagnostics=bits,
        )


class Runtime:
    def __init__(self, gpu: Gpu, logger: Any) -> None:
        self.gpu, self.logger = gpu, logger

    def get_engine_validity(self, blob: bytes) -> tuple[int, int]:
        return 2, self.gpu.validity

    def deserialize_cuda_engine(self, blob: bytes) -> Any:
        if blob != b"engine":
            self.logger.log(2, "a warning")
            self.logger.log(1, "the magic is wrong")
            self.logger.log(1, "hence nothing works")
            return None
        return Engine(self.gpu, self.logger)


class Engine:
    num_io_tensors = 2

    def __init__(self, gpu: Gpu, logger: Any) -> None:
        self.gpu, self.logger, self.io = gpu, logger, gpu.io

    def get_tensor_name(self, i: int) -> str:
        return (self.io.output_name, self.io.input_name)[i]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name == self.io.input_name else "OUTPUT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, 1, *self.io.shape_zyx)

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name={"float32": "FLOAT", "float16": "HALF"}[self.io.dtype])

    def create_execution_context(self) -> Any:
        if "context" in self.gpu.broken:
            self.logger.log(0, "no memory left")
            return None
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.gpu = engine, engine.gpu
        self.at: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.at[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        return 0 if "address" in self.gpu.broken else self.at[name]

    def is_stream_capturable(self, stream: int) -> bool:
        return "capturable" not in self.gpu.broken

    def execute_async_v3(self, handle: int) -> bool:
        self.gpu.log.append("network")
        recording = self.gpu.streams[handle].recording is not None
        if "network" in self.gpu.broken or (recording and "recording" in self.gpu.broken):
            self.engine.logger.log(1, "Cask convolution failed")
            return False
        io, at = self.engine.io, self.at
        dtype = np.dtype(io.dtype)
        size = int(np.prod(io.shape_zyx)) * dtype.itemsize

        def compute() -> None:
            x = np.frombuffer((ctypes.c_ubyte * size).from_address(at[io.input_name]), dtype)
            y = np.frombuffer((ctypes.c_ubyte * size).from_address(at[io.output_name]), dtype)
            y[:] = 2 * x + 1

        self.gpu.streams[handle].push(compute)
        return True


class Stream:
    def __init__(self, gpu: Gpu, device: int) -> None:
        self.gpu, self.device = gpu, device
        self.waiting: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.handle = 4096 + len(gpu.streams)
        gpu.streams[self.handle] = self

    def push(self, work: Callable[[], None]) -> None:
        self.gpu.must_be_current(self.device)
        (self.waiting if self.recording is None else self.recording).append(work)

    def sync(self) -> None:
        self.gpu.must_be_current(self.device)
        assert self.recording is None, "a recording stream cannot be waited for"
        if "sync" in self.gpu.broken:
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: a kernel went astray")
        for work in self.waiting:
            work()
        self.waiting.clear()

    def create_graph_builder(self) -> Any:
        return Recorder(self)


class Recorder:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def begin_building(self, mode: str) -> Any:
        self.stream.recording = []
        return self

    def end_building(self) -> Any:
        self.work, self.stream.recording = self.stream.recording, None
        return self

    def complete(self) -> Any:
        return SimpleNamespace(launch=self.launch)

    def launch(self, stream: Stream) -> None:
        stream.gpu.log.append("launch")
        for work in self.work or ():
            stream.push(work)

    def close(self) -> None:
        self.stream.recording = None


class Memory:
    def __init__(self, gpu: Gpu, size: int, device: int | None, stream: Stream) -> None:
        assert stream.device == gpu.current
        self.size, self.device = size, device
        self.bytes = (ctypes.c_ubyte * size)(*([0xAA] * size))
        self.handle = ctypes.addressof(self.bytes)

    def copy_from(self, source: Memory, *, stream: Stream) -> None:
        if source.size != self.size:
            raise ValueError("buffer sizes mismatch between src and dst")
        assert (self.device is None) != (source.device is None)
        stream.push(lambda: (ctypes.memmove(self.handle, source.handle, self.size), None)[1])


class Pinned:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def allocate(self, size: int, *, stream: Stream) -> Memory:
        return Memory(self.gpu, size, None, stream)


class FakeDevice:
    name = "NVIDIA Fake 4090"

    def __init__(self, gpu: Gpu, number: int) -> None:
        self.gpu, self.number = gpu, number
        self.compute_capability = SimpleNamespace(major=gpu.capability[0], minor=gpu.capability[1])

    def set_current(self) -> None:
        self.gpu.local.device = self.number

    def create_stream(self) -> Stream:
        self.gpu.must_be_current(self.number)
        return Stream(self.gpu, self.number)

    def allocate(self, size: int, *, stream: Stream) -> Memory:
        return Memory(self.gpu, size, self.number, stream)


BUILT = BuiltFor(RTX, "1.7.1.116", ("8.6", "8.9"))


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[Gpu], Gpu]:
    def into(gpu: Gpu) -> Gpu:
        monkeypatch.setattr(cuda, "PACKAGE", SimpleNamespace(load=lambda: gpu.core))
        monkeypatch.setattr(cuda, "_BINDINGS", SimpleNamespace(load=lambda: gpu))
        missing = optional.Package("backend tensorrt", "not_there", ("not-there",), "not-there")
        monkeypatch.setitem(toolkit.PACKAGES, "tensorrt", missing)
        monkeypatch.setitem(toolkit.PACKAGES, RTX, SimpleNamespace(load=lambda: gpu.trt, installed=lambda: True))
        monkeypatch.setattr(toolkit, "_toolkits", {})
        monkeypatch.setattr(trt, "nvidia_gpus", cuda.count)
        return gpu

    return into


def test_tensorrt_builds_for_its_own_gpu(plug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With TensorRT-RTX in its place, less what TensorRT lacks."""
    import tensorrt_rtx as rtx

    names = ("ILogger", "IProgressMonitor", "Builder", "NetworkDefinitionCreationFlag", "OnnxParser", "MemoryPoolType")
    plain = SimpleNamespace(
        __version__="11.4.0.106",
        BuilderFlag=SimpleNamespace(TF32=rtx.BuilderFlag.TF32),
        IBuilderConfig=object,
        **{name: getattr(rtx, name) for name in names},
    )
    gpu = plug(Gpu(io(), devices=1))
    monkeypatch.setitem(toolkit.PACKAGES, "tensorrt", SimpleNamespace(load=lambda: plain, installed=lambda: True))
    during: list[int | None] = []
    target = BuildTarget("tensorrt")
    engine = build(network().SerializeToString(), io(), target, progress=lambda *step: during.append(gpu.current))
    assert engine[:4] == b"vtrt" and set(during) == {0} and gpu.current is None
    assert builder.built_for(target) == BuiltFor("tensorrt", "11.4.0.106", ("8.9",))
    facts = {package.target: package for package in builder.builders()}
    assert facts["tensorrt"].needs_gpu and facts["tensorrt"].capabilities == ()
    error = refusal(UsageError, lambda: build(network().SerializeToString(), io(), BuildTarget("tensorrt", ("8.6",))))
    assert error.code == "unknown-capability" and "for the GPU that it runs on" in error.message
    plug(Gpu(io(), devices=0))
    monkeypatch.setitem(toolkit.PACKAGES, "tensorrt", SimpleNamespace(load=lambda: plain, installed=lambda: True))
    assert refusal(BackendError, lambda: build(network().SerializeToString(), io(), target)).code == "device-missing"


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


# --- execution, on a GPU ----------------------------------------------------------------------------------------------


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
