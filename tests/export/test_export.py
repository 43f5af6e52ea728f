"""From a model to a certified engine, on tiny networks and studies whose nodes are known beforehand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from engine_files import LARGE, SMALL, deep_blob_network, write_studies, write_study
from model_files import SHAPE_ZYX, blob_network, folded_network, graph, make_model_folder, network
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import lnfast
from lnfast.backends import openvino
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import read_engine_folder
from lnfast.backends.engine.manifest import GRAPH, MANIFEST, SERIALIZED, blob_name
from lnfast.backends.machine import cpu_kind, nvidia_gpus
from lnfast.backends.registry import TARGET_PRECISIONS
from lnfast.backends.trt import toolkit
from lnfast.card import Model, load_model
from lnfast.cli import main
from lnfast.errors import BackendError, EngineError, LnfastError, ModelError, UsageError
from lnfast.export import Request, export, export_to_cache, variants
from lnfast.export.certificate import Certificate, Difference, certify
from lnfast.export.draft import DraftBuilder
from lnfast.export.graph import Graph, name_of
from lnfast.export.half import to_half
from lnfast.export.quantize import ASYMMETRIC, SYMMETRIC, ends, equalize, quantize, tensors_to_quantize
from lnfast.export.ranges import Range, observe, union
from lnfast.export.target import open_target
from lnfast.export.variants import GraphVariant, GraphVariants
from lnfast.network import Network
from lnfast.window import window_shapes

RTX = toolkit.PACKAGES["tensorrt-rtx"].installed()
BRIGHT, DIM = 1000, 450
MODEL_FILES = {"model.onnx", "probe.npz", "card.json"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies with one large and one small node each."""
    return write_studies(tmp_path_factory.mktemp("studies"), (LARGE, BRIGHT), (SMALL, BRIGHT))


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("blob") / "blob"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("deep") / "deep", deep_blob_network()))


def model_of(folder: Path, content: onnx.ModelProto, **entries: Any) -> Model:
    return load_model(make_model_folder(folder, content, **entries))


def graph_of(folder: Path, content: onnx.ModelProto) -> Graph:
    return Graph(model_of(folder, content))


def inputs(count: int = 2, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0.0, 1.0, (1, 1, *SHAPE_ZYX)).astype(np.float32) for _ in range(count)]


def run(content: bytes, x: NDArray[Any], *outputs: str) -> list[NDArray[Any]]:
    """The truth: ONNX Runtime, on what is asked for."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: list[NDArray[Any]] = session.run(list(outputs) or None, {session.get_inputs()[0].name: x})
    return found


def values_of(graph: Graph, tensors: list[str], x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Activations, handed out whole."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name != "input"
    )
    names = [name for name in tensors if name != "input"]
    found = dict(zip(names, run(proto.SerializeToString(), x, *names), strict=True))
    return found | ({"input": x} if "input" in tensors else {})


def off(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Root mean square difference, as a part of that of the truth."""
    difference = found.astype(np.float64) - wanted
    return float(np.sqrt(np.mean(np.square(difference)) / np.mean(np.square(wanted.astype(np.float64)))))


def refusal(kind: type[LnfastError], call: Callable[[], object], code: str) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code and "\n" not in caught.value.message
    return caught.value.message


def initial(graph: Graph | onnx.ModelProto) -> dict[str, NDArray[Any]]:
    proto = graph.proto if isinstance(graph, Graph) else graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


# --- 8 bits -----------------------------------------------------------------------------------------------------------


def uneven() -> onnx.ModelProto:
    """A channel of the first convolution is thirty times as large as it was."""
    made = network()
    for tensor in made.graph.initializer:
        if tensor.name in ("w1", "b1"):
            array = numpy_helper.to_array(tensor).copy()
            array[0] *= 30.0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return made


def test_equalizing_leaves_the_answers_and_evens_the_channels(tmp_path: Path) -> None:
    before = graph_of(tmp_path / "m", uneven())
    tensors = tensors_to_quantize(before)
    assert set(tensors) == {"input", "skip", "deep", "lifted"}
    ranges = observe(before, tensors, inputs())
    after = before.copy()
    told = equalize(after, ranges)

    for x in inputs(1, seed=9):
        (wanted,), (found,) = run(before.to_bytes(), x), run(after.to_bytes(), x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    seen = observe(after, tensors, inputs())
    for tensor in tensors:  # what it says of the changed graph is what the changed graph does
        np.testing.assert_allclose(told[tensor].low, seen[tensor].low, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told[tensor].high, seen[tensor].high, rtol=1e-4, atol=1e-5)

    def unevenness(one: Range) -> float:
        reach = np.maximum(np.abs(one.low), np.abs(one.high))
        return float(reach.max() / reach.min())

    assert unevenness(ranges["skip"]) > 20.0
    for tensor in ("skip", "deep", "lifted"):
        assert unevenness(told[tensor]) == pytest.approx(unevenness(ranges[tensor]) ** 0.5, rel=1e-3)
    assert told["input"] is ranges["input"]  # nobody makes it


def test_equalizing_helps_eight_bits(tmp_path: Path) -> None:
    plain = graph_of(tmp_path / "m", uneven())
    ranges = observe(plain, tensors_to_quantize(plain), inputs())
    even = plain.copy()
    evened = equalize(even, ranges)
    x = inputs(1)[0]
    (wanted,) = run(plain.to_bytes(), x)
    errors = [
        off(run(quantize(*pair, ASYMMETRIC).to_bytes(), x)[0], wanted) for pair in ((plain, ranges), (even, evened))
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("scheme", [ASYMMETRIC, SYMMETRIC], ids=["uint8", "int8"])
def test_a_quantized_graph_is_near_fp32_and_joins_share_a_scale(tmp_path: Path, scheme: Any) -> None:
    plain = graph_of(tmp_path / "m", network())
    ranges = observe(plain, tensors_to_quantize(plain), inputs())
    made = quantize(plain, ranges, scheme)
    onnx.checker.check_model(made.proto, full_check=True)
    for x in inputs():
        assert off(run(made.to_bytes(), x)[0], run(plain.to_bytes(), x)[0]) < 0.03
    held = initial(made)
    assert held["lifted/scale"] == held["skip/scale"] and held["lifted/zero"] == held["skip/zero"]
    for tensor, seen in ranges.items():
        low, high = union([ranges["skip"], ranges["lifted"]] if tensor in ("skip", "lifted") else [seen])
        zero, scale = held[f"{tensor}/zero"], float(held[f"{tensor}/scale"])
        if scheme.symmetric:
            assert zero.dtype == np.int8 and zero == 0
            assert scale == pytest.approx(max(-low, high) / 127.0)
        else:
            assert zero.dtype == np.uint8 and abs((0 - float(zero)) * scale - low) <= scale
            assert scale == pytest.approx((high - low) / 255.0)
    for name in ("w1", "w2", "w3", "w4"):
        assert name not in held and f"{name}/integers" in held


def test_weights_are_int8_by_channel(tmp_path: Path) -> None:
    """Each weight is at the nearest step of its channel, or beyond the last; no scale is worse than the largest's."""
    plain = graph_of(tmp_path / "m", network())
    made = quantize(plain, observe(plain, tensors_to_quantize(plain), inputs(1)), ASYMMETRIC)
    held = initial(made)
    for name, axis in (("w1", 0), ("w2", 0), ("w3", 1), ("w4", 0)):
        weight = plain.weights[name]
        integers, scales, zeros = (held[f"{name}/{part}"] for part in ("integers", "scale", "zero"))
        assert integers.dtype == zeros.dtype == np.int8 and not zeros.any()
        assert scales.shape == (weight.shape[axis],) and integers.shape == weight.shape
        (dequantize,) = [
            node for node in made.nodes if list(node.input) == [f"{name}/{p}" for p in ("integers", "scale", "zero")]
        ]
        assert [a.i for a in dequantize.attribute if a.name == "axis"] == [axis]
        for channel, scale in enumerate(scales.tolist()):
            truth = np.take(weight, channel, axis).ravel().tolist()
            steps = np.take(integers, channel, axis).ravel().tolist()
            largest = max(abs(w) for w in truth)
            coarse = largest / 127.0
            spent = allowed = 0.0
            for w, step in zip(truth, steps, strict=True):
                if abs(w) > 127.5 * scale:
                    assert step == (127 if w > 0 else -127)
                else:
                    assert abs(w - step * scale) <= 0.5001 * scale
                spent += (w - step * scale) ** 2
                allowed += (w - round(w / coarse) * coarse) ** 2
            assert spent <= allowed * 1.001 + 1e-12


def test_what_shall_stay_high_keeps_its_weights(tmp_path: Path) -> None:
    plain = graph_of(tmp_path / "m", deep_blob_network())
    assert ends(plain) == ["/conv0", "/last"]
    made = quantize(plain, observe(plain, tensors_to_quantize(plain), inputs(1)), ASYMMETRIC, in_fp32=ends(plain))
    held = initial(made)
    for name in ("w0", "w", "b0", "b1"):
        assert np.array_equal(held[name], plain.weights[name]) and held[name].dtype == np.float32
    assert "input/scale" not in held and "relu4/scale" not in held  # what only they read
    assert all(f"w{layer}/integers" in held for layer in (1, 2, 3, 4))
    readers = {name_of(node): node.input[0] for node in made.nodes if node.op_type == "Conv"}
    assert readers["/conv0"] == "input" and readers["/conv1"] == "relu0/back" and readers["/last"] == "relu4"


def test_ends_of_a_unet(tmp_path: Path) -> None:
    assert ends(graph_of(tmp_path / "m", network())) == ["conv1", "logits"]


def residual() -> onnx.ModelProto:
    """Conv, Relu, and a sum around a convolution; LeakyRelu, and a convolution of two groups before the last."""
    rng = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0.0, 0.3, shape).astype(np.float32), name)

    three: dict[str, Any] = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}
    weights = [
        *(weight("w1", 4, 1, 3, 3, 3), weight("b1", 4), weight("w2", 4, 4, 3, 3, 3), weight("b2", 4)),
        *(weight("w3", 4, 4, 3, 3, 3), weight("b3", 4), weight("w4", 4, 2, 3, 3, 3), weight("w5", 1, 4, 1, 1, 1)),
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], **three),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], **three),
        helper.make_node("Add", ["r1", "c2"], ["sum"]),
        helper.make_node("LeakyRelu", ["sum"], ["r2"], alpha=0.1),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], **three),
        helper.make_node("LeakyRelu", ["c3"], ["r3"], alpha=0.1),
        helper.make_node("Conv", ["r3", "w4"], ["c4"], group=2, **three),
        helper.make_node("Conv", ["c4", "w5"], ["logits"], kernel_shape=[1, 1, 1]),
    ]
    return graph(nodes, weights, SHAPE_ZYX)


def test_other_operators_between_are_left_as_they_are(tmp_path: Path) -> None:
    plain = graph_of(tmp_path / "m", residual())
    tensors = tensors_to_quantize(plain)
    assert tensors == ["input", "r1", "r2", "r3", "c4"]
    ranges = observe(plain, tensors, inputs())
    even = plain.copy()
    told = equalize(even, ranges)
    # r1 is summed, r2 is a sum, r3 is read and c4 made by groups: none may change.
    assert all(told[tensor] is ranges[tensor] for tensor in tensors)
    assert all(np.array_equal(even.weights[name], plain.weights[name]) for name in plain.weights)
    x = inputs(1, seed=4)[0]
    (wanted,) = run(plain.to_bytes(), x)
    # Without VNNI products of unsigned and signed bytes saturate in pairs, in ONNX Runtime as in OpenVINO.
    most = 0.05 if "vnni" in cpu_kind() else 0.15
    for scheme in (ASYMMETRIC, SYMMETRIC):
        assert off(run(quantize(even, told, scheme).to_bytes(), x)[0], wanted) < most


def test_a_leaky_relu_is_equalized_through_and_shared_weights_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    w1 = (rng.normal(0.0, 1.0, (4, 1, 1, 1, 1)) * [[[[[1]]]], [[[[9]]]], [[[[3]]]], [[[[27]]]]]).astype(np.float32)
    w2 = rng.normal(0.0, 1.0, (4, 4, 1, 1, 1)).astype(np.float32)
    w3 = rng.normal(0.0, 1.0, (1, 4, 1, 1, 1)).astype(np.float32)
    weights = [numpy_helper.from_array(w, name) for w, name in ((w1, "w1"), (w2, "w2"), (w3, "w3"))]
    one: dict[str, Any] = {"kernel_shape": [1, 1, 1]}
    for readers, changed in ((["w2"], True), (["w2", "w2"], False)):
        nodes = [
            helper.make_node("Conv", ["input", "w1"], ["c1"], **one),
            helper.make_node("LeakyRelu", ["c1"], ["a0"], alpha=0.2),
        ]
        for i, name in enumerate(readers):
            nodes += [
                helper.make_node("Conv", [f"a{i}", name], [f"d{i}"], **one),
                helper.make_node("Relu", [f"d{i}"], [f"a{i + 1}"]),
            ]
        nodes.append(helper.make_node("Conv", [f"a{len(readers)}", "w3"], ["logits"], **one))
        plain = graph_of(tmp_path / f"m{len(readers)}", graph(nodes, weights, SHAPE_ZYX))
        ranges = observe(plain, tensors_to_quantize(plain), inputs(1))
        even = plain.copy()
        told = equalize(even, ranges)
        assert (told["a0"] is not ranges["a0"]) == changed
        x = inputs(1, seed=2)[0]
        (wanted,), (found,) = run(plain.to_bytes(), x), run(even.to_bytes(), x)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_weights_that_two_convolutions_share_are_quantized_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shapes = {"w1": (4, 1, 1, 1, 1), "w2": (4, 4, 1, 1, 1), "w3": (1, 4, 1, 1, 1)}
    weights = [numpy_helper.from_array(rng.normal(0.0, 1.0, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c1"]),
        helper.make_node("Conv", ["c1", "w2"], ["c2"]),
        helper.make_node("Conv", ["c2", "w2"], ["c3"]),
        helper.make_node("Conv", ["c3", "w3"], ["logits"]),
    ]
    plain = graph_of(tmp_path / "m", graph(nodes, weights, SHAPE_ZYX))
    ranges, x = observe(plain, tensors_to_quantize(plain), inputs(1)), inputs(1)[0]
    assert off(run(quantize(plain, ranges, ASYMMETRIC).to_bytes(), x)[0], run(plain.to_bytes(), x)[0]) < 0.05


@pytest.mark.parametrize("opset", [17, 20])
def test_ranges_are_those_of_the_activations(tmp_path: Path, opset: int) -> None:
    content = network()
    content.opset_import[0].version = opset
    plain = graph_of(tmp_path / "m", content)
    tensors = tensors_to_quantize(plain)
    seen = observe(plain, tensors, iter(inputs(3)))
    values = [values_of(plain, tensors, x) for x in inputs(3)]
    for tensor in tensors:
        every = np.concatenate([one[tensor] for one in values])
        np.testing.assert_allclose(seen[tensor].low, every.min(axis=(0, 2, 3, 4)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(seen[tensor].high, every.max(axis=(0, 2, 3, 4)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="no studies"):
        observe(plain, tensors, [])


def test_an_old_operator_set_is_refused(tmp_path: Path) -> None:
    content = blob_network()
    content.opset_import[0].version = 11
    told = refusal(ModelError, lambda: graph_of(tmp_path / "m", content), "bad-onnx")
    assert "operator set 11" in told


# --- 16 bits ----------------------------------------------------------------------------------------------------------


def test_fp16_goes_from_end_to_end(tmp_path: Path) -> None:
    plain = graph_of(tmp_path / "m", network())
    content = to_half(plain, "fp16").to_bytes()
    proto = onnx.load_from_string(content)
    half = TensorProto.FLOAT16
    assert {port.type.tensor_type.elem_type for port in (*proto.graph.input, *proto.graph.output)} == {half}
    assert {tensor.data_type for tensor in proto.graph.initializer} == {half}
    assert all(tensor.data_type == TensorProto.FLOAT for tensor in plain.proto.graph.initializer)
    x = inputs(1)[0]
    (wanted,), (found,) = run(plain.to_bytes(), x), run(content, x.astype(np.float16))
    assert found.dtype == np.float16 and off(found, wanted) < 0.005


def test_bf16_has_ends_that_numpy_knows(tmp_path: Path) -> None:
    plain = network()
    plain.opset_import[0].version = 22  # the first whose convolutions have bf16
    content = to_half(graph_of(tmp_path / "m", plain), "bf16").to_bytes()
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    ports = {port.name: port.type.tensor_type.elem_type for port in (*proto.graph.input, *proto.graph.output)}
    assert ports == {"input": TensorProto.FLOAT, "logits": TensorProto.FLOAT}
    assert {tensor.data_type for tensor in proto.graph.initializer} == {TensorProto.BFLOAT16}
    assert [proto.graph.node[i].op_type for i in (0, -1)] == ["Cast", "Cast"]


def test_the_shipped_network_has_a_bf16_form() -> None:
    to_half(Graph(load_model("pelvic-ln-edge")), "bf16").to_bytes()


def test_a_weight_beyond_fp16_is_refused(tmp_path: Path) -> None:
    big = blob_network()
    big.opset_import[0].version = 22
    big.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((1, 1, 1, 1, 1), 1e6, np.float32), "w"))
    plain = graph_of(tmp_path / "m", big)
    assert "weight w" in refusal(EngineError, lambda: to_half(plain, "fp16"), "fp16-overflow")
    to_half(plain, "bf16").to_bytes()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_constant_beyond_fp16_is_refused(tmp_path: Path) -> None:
    big = numpy_helper.from_array(np.asarray(1e6, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["k"], value=big),
        helper.make_node("Mul", ["input", "k"], ["logits"]),
    ]
    plain = graph_of(tmp_path / "m", graph(nodes, [], SHAPE_ZYX))
    refusal(EngineError, lambda: to_half(plain, "fp16"), "fp16-overflow")


def resized() -> onnx.ModelProto:
    scales = numpy_helper.from_array(np.ones(5, np.float32), "scales")
    return graph([helper.make_node("Resize", ["input", "", "scales"], ["logits"], name="/up")], [scales], SHAPE_ZYX)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_has_no_half_form_is_named(tmp_path: Path, precision: str) -> None:
    plain = graph_of(tmp_path / "m", resized())
    told = refusal(ModelError, lambda: to_half(plain, precision), "unsupported-op")
    assert "operator Resize (node /up)" in told and precision in told


# --- every kind of operator, on every runtime -------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_operator_of_the_shipped_network_runs_alike_on_each_runtime(tmp_path: Path, precision: str) -> None:
    shipped = {node.op_type for node in onnx.load_from_string(load_model("pelvic-ln-edge").onnx_bytes).graph.node}
    model = model_of(tmp_path / "m", folded_network())
    plain = Graph(model)
    assert shipped <= {node.op_type for node in plain.nodes}
    variant = GraphVariant({}, None)
    if precision == "int8":
        ranges = observe(plain, tensors_to_quantize(plain), inputs())
        variant = GraphVariant({}, quantize(plain, ranges, ASYMMETRIC).to_bytes())
    x = inputs(1)[0]
    (wanted,) = run(model.onnx_bytes, x)
    answers = []
    for target in ("openvino", "onnxruntime"):
        request = Request(target, precision, device="cpu", threads=1)
        installed = open_target(request)
        candidate = installed.candidate(precision)
        assert candidate is not None
        builder = DraftBuilder(model, installed, request)
        engine = builder.build(tmp_path / target, precision, variant, (), lambda *step: None)
        with closing(Network(model, candidate, engine=engine, threads=1)) as loaded:
            backend = loaded.at(SHAPE_ZYX)
            assert backend.info.precision == precision
            np.copyto(backend.input, x)
            backend.infer()
            answers.append(np.array(backend.output))
    assert max(off(answer, wanted) for answer in answers) < (1e-5 if precision == "fp32" else 0.03)
    assert off(answers[0], answers[1]) < (1e-5 if precision == "fp32" else 0.02)


def unknown(kind: str, domain: str = "") -> onnx.ModelProto:
    made = graph([helper.make_node(kind, ["input"], ["logits"], name="/odd", domain=domain)], [], SHAPE_ZYX)
    if domain:
        made.opset_import.append(helper.make_opsetid(domain, 1))
    return made


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_an_operator_that_a_runtime_lacks_is_named(tmp_path: Path, studies: Path, target: str) -> None:
    """OpenVINO has nothing of ai.onnx.ml, ONNX Runtime has."""
    content = unknown("Binarizer", "ai.onnx.ml") if target == "openvino" else unknown("Foo")
    model = model_of(tmp_path / "m", content)
    request = Request(target, "fp32", calibration=studies)
    told = refusal(ModelError, lambda: export(model, tmp_path / "out", request), "unsupported-op")
    assert ("Binarizer" if target == "openvino" else "Foo") in told
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not RTX, reason="needs tensorrt-rtx-cu13")
def test_an_operator_that_tensorrt_lacks_is_named(tmp_path: Path, studies: Path) -> None:
    model = model_of(tmp_path / "m", unknown("Binarizer", "ai.onnx.ml"))
    request = Request("tensorrt-rtx", "fp32", calibration=studies, capabilities=("8.6",))
    told = refusal(ModelError, lambda: export(model, tmp_path / "out", request), "unsupported-op")
    assert "Binarizer" in told and "/odd" in told
    assert not (tmp_path / "out").exists()


# --- export, whole ----------------------------------------------------------------------------------------------------


def nodes_of(model: Path, study: Path) -> list[tuple[bool, float, float]]:
    with lnfast.Engine(model) as engine:
        result = engine.run(study)
    return [(node.suspicious, round(node.short_axis_mm, 3), round(node.volume_mm3, 1)) for node in result.nodes]


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_exported_engines_serve_what_the_model_does(tmp_path: Path, deep: Model, studies: Path, target: str) -> None:
    wanted = nodes_of(deep.folder, studies / "study1.nii.gz")
    assert [(large, mm) for large, mm, _ in wanted if large] == [(True, 10.0)] and len(wanted) == 2
    installed = open_target(Request(target, device="cpu"))
    for precision in (*(p for p in TARGET_PRECISIONS[target] if installed.candidate(p)), "auto"):
        out = tmp_path / precision
        said: list[str] = []
        request = Request(target, precision, device="cpu", calibration=studies, windows=False)
        made = export(deep, out, request, lambda what, done, of: said.append(what))  # noqa: B023
        told = read_engine_folder(out).manifest
        assert made.engine.folder == out and told.target == target and told.made_for == (cpu_kind(),)
        assert told.files == {k: {"sha256": v["sha256"]} for k, v in made.engine.manifest.files.items()}
        kept = told.precision
        blobs = {blob_name(SHAPE_ZYX)} if target == "openvino" else set()
        graphs = {GRAPH} if kept == "int8" else set()
        assert set(told.files) == blobs | graphs
        assert {path.name for path in out.iterdir()} == {MANIFEST, *MODEL_FILES, *told.files}
        assert made.certificate is not None and made.certificate.passed
        assert told.certificate == json.loads(json.dumps(made.certificate.to_dict()))
        assert made.certificate.studies == 2 and made.certificate.device == cpu_kind()
        assert made.certificate.suspicious == {"reference": 2, "lost": 0, "added": 0}
        assert made.certificate.windows == {"8x16x16": 2}
        assert "timing" in said
        tried = [one.precision for one in made.attempts]
        if precision == "auto":
            assert tried == [one for one in TARGET_PRECISIONS[target] if installed.candidate(one)]
            timed = {one.precision: one.infer_ms for one in made.attempts if one.infer_ms is not None}
            assert timed[kept] == min(timed.values())
        else:
            assert tried == [kept] == [precision]
        found = nodes_of(out, studies / "study1.nii.gz")
        assert [large for large, _, _ in found] == [large for large, _, _ in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one[1:] == pytest.approx(other[1:], abs=0.5)
        with lnfast.Engine(out) as engine:
            assert engine.info.precision == kept and engine.info.name == target


def test_nothing_of_the_users_is_told(tmp_path: Path, blob: Model, studies: Path) -> None:
    """Names of files may be those of patients."""
    made = export(blob, tmp_path / "out", Request("onnxruntime", "fp32", calibration=studies))
    text = (tmp_path / "out" / MANIFEST).read_text()
    assert "study1" not in text and str(studies) not in text
    assert made.certificate is not None and made.certificate.source.startswith("2 of 3 studies of the user's own")


def test_windows_are_made_where_they_are_worth_it(tmp_path: Path) -> None:
    grid = (8, 128, 16)
    model = model_of(tmp_path / "m", blob_network(grid), shape_zyx=grid)
    folder = tmp_path / "studies"
    folder.mkdir()
    node = (slice(2, 6), slice(50, 56), slice(5, 10))
    for i in range(3):
        array = np.full(grid, 100, np.int16)
        array[:, 40:88] = 250
        write_study(folder / f"{i}.nii.gz", (node, BRIGHT), array=array)
    made = export(model, tmp_path / "out", Request("openvino", "fp32", calibration=folder))
    shapes = made.engine.manifest.shapes
    assert shapes == window_shapes(grid) == ((8, 96, 16), (8, 112, 16))
    assert set(made.engine.manifest.files) == {blob_name(shape) for shape in (grid, *shapes)}
    assert made.certificate is not None and made.certificate.windows == {"8x96x16": 2}
    assert nodes_of(tmp_path / "out", folder / "1.nii.gz") == nodes_of(model.folder, folder / "1.nii.gz")
    without = export(model, tmp_path / "out", Request("openvino", "fp32", calibration=folder, windows=False))
    assert without.engine.manifest.shapes == () and not (tmp_path / "out" / blob_name(shapes[0])).exists()
    other = export(model, tmp_path / "ort", Request("onnxruntime", "fp32", calibration=folder))
    assert other.engine.manifest.shapes == ()


def test_window_shapes() -> None:
    assert window_shapes((64, 256, 256)) == ((64, 192, 256), (64, 224, 256))
    for none in ((8, 8, 8), (12, 24, 24), (64, 250, 256), (4, 64, 64), (8, 200, 8)):
        assert window_shapes(none) == ()
    assert window_shapes((32, 256, 256)) == ((32, 192, 256), (32, 224, 256))
    for grid in ((32, 128, 128), (9, 208, 9)):
        assert window_shapes(grid)
        for shape in window_shapes(grid):
            assert shape != grid and all(a == b or (a < b and a % 16 == 0) for a, b in zip(shape, grid, strict=True))


def test_a_small_grid_needs_no_other_switch(tmp_path: Path, blob: Model, studies: Path) -> None:
    export(blob, tmp_path / "out", Request("openvino", "fp32", calibration=studies))


# --- what is refused --------------------------------------------------------------------------------------------------


def instead(monkeypatch: pytest.MonkeyPatch, content: onnx.ModelProto) -> None:
    """Whatever is asked for, this graph is what is made."""
    variant = GraphVariant({}, content.SerializeToString())
    monkeypatch.setattr(GraphVariants, "of", lambda self, target, precision: iter([variant]))


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("case", ["flip", "lost", "added"])
def test_an_engine_that_differs_where_it_matters_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, case: str
) -> None:
    """Another threshold, which the probe does not show: a dim node comes or goes."""
    blocks = {
        "flip": ((SMALL, BRIGHT), (LARGE, DIM)),
        "lost": (((slice(1, 6), slice(10, 15), slice(0, 4)), BRIGHT), (LARGE, DIM)),
        "added": (((slice(1, 6), slice(10, 15), slice(0, 4)), BRIGHT), (LARGE, DIM)),
    }[case]
    folder = write_studies(tmp_path / "studies", *blocks)
    low, high = blob_network(at=0.3), blob_network(at=4.0 if case == "flip" else 2.2)
    model = model_of(tmp_path / "m", high if case == "added" else low)
    instead(monkeypatch, low if case == "added" else high)
    out, request = tmp_path / "out", Request(target, "fp32", calibration=folder, windows=False)
    told = refusal(EngineError, lambda: export(model, out, request), "not-certified")
    wanted = {
        "flip": "the stage flips by box and axial, 1 suspicious nodes are lost and 0 added",
        "lost": "in study 1 1 suspicious nodes are lost and 0 added",
        "added": "0 suspicious nodes are lost and 1 added",
    }[case]
    assert wanted in told and not out.exists()


def test_a_blank_engine_is_not_written_and_an_older_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: Model, studies: Path
) -> None:
    out = tmp_path / "out"
    export(deep, out, Request("onnxruntime", "fp32", calibration=studies))
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def blank(*given: Any, **named: Any) -> Graph:
        made = quantize(*given, **named)
        for name, array in made.weights.items():
            if name == "w":
                made.set_weight(name, np.zeros_like(array))
        return made

    monkeypatch.setattr(variants, "quantize", blank)
    told = refusal(
        EngineError,
        lambda: export(deep, out, Request("onnxruntime", "int8", calibration=studies)),
        "not-certified",
    )
    assert "finds nothing on the probe" in told
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # With auto the other precisions remain.
    made = export(deep, out, Request("onnxruntime", "auto", device="cpu", calibration=studies))
    why = {one.precision: one.why for one in made.attempts}
    assert why["fp32"] is None and "finds nothing" in str(why["int8"])
    assert made.engine.manifest.precision == "fp32"


def test_int8_keeps_more_high_until_it_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, studies: Path) -> None:
    """Whoever needs /conv2 high gets it after the first rung has failed."""

    def fragile(*given: Any, **named: Any) -> Graph:
        made = quantize(*given, **named)
        if "/conv2" not in named["in_fp32"]:
            made.set_weight("w", -made.weights["w"])
        return made

    monkeypatch.setattr(variants, "quantize", fragile)
    model = model_of(tmp_path / "m", deep_blob_network(at=0.5))
    made = export(model, tmp_path / "out", Request("onnxruntime", "int8", calibration=studies))
    assert set(made.engine.manifest.build["high"]) == {"/conv0", "/last", "/conv2"}


def test_studies_without_a_large_node_prove_nothing(tmp_path: Path, blob: Model) -> None:
    folder = write_studies(tmp_path / "studies", (SMALL, BRIGHT))
    for precision in ("fp32", "auto"):
        request = Request("onnxruntime", precision, device="cpu", calibration=folder)
        told = refusal(UsageError, lambda: export(blob, tmp_path / "out", request), "proves-nothing")  # noqa: B023
        assert "no suspicious node in 2 studies" in told and not (tmp_path / "out").exists()


def test_too_few_studies_are_refused(tmp_path: Path, blob: Model) -> None:
    folder = write_studies(tmp_path / "one", (LARGE, BRIGHT), count=1)
    for place in (folder, tmp_path / "nowhere"):
        request = Request("onnxruntime", "fp32", calibration=place)
        refusal(UsageError, lambda: export(blob, tmp_path / "out", request), "bad-calibration")  # noqa: B023
    refusal(
        UsageError, lambda: export(blob, tmp_path / "out", Request("onnxruntime", "fp32", studies=0)), "bad-studies"
    )


def test_unknown_wishes_are_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    def wish(target: str, precision: str = "auto", **more: Any) -> Callable[[], object]:
        return lambda: export(blob, tmp_path / "out", Request(target, precision, calibration=studies, **more))

    refusal(UsageError, wish("coreml"), "unknown-target")
    refusal(UsageError, wish("openvino", "fp16"), "unknown-precision")
    refusal(UsageError, wish("openvino", capabilities=("8.6",)), "bad-capability")
    refusal(BackendError, wish("openvino", device="cuda:0"), "device-missing")
    assert not (tmp_path / "out").exists()


def test_a_precision_that_no_cpu_here_runs_is_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    request = Request("onnxruntime", "fp16", device="cpu", calibration=studies)
    with pytest.raises(LnfastError):
        export(blob, tmp_path / "out", request)
    assert not (tmp_path / "out").exists()


def test_a_network_with_nothing_for_8_bits_is_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    for target in ("openvino", "onnxruntime"):
        request = Request(target, "int8", device="cpu", calibration=studies, windows=False)
        with pytest.raises(LnfastError):
            export(blob, tmp_path / target, request)


def test_bf16_on_a_cpu_without_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blob: Model, studies: Path
) -> None:
    offered = tuple(offer for offer in openvino.offers() if offer.precision != "bf16")
    monkeypatch.setattr(openvino, "offers", lambda: offered)
    request = Request("openvino", "bf16", calibration=studies, windows=False)
    with pytest.raises(LnfastError):
        export(blob, tmp_path / "out", request)


@pytest.mark.skipif(not RTX, reason="needs tensorrt-rtx-cu13")
def test_a_device_of_no_known_name_is_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    request = Request("tensorrt-rtx", "fp16", device="banana", calibration=studies, capabilities=("8.6",))
    with pytest.raises(LnfastError):
        export(blob, tmp_path / "out", request)


def test_a_strangers_folder_is_left_alone(tmp_path: Path, blob: Model, studies: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("years of work")
    own = tmp_path / "own"
    shutil.copytree(blob.folder, own)  # a model folder is no engine folder
    mixed = tmp_path / "mixed"
    request = Request("onnxruntime", "fp32", calibration=studies)
    export(blob, mixed, request)
    (mixed / "notes.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(stranger)
    for place in (stranger, own, mixed, file, link):
        before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
        refusal(UsageError, lambda: export(blob, place, request), "output-exists")  # noqa: B023
        assert before == sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())


def test_an_engine_is_made_again_in_its_place(tmp_path: Path, deep: Model, studies: Path) -> None:
    out = tmp_path / "out"
    export(deep, out, Request("onnxruntime", "int8", calibration=studies))
    assert (out / GRAPH).exists()
    # From the folder itself, which the new one replaces.
    export(load_model(out), out, Request("openvino", "fp32", calibration=studies, windows=False))
    assert {path.name for path in out.iterdir()} == {MANIFEST, *MODEL_FILES, blob_name(SHAPE_ZYX)}
    assert read_engine_folder(out).manifest.target == "openvino"
    assert len(nodes_of(out, studies / "study1.nii.gz")) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_cache_keeps_what_was_made(deep: Model, studies: Path) -> None:
    request = Request("onnxruntime", "int8", calibration=studies)
    made = export_to_cache(deep, request)
    assert made.attempts and made.engine.folder.is_relative_to(engine_cache.root())
    assert {path.name for path in made.engine.folder.iterdir()} == {MANIFEST, GRAPH}
    again = export_to_cache(deep, request)
    assert not again.attempts and again.engine.folder == made.engine.folder
    with lnfast.Engine(deep.folder, "onnxruntime", "cpu", "int8") as engine:
        assert engine.info.precision == "int8"


@pytest.mark.skipif(not RTX, reason="needs tensorrt-rtx-cu13")
@pytest.mark.skipif(nvidia_gpus() > 0, reason="with a GPU it is certified")
def test_what_cannot_run_here_is_made_and_not_served(tmp_path: Path, blob: Model, studies: Path) -> None:
    out = tmp_path / "out"
    made = export(blob, out, Request("tensorrt-rtx", "fp16", calibration=studies, capabilities=("8.6",)))
    assert made.certificate is None and made.engine.manifest.certificate is None
    assert [one.infer_ms for one in made.attempts] == [None]
    told = read_engine_folder(out).manifest
    assert (told.dtype, told.made_for, told.device) == ("float16", ("8.6",), "cuda")
    assert {GRAPH, SERIALIZED} >= set(told.files) >= {SERIALIZED}
    with pytest.raises((BackendError, EngineError)):
        lnfast.Engine(out)
    refusal(
        UsageError,
        lambda: export_to_cache(blob, Request("tensorrt-rtx", "fp16", calibration=studies)),
        "bad-device",
    )


# --- the certificate --------------------------------------------------------------------------------------------------


def difference(study: str, **changed: Any) -> Difference:
    same: dict[str, Any] = {"window": (8, 16, 16), "flips": (), "lost": 0, "added": 0, "nodes_lost": 0}
    same |= {"nodes_added": 0, "suspicious": 1, "nodes": 2, "short_axis_mm": (), "volume_mm3": (), "dice": 1.0}
    return Difference(study=study, **(same | changed))


def test_a_certificate_sums_up() -> None:
    found = [
        difference("a", short_axis_mm=(0.2, -0.4), volume_mm3=(3.0, -6.0), dice=0.9),
        difference("b", window=(8, 8, 16), suspicious=3, nodes=5, nodes_lost=1, nodes_added=2, short_axis_mm=(0.0,)),
        difference("c", flips=("box",), lost=1, suspicious=1, dice=0.5),
        difference("d", flips=("box", "axial"), added=2, suspicious=0, nodes=0),
    ]
    certificate = certify(found, "a CPU", "onnxruntime", "phantoms")
    assert certificate == Certificate(
        passed=False,
        device="a CPU",
        reference="onnxruntime",
        studies=4,
        source="phantoms",
        stage_flips={"box": 2, "axial": 1},
        suspicious={"reference": 5, "lost": 1, "added": 2},
        nodes={"reference": 9, "lost": 1, "added": 2},
        short_axis_mm={"max_difference": pytest.approx(0.4), "mean_difference": pytest.approx(0.2)},  # type: ignore[dict-item]
        volume_mm3={"max_difference": pytest.approx(6.0), "mean_difference": pytest.approx(4.5)},  # type: ignore[dict-item]
        dice={"worst": 0.5, "mean": pytest.approx(0.85)},  # type: ignore[dict-item]
        windows={"8x16x16": 3, "8x8x16": 1},
        differing=("c", "d"),
    )
    assert "4 studies (phantoms): 3 stage flips, 1 of 5 suspicious nodes lost, 2 added" in certificate.text()
    passed = certify(found[:2], "a CPU", "onnxruntime", "phantoms")
    assert passed.passed and passed.differing == () and passed.dice == {"worst": 0.9, "mean": pytest.approx(0.95)}
    json.dumps(passed.to_dict(), allow_nan=False)
    refusal(UsageError, lambda: certify(found[3:], "a CPU", "onnxruntime", "phantoms"), "proves-nothing")
    refusal(UsageError, lambda: certify([], "a CPU", "onnxruntime", "phantoms"), "proves-nothing")


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("export", *arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_makes_an_engine(
    tmp_path: Path, blob: Model, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("--target", "openvino", "--precision", "fp32", "--calibration", studies, "--no-windows")
    assert command(blob.folder, "-o", tmp_path / "out", *wanted) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"openvino fp32 in {tmp_path / 'out'}: certified on 2 studies (2 of 3 studies")
    assert "0 stage flips" in said.out
    assert all(line.startswith("lnfast: ") for line in said.err.splitlines())
    assert command(blob.folder, "-o", tmp_path / "out", *wanted, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path / "out")
    assert told["manifest"] == json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert told["manifest"]["certificate"]["passed"] is True


def test_the_command_takes_a_bare_graph(tmp_path: Path, studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    make_model_folder(bare)
    (bare / "probe.npz").unlink()
    (bare / "model.onnx").rename(bare / "mine.onnx")
    wanted = ("--target", "onnxruntime", "--precision", "fp32", "--calibration", studies)
    assert command(bare / "mine.onnx", "-o", tmp_path / "out", *wanted) == 0
    assert "making a probe for mine.onnx" in capsys.readouterr().err
    probe = load_model(tmp_path / "out").probe
    assert probe.mask.any() and probe.ellipsoid_short_mm is not None
    assert nodes_of(tmp_path / "out", studies / "study1.nii.gz")

    (bare / "card.json").rename(tmp_path / "elsewhere.json")
    assert command(bare / "mine.onnx", "-o", tmp_path / "out2", *wanted) == ModelError.exit_code
    assert "lnfast: model-incomplete: " in capsys.readouterr().err
    assert command(bare / "mine.onnx", "-o", tmp_path / "out2", *wanted, "--card", tmp_path / "elsewhere.json") == 0
    blind = make_model_folder(tmp_path / "blind", blob_network(at=1e4))
    assert command(blind / "model.onnx", "-o", tmp_path / "out3", *wanted) == ModelError.exit_code
    assert "lnfast: blank: " in capsys.readouterr().err


def test_the_command_says_what_is_wrong(
    tmp_path: Path, blob: Model, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: object) -> tuple[int, str]:
        code = command(*arguments)
        return code, capsys.readouterr().err.strip().splitlines()[-1]

    code, line = said(tmp_path / "last.ckpt", "-o", tmp_path / "out")
    assert code == UsageError.exit_code == 2 and line.startswith("lnfast: checkpoint: ")
    assert "python -m training export" in line
    code, line = said(blob.folder, "-o", tmp_path / "out", "--target", "coreml")
    assert code == 2 and "coreml" in line
    code, line = said(blob.folder, "-o", tmp_path / "out", "--target", "openvino", "--precision", "fp16")
    assert code == 2 and line.startswith("lnfast: unknown-precision: ")
    code, line = said(blob.folder, "--card", tmp_path / "card.json", "-o", tmp_path / "out")
    assert code == 2 and line.startswith("lnfast: bad-card: ")
    code, line = said(tmp_path / "bare.onnx", "--card", tmp_path / "card.json")
    assert code == 2 and line.startswith("lnfast: no-output: ")
    code, line = said(blob.folder, "-o", studies, "--target", "onnxruntime", "--calibration", studies)
    assert code == 2 and line.startswith("lnfast: output-exists: ")
    assert not (tmp_path / "out").exists()
