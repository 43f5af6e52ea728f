"""TensorRT engines are built without a GPU, and graphs that cannot be built are refused with the reason."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from fake_gpu import Gpu
from model_files import SHAPE_ZYX, graph, network
from onnx import helper, numpy_helper
from trt_files import FP32, RTX, halved, io, refusal, sm

from lnfast import optional
from lnfast.backends import trt
from lnfast.backends.protocol import NetworkIO
from lnfast.backends.trt import builder, cuda, toolkit
from lnfast.backends.trt.builder import BuildTarget, build
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import BuiltFor
from lnfast.card import load_model
from lnfast.errors import BackendError, EngineError, ModelError, UsageError

if not toolkit.PACKAGES[RTX].installed() and not os.environ.get("CI"):
    pytest.skip("needs tensorrt-rtx-cu13, which this machine has no wheel of", allow_module_level=True)


@pytest.fixture(scope="module")
def shipped() -> tuple[onnx.ModelProto, tuple[int, int, int], str, str]:
    model = load_model("pelvic-ln-edge")
    card = model.card
    return onnx.load_from_string(model.onnx_bytes), card.shape_zyx, card.input_name, card.output_name


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


def test_tensorrt_builds_for_its_own_gpu(plug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX stands in for TensorRT, without what TensorRT lacks."""
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
