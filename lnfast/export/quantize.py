"""A network in 8 bits: static quantize and dequantize nodes at its convolutions, weights by channel.

    equalize     relu(a x) = a relu(x) for a > 0: the channels of a tensor are brought to like ranges by multiplying
                 the weights that produce them and dividing the weights that read them. FP32 answers do not change,
                 and one scale for the whole tensor then wastes fewer bits on its faint channels
    quantize     tensor -> QuantizeLinear -> DequantizeLinear -> Conv, weights as int8 behind a DequantizeLinear

Runtimes recognize the pattern and compute in integers. Tensors are quantized where they are produced, before they are
pooled or concatenated, and concatenated tensors share a scale: so pooling and concatenation move bytes. Biases stay
FP32: TensorRT refuses others.

Equalizing is Nagel et al., ICCV 2019 (arXiv:1906.04721), with the exponent of SmoothQuant, arXiv:2211.10438.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.export.graph import Graph, make_node, name_of
from lnfast.export.ranges import Range, union

Floats = NDArray[np.float32]

# A channel's range to this power is divided out of it: 0 changes nothing, 1 makes all channels alike and moves the
# unevenness into the weights. On the network that ships logits near the threshold are off by 0.093, 0.069, 0.100 and
# 0.099 (root mean square) with 0, 0.5, 0.75 and 1.
STRENGTH = 0.5
FAINTEST = 1e-3  # of the largest channel's range: a channel that is never active is not blown up
# The scale of least mean square error is searched among these parts of the largest weight of a channel.
WEIGHT_CLIPS = np.linspace(0.6, 1.0, 21)
_POSITIVE = ("Relu", "LeakyRelu")  # operators that commute with a positive factor


@dataclass(frozen=True)
class Scheme:
    """The way in which activations become integers.

    Attributes:
        symmetric: int8 around zero; else uint8 with a zero point, which has twice the steps for what is never negative.
    """

    symmetric: bool


ASYMMETRIC, SYMMETRIC = Scheme(False), Scheme(True)


def tensors_to_quantize(graph: Graph) -> list[str]:
    """Return the tensors that convolutions read, as they are before pooling and concatenation."""
    return list(dict.fromkeys(root for node in graph.weighted for root in _roots(graph, node.input[0])))


def ends(graph: Graph) -> list[str]:
    """Return the convolutions that read the graph's input or produce its output: cheap, and all errors pass them."""
    names = []
    for node in graph.weighted:
        first = graph.input_name in _roots(graph, node.input[0])
        if first or not any(True for _ in _weighted_after(graph, node.output[0])):
            names.append(name_of(node))
    return names


def equalize(graph: Graph, ranges: Mapping[str, Range], strength: float = STRENGTH) -> dict[str, Range]:
    """Bring the channels of each tensor to like ranges, in place; the graph's answers do not change.

    Args:
        graph: its weights change.
        ranges: of `tensors_to_quantize`.
        strength: see `STRENGTH`.

    Returns:
        The ranges of the changed graph. A tensor that other nodes than convolutions produce or read is left alone.
    """
    weights = {name: array.copy() for name, array in graph.weights.items()}
    equalized = {}
    for tensor, observed in ranges.items():
        equalized[tensor] = observed
        producer, readers = _plain_producer(graph, tensor), _channel_readers(graph, tensor, 0)
        if producer is None or readers is None or observed.low.size < 2:
            continue
        reach = np.maximum(np.abs(observed.low), np.abs(observed.high))
        largest = float(reach.max())
        if largest <= 0.0:
            continue
        factors = ((np.maximum(reach, FAINTEST * largest) / largest) ** strength).astype(np.float32)
        _scale(weights, producer, "out", slice(None), 1.0 / factors)
        for node, offset in readers:
            _scale(weights, node, "in", slice(offset, offset + factors.size), factors)
        equalized[tensor] = observed.scaled(1.0 / factors)
    for name, array in weights.items():
        if array is not graph.weights[name]:
            graph.set_weight(name, array)
    return equalized


def quantize(
    graph: Graph, ranges: Mapping[str, Range], scheme: Scheme, *, clip: float = 1.0, in_fp32: Collection[str] = ()
) -> Graph:
    """Return an 8-bit graph of an FP32 one.

    Args:
        graph: not changed.
        ranges: of `tensors_to_quantize`, measured on this graph.
        scheme: of the activations.
        clip: part of each range that is represented: values beyond are rare, and cost all others resolution.
        in_fp32: names of convolutions that stay in FP32.

    Returns:
        A graph with the input and the output of the first, both float32.
    """
    result = graph.copy()
    low = [node for node in result.weighted if name_of(node) not in in_fp32]
    scales = _scales(result, low, ranges, scheme, clip)
    added: dict[str, NDArray[Any]] = {}
    nodes: list[Any] = []
    replacements: dict[str, str] = {}  # tensors by those that replace them
    dequantized: dict[str, str] = {}  # a weight that convolutions share is quantized once

    def quantize_tensor(tensor: str) -> None:
        if tensor in scales:
            pair, replacements[tensor] = _through_integers(tensor, scales[tensor], scheme, added)
            nodes.extend(pair)

    quantize_tensor(result.input_name)
    for node in result.nodes:
        node.input[:] = [replacements.get(name, name) for name in node.input]
        if any(node is other for other in low):
            weight = node.input[1]
            if weight not in dequantized:
                nodes.append(_integer_weight(node, result.weights[weight], added))
                dequantized[weight] = nodes[-1].output[0]
            node.input[1] = dequantized[weight]
        nodes.append(node)
        for tensor in node.output:
            quantize_tensor(tensor)
    result.rebuild(nodes, added)
    return result


def _roots(graph: Graph, tensor: str) -> Iterator[str]:
    """Yield the tensors that a tensor consists of, before pooling and concatenation, which create no new values."""
    node = graph.producer(tensor)
    if node is not None and node.op_type == "MaxPool":
        yield from _roots(graph, node.input[0])
    elif node is not None and node.op_type == "Concat":
        for part in node.input:
            yield from _roots(graph, part)
    else:
        yield tensor


def _weighted_after(graph: Graph, tensor: str) -> Iterator[Any]:
    for node in graph.readers(tensor):
        if any(node is other for other in graph.weighted):
            yield node
        else:
            for output in node.output:
                yield from _weighted_after(graph, output)


def _plain_producer(graph: Graph, tensor: str) -> Any | None:
    """Return the convolution whose channels are the tensor's; None when another node produces or also reads them."""
    node = graph.producer(tensor)
    while node is not None and node.op_type in _POSITIVE and len(graph.readers(node.input[0])) == 1:
        node = graph.producer(node.input[0])
    return node if node is not None and _is_plain(graph, node) else None


def _channel_readers(graph: Graph, tensor: str, offset: int) -> list[tuple[Any, int]] | None:
    """Return ``(convolution, which of its input channels is the tensor's first)``; None when another node reads it."""
    if graph.is_output(tensor):
        return None
    all_readers: list[tuple[Any, int]] = []
    for node in graph.readers(tensor):
        if _is_plain(graph, node) and node.input[0] == tensor:
            readers: list[tuple[Any, int]] | None = [(node, offset)]
        elif node.op_type == "MaxPool":
            readers = _channel_readers(graph, node.output[0], offset)
        elif node.op_type == "Concat" and _axis(node) == 1 and list(node.input).count(tensor) == 1:
            before = [_channels(graph, part) for part in list(node.input)[: list(node.input).index(tensor)]]
            known = [count for count in before if count is not None]
            ahead = offset + sum(known)
            readers = _channel_readers(graph, node.output[0], ahead) if len(known) == len(before) else None
        else:
            readers = None
        if readers is None:
            return None
        all_readers += readers
    return all_readers


def _is_plain(graph: Graph, node: Any) -> bool:
    """Return whether a node is a convolution of one group whose weights no other node reads."""
    if node.op_type not in ("Conv", "ConvTranspose") or any(name not in graph.weights for name in node.input[1:]):
        return False
    grouped = any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
    return not grouped and all(len(graph.readers(name)) == 1 for name in node.input[1:])


def _channels(graph: Graph, tensor: str) -> int | None:
    """Return how many channels a tensor has; None where its producer does not show it."""
    node = graph.producer(tensor)
    if node is None:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = graph.weights.get(node.input[1])
        return None if weight is None else int(weight.shape[_output_axis(node)])
    if node.op_type in (*_POSITIVE, "MaxPool"):
        return _channels(graph, node.input[0])
    if node.op_type == "Concat" and _axis(node) == 1:
        counts = [_channels(graph, part) for part in node.input]
        return sum(count for count in counts if count is not None) if None not in counts else None
    return None


def _axis(node: Any) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 0)


def _output_axis(node: Any) -> int:
    return 0 if node.op_type == "Conv" else 1


def _scale(weights: dict[str, NDArray[Any]], node: Any, side: str, channels: slice, factors: Floats) -> None:
    """Multiply the weights that produce (``out``) or read (``in``) some channels."""
    axis = _output_axis(node) if side == "out" else 1 - _output_axis(node)
    weight = weights[node.input[1]]
    shape = [1] * weight.ndim
    shape[axis] = -1
    index = [slice(None)] * weight.ndim
    index[axis] = channels
    weight[tuple(index)] *= factors.reshape(shape)
    if side == "out" and len(node.input) > 2:
        weights[node.input[2]] *= factors


def _scales(
    graph: Graph, low: list[Any], ranges: Mapping[str, Range], scheme: Scheme, clip: float
) -> dict[str, tuple[np.float32, int]]:
    """Return scale and zero point of each tensor that the 8-bit convolutions read; concatenated tensors share them."""
    groups: list[set[str]] = []
    for node in low:
        roots = set(_roots(graph, node.input[0]))
        disjoint = [group for group in groups if not group & roots]
        groups = [*disjoint, roots.union(*(group for group in groups if group & roots))]
    scales: dict[str, tuple[np.float32, int]] = {}
    for group in groups:
        lowest, highest = (clip * end for end in union(ranges[tensor] for tensor in group))
        if scheme.symmetric:
            scale, zero = max(-lowest, highest) / 127.0, 0
        else:
            scale = (highest - lowest) / 255.0
            zero = round(-lowest / scale) if scale > 0.0 else 0
        scales |= dict.fromkeys(group, (np.float32(scale or 1.0), zero))
    return scales


def _through_integers(
    tensor: str, scale: tuple[np.float32, int], scheme: Scheme, added: dict[str, NDArray[Any]]
) -> tuple[list[Any], str]:
    kind = np.int8 if scheme.symmetric else np.uint8
    names = [f"{tensor}/scale", f"{tensor}/zero"]
    added |= zip(names, (np.asarray(scale[0]), np.asarray(scale[1], kind)), strict=True)
    integers, back = f"{tensor}/integers", f"{tensor}/back"
    return [
        make_node("QuantizeLinear", [tensor, *names], [integers]),
        make_node("DequantizeLinear", [integers, *names], [back]),
    ], back


def _integer_weight(node: Any, weight: NDArray[Any], added: dict[str, NDArray[Any]]) -> Any:
    """Quantize a weight to int8 by output channel, zero at zero; return the node that dequantizes it."""
    axis = _output_axis(node)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    scales = _weight_scales(rows)
    shape = [1] * weight.ndim
    shape[axis] = -1
    name = node.input[1]
    names = [f"{name}/integers", f"{name}/scale", f"{name}/zero"]
    integers = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
    added |= zip(names, (integers, scales, np.zeros(scales.size, np.int8)), strict=True)
    return make_node("DequantizeLinear", names, [f"{name}/back"], axis=axis)


def _weight_scales(rows: Floats) -> Floats:
    """Return for each row the scale of least mean square error."""
    largest = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny * 1e3)
    best, least = largest / 127.0, np.full(len(rows), np.inf)
    for clip in WEIGHT_CLIPS:
        scales = largest * clip / 127.0
        whole = np.clip(np.rint(rows / scales[:, None]), -127, 127)
        errors = np.square(whole * scales[:, None] - rows).sum(axis=1)
        best = np.where(errors < least, scales, best)
        least = np.minimum(errors, least)
    return np.asarray(best, np.float32)
