"""The range of each tensor's values on real studies, which 8 bits must hold.

The ranges are measured inside the graph, by a minimum and a maximum over all voxels behind each tensor, so that a run
gives back a few numbers and no volume is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.backends import ort
from lnfast.export.graph import Graph, make_node, onnx

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Range:
    """Least and greatest value of each channel.

    Attributes:
        low, high: ``(channels,)``.
    """

    low: Floats
    high: Floats

    def joined(self, other: Range) -> Range:
        """Return the range that holds both."""
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def scaled(self, factors: Floats | float) -> Range:
        """Return the range of the same tensor when its channels are multiplied by positive factors."""
        return Range(self.low * np.float32(factors), self.high * np.float32(factors))


def observe(graph: Graph, tensors: Sequence[str], inputs: Iterable[Floats]) -> dict[str, Range]:
    """Run studies through a graph in FP32 and return the range of each tensor over all of them.

    Args:
        graph: not changed.
        tensors: ``(1, channels, z, y, x)`` each.
        inputs: ``(1, 1, z, y, x)`` float32, as preprocessing writes them; read one by one.

    Raises:
        ValueError: for no inputs at all.
        ModelError, EngineError, BackendError: from ONNX Runtime.
    """
    run = ort.open_reference(_with_ranges(graph, tensors), [name for t in tensors for name in _names(t)])
    ranges: dict[str, Range] = {}
    for x in inputs:
        values = iter(run({graph.input_name: x}))
        for tensor in tensors:
            observed = Range(next(values).ravel(), next(values).ravel())
            ranges[tensor] = observed.joined(ranges.get(tensor, observed))
    if not ranges:
        raise ValueError("got no studies to take ranges of, wanted at least one")
    return ranges


def union(ranges: Iterable[Range]) -> tuple[float, float]:
    """Return the least and the greatest value of some tensors, zero included: padding is zero."""
    ranges = list(ranges)
    low = min(float(values.low.min()) for values in ranges)
    high = max(float(values.high.max()) for values in ranges)
    return min(low, 0.0), max(high, 0.0)


def _with_ranges(graph: Graph, tensors: Sequence[str]) -> bytes:
    twin = graph.copy()
    axes = np.array([0, 2, 3, 4], np.int64)
    opset = max(entry.version for entry in twin.proto.opset_import if entry.domain in ("", "ai.onnx"))
    nodes = twin.nodes
    for tensor in tensors:
        for kind, name in zip(("ReduceMin", "ReduceMax"), _names(tensor), strict=True):
            if opset >= 18:  # since then the axes are an input
                nodes.append(make_node(kind, [tensor, "lnfast.axes"], [name], keepdims=0))
            else:
                nodes.append(make_node(kind, [tensor], [name], keepdims=0, axes=axes.tolist()))
            twin.proto.graph.output.append(onnx().helper.make_tensor_value_info(name, onnx().TensorProto.FLOAT, None))
    twin.rebuild(nodes, {"lnfast.axes": axes} if opset >= 18 else {})
    content: bytes = twin.proto.SerializeToString()
    return content


def _names(tensor: str) -> tuple[str, str]:
    return f"{tensor}/low", f"{tensor}/high"
