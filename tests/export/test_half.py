"""A network in fp16 and bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_files import (
    refusal,
)
from graph_files import graph_of, inputs, off, run
from model_files import SHAPE_ZYX, blob_network, graph, network
from onnx import TensorProto, helper, numpy_helper

from lnfast.card import load_model
from lnfast.errors import EngineError, ModelError
from lnfast.export.graph import Graph
from lnfast.export.half import to_half


def test_fp16_goes_from_end_to_end(tmp_path: Path) -> None:
    plain = graph_of(tmp_path / "m", network())
    content = to_half(plain, "fp16").to_bytes()
    proto = onnx.load_from_string(content)
    half = TensorProto.FLOAT16
    assert {port.type.tensor_type.elem_type for port in (*proto.graph.input, *proto.graph.output)} == {half}
    assert {tensor.data_type for tensor in proto.graph.initializer} == {half}
    assert all(tensor.data_type == TensorProto.FLOAT for tensor in plain.proto.graph.initializer)
    x = inputs(1)[0]
    (wanted,), (logits,) = run(plain.to_bytes(), x), run(content, x.astype(np.float16))
    assert logits.dtype == np.float16 and off(logits, wanted) < 0.005


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
    message = refusal(ModelError, lambda: to_half(plain, precision), "unsupported-op")
    assert "operator Resize (node /up)" in message and precision in message
