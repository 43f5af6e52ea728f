"""A network in fp16 or bf16, strongly typed: every float in the graph becomes that type.

An fp16 graph has fp16 input and output, which preprocessing writes and postprocessing reads; a bf16 graph has fp32
input and output with a cast at either end, because numpy has no bf16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lnfast.errors import EngineError, ModelError, one_line
from lnfast.export.graph import Graph, make_node, name_of, onnx

# Operators that need float32 by the standard, or are useless without it.
_REFUSED = ("Resize", "Upsample", "QuantizeLinear", "DequantizeLinear", "Loop", "If", "Scan")
_LARGEST_FP16 = 65504.0


def to_half(graph: Graph, precision: str) -> Graph:
    """Return a graph of half precision of an FP32 one.

    Args:
        graph: not changed.
        precision: ``fp16`` or ``bf16``.

    Raises:
        ModelError: ``unsupported-op`` with the node's name.
        EngineError: ``fp16-overflow`` for a weight that fp16 cannot hold.
    """
    result = graph.copy()
    _check(result, precision)
    if precision == "bf16":
        result.raise_opset(22)  # the first whose convolutions and pooling have bf16
    kinds = onnx().TensorProto
    half = kinds.FLOAT16 if precision == "fp16" else kinds.BFLOAT16
    for tensor in (*result.proto.graph.initializer, *_constants(result.nodes)):
        if tensor.data_type == kinds.FLOAT:
            _convert(tensor, half)
    for node in result.nodes:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == kinds.FLOAT:
                attribute.i = half
    result.refresh()
    ports = (*result.proto.graph.input, *result.proto.graph.output)
    if precision == "fp16":
        for port in ports:
            port.type.tensor_type.elem_type = half
    else:
        _cast_ends(result, half, kinds.FLOAT)
    return result


def _check(graph: Graph, precision: str) -> None:
    for node in graph.nodes:
        if node.op_type in _REFUSED:
            raise ModelError(
                "unsupported-op",
                f"operator {node.op_type} (node {name_of(node)}) of {graph.description} has no {precision} form; "
                "export fp32",
            )
    if precision == "fp16":
        constants = {
            tensor.name or "of a Constant": onnx().numpy_helper.to_array(tensor) for tensor in _constants(graph.nodes)
        }
        for name, weight in {**constants, **graph.weights}.items():
            largest = float(np.abs(weight).max()) if weight.dtype == np.float32 and weight.size else 0.0
            if not largest <= _LARGEST_FP16:
                raise EngineError(
                    "fp16-overflow",
                    f"weight {name} of {graph.description} reaches {largest:.3g}, fp16 ends at 65504; export bf16",
                )


def _constants(nodes: list[Any]) -> list[Any]:
    """Return the tensors in attributes."""
    return [attribute.t for node in nodes for attribute in node.attribute if attribute.HasField("t")]


def _convert(tensor: object, half: int) -> None:
    array = onnx().numpy_helper.to_array(tensor)
    name = tensor.name  # type: ignore[attr-defined]
    try:
        converted = onnx().helper.make_tensor(name, half, array.shape, array.ravel().tolist())
    except Exception as error:
        raise ModelError("bad-onnx", f"onnx cannot convert tensor {name}: {one_line(error)}") from error
    tensor.CopyFrom(converted)  # type: ignore[attr-defined]


def _cast_ends(graph: Graph, half: int, full: int) -> None:
    (output,) = graph.proto.graph.output
    source, result = graph.input_name, f"{output.name}/half"
    nodes = graph.nodes
    for node in nodes:
        node.input[:] = [f"{source}/half" if name == source else name for name in node.input]
        node.output[:] = [result if name == output.name else name for name in node.output]
        node.input[:] = [result if name == output.name else name for name in node.input]
    nodes = [part for node in nodes for part in _transposed_in_fp32(node, half, full)]
    ahead = make_node("Cast", [source], [f"{source}/half"], to=half)
    behind = make_node("Cast", [result], [output.name], to=full)
    graph.rebuild([ahead, *nodes, behind], {})


def _transposed_in_fp32(node: Any, half: int, full: int) -> list[Any]:
    """Wrap a transposed convolution in casts to fp32: TensorRT-RTX 1.7.1 builds none in bf16."""
    if node.op_type != "ConvTranspose":
        return [node]
    (output,) = node.output
    ahead = [make_node("Cast", [name], [f"{output}/fp32/{i}"], to=full) for i, name in enumerate(node.input)]
    node.input[:] = [cast.output[0] for cast in ahead]
    node.output[:] = [f"{output}/fp32"]
    return [*ahead, node, make_node("Cast", [f"{output}/fp32"], [output], to=half)]
