"""A network in 8 bits: equalized, quantized, and the ranges that it rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_files import (
    deep_blob_network,
    refusal,
)
from graph_files import graph_of, initial, inputs, off, run, values_of
from model_files import SHAPE_ZYX, blob_network, graph, network
from onnx import helper, numpy_helper

from lnfast.backends.machine import cpu_kind
from lnfast.errors import ModelError
from lnfast.export.graph import name_of
from lnfast.export.quantize import ASYMMETRIC, SYMMETRIC, ends, equalize, quantize, tensors_to_quantize
from lnfast.export.ranges import Range, observe, union


def uneven() -> onnx.ModelProto:
    """A channel of the first convolution is thirty times as large as it was."""
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "b1"):
            array = numpy_helper.to_array(tensor).copy()
            array[0] *= 30.0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def test_equalizing_leaves_the_answers_and_evens_the_channels(tmp_path: Path) -> None:
    before = graph_of(tmp_path / "m", uneven())
    tensors = tensors_to_quantize(before)
    assert set(tensors) == {"input", "skip", "deep", "lifted"}
    ranges = observe(before, tensors, inputs())
    after = before.copy()
    predicted = equalize(after, ranges)

    for x in inputs(1, seed=9):
        (wanted,), (logits,) = run(before.to_bytes(), x), run(after.to_bytes(), x)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    observed = observe(after, tensors, inputs())
    for tensor in tensors:  # what it says of the changed graph is what the changed graph does
        np.testing.assert_allclose(predicted[tensor].low, observed[tensor].low, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(predicted[tensor].high, observed[tensor].high, rtol=1e-4, atol=1e-5)

    def unevenness(values: Range) -> float:
        reach = np.maximum(np.abs(values.low), np.abs(values.high))
        return float(reach.max() / reach.min())

    assert unevenness(ranges["skip"]) > 20.0
    for tensor in ("skip", "deep", "lifted"):
        assert unevenness(predicted[tensor]) == pytest.approx(unevenness(ranges[tensor]) ** 0.5, rel=1e-3)
    assert predicted["input"] is ranges["input"]  # no node produces it


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
    quantized = quantize(plain, ranges, scheme)
    onnx.checker.check_model(quantized.proto, full_check=True)
    for x in inputs():
        assert off(run(quantized.to_bytes(), x)[0], run(plain.to_bytes(), x)[0]) < 0.03
    held = initial(quantized)
    assert held["lifted/scale"] == held["skip/scale"] and held["lifted/zero"] == held["skip/zero"]
    for tensor, values in ranges.items():
        low, high = union([ranges["skip"], ranges["lifted"]] if tensor in ("skip", "lifted") else [values])
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
    quantized = quantize(plain, observe(plain, tensors_to_quantize(plain), inputs(1)), ASYMMETRIC)
    held = initial(quantized)
    for name, axis in (("w1", 0), ("w2", 0), ("w3", 1), ("w4", 0)):
        weight = plain.weights[name]
        integers, scales, zeros = (held[f"{name}/{part}"] for part in ("integers", "scale", "zero"))
        assert integers.dtype == zeros.dtype == np.int8 and not zeros.any()
        assert scales.shape == (weight.shape[axis],) and integers.shape == weight.shape
        (dequantize,) = [
            node
            for node in quantized.nodes
            if list(node.input) == [f"{name}/{p}" for p in ("integers", "scale", "zero")]
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
    quantized = quantize(plain, observe(plain, tensors_to_quantize(plain), inputs(1)), ASYMMETRIC, in_fp32=ends(plain))
    held = initial(quantized)
    for name in ("w0", "w", "b0", "b1"):
        assert np.array_equal(held[name], plain.weights[name]) and held[name].dtype == np.float32
    assert "input/scale" not in held and "relu4/scale" not in held  # what only they read
    assert all(f"w{layer}/integers" in held for layer in (1, 2, 3, 4))
    readers = {name_of(node): node.input[0] for node in quantized.nodes if node.op_type == "Conv"}
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
    evened = equalize(even, ranges)
    # r1 is summed, r2 is a sum, r3 is read and c4 made by groups: none may change.
    assert all(evened[tensor] is ranges[tensor] for tensor in tensors)
    assert all(np.array_equal(even.weights[name], plain.weights[name]) for name in plain.weights)
    x = inputs(1, seed=4)[0]
    (wanted,) = run(plain.to_bytes(), x)
    # Without VNNI products of unsigned and signed bytes saturate in pairs, in ONNX Runtime as in OpenVINO.
    most = 0.05 if "vnni" in cpu_kind() else 0.15
    for scheme in (ASYMMETRIC, SYMMETRIC):
        assert off(run(quantize(even, evened, scheme).to_bytes(), x)[0], wanted) < most


def test_a_leaky_relu_is_equalized_through_and_shared_weights_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    w1 = (rng.normal(0.0, 1.0, (4, 1, 1, 1, 1)) * [[[[[1]]]], [[[[9]]]], [[[[3]]]], [[[[27]]]]]).astype(np.float32)
    w2 = rng.normal(0.0, 1.0, (4, 4, 1, 1, 1)).astype(np.float32)
    w3 = rng.normal(0.0, 1.0, (1, 4, 1, 1, 1)).astype(np.float32)
    weights = [numpy_helper.from_array(w, name) for w, name in ((w1, "w1"), (w2, "w2"), (w3, "w3"))]
    pointwise: dict[str, Any] = {"kernel_shape": [1, 1, 1]}
    for readers, changed in ((["w2"], True), (["w2", "w2"], False)):
        nodes = [
            helper.make_node("Conv", ["input", "w1"], ["c1"], **pointwise),
            helper.make_node("LeakyRelu", ["c1"], ["a0"], alpha=0.2),
        ]
        for i, name in enumerate(readers):
            nodes += [
                helper.make_node("Conv", [f"a{i}", name], [f"d{i}"], **pointwise),
                helper.make_node("Relu", [f"d{i}"], [f"a{i + 1}"]),
            ]
        nodes.append(helper.make_node("Conv", [f"a{len(readers)}", "w3"], ["logits"], **pointwise))
        plain = graph_of(tmp_path / f"m{len(readers)}", graph(nodes, weights, SHAPE_ZYX))
        ranges = observe(plain, tensors_to_quantize(plain), inputs(1))
        even = plain.copy()
        evened = equalize(even, ranges)
        assert (evened["a0"] is not ranges["a0"]) == changed
        x = inputs(1, seed=2)[0]
        (wanted,), (logits,) = run(plain.to_bytes(), x), run(even.to_bytes(), x)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


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
    observed = observe(plain, tensors, iter(inputs(3)))
    values = [values_of(plain, tensors, x) for x in inputs(3)]
    for tensor in tensors:
        every = np.concatenate([study[tensor] for study in values])
        np.testing.assert_allclose(observed[tensor].low, every.min(axis=(0, 2, 3, 4)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(observed[tensor].high, every.max(axis=(0, 2, 3, 4)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="no studies"):
        observe(plain, tensors, [])


def test_an_old_operator_set_is_refused(tmp_path: Path) -> None:
    content = blob_network()
    content.opset_import[0].version = 11
    message = refusal(ModelError, lambda: graph_of(tmp_path / "m", content), "bad-onnx")
    assert "operator set 11" in message
