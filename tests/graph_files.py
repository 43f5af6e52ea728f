"""Load ONNX graphs in tests, compute them with ONNX Runtime, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from engine_files import model_of
from model_files import SHAPE_ZYX
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnfast.export.graph import Graph


def graph_of(folder: Path, content: onnx.ModelProto) -> Graph:
    return Graph(model_of(folder, content))


def inputs(count: int = 2, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0.0, 1.0, (1, 1, *SHAPE_ZYX)).astype(np.float32) for _ in range(count)]


def run(content: bytes, x: NDArray[Any], *outputs: str) -> list[NDArray[Any]]:
    """Return the truth: the outputs that ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    values: list[NDArray[Any]] = session.run(list(outputs) or None, {session.get_inputs()[0].name: x})
    return values


def values_of(graph: Graph, tensors: list[str], x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the activations of some tensors."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name != "input"
    )
    names = [name for name in tensors if name != "input"]
    values = dict(zip(names, run(proto.SerializeToString(), x, *names), strict=True))
    return values | ({"input": x} if "input" in tensors else {})


def off(values: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the root mean square difference, as a part of the truth's root mean square."""
    difference = values.astype(np.float64) - wanted
    return float(np.sqrt(np.mean(np.square(difference)) / np.mean(np.square(wanted.astype(np.float64)))))


def initial(graph: Graph | onnx.ModelProto) -> dict[str, NDArray[Any]]:
    proto = graph.proto if isinstance(graph, Graph) else graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
