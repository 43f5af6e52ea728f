"""``model.onnx`` as a torch module: the peer's network has the subject's weights because they are read from its file.

A U-Net and the network of preset `edge` need nine operators. An unknown operator or attribute is an error and never
skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

Attributes = dict[str, Any]


class OnnxModule(nn.Module):
    """Run the graph's nodes in their order, eagerly, and free each value after the last node that reads it.

    Args:
        content: bytes of an ONNX file with one input and one output.

    Raises:
        NotImplementedError: the graph has an operator or attribute that these networks do not need.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        graph = onnx.load_from_string(content).graph
        self.steps = [_Step(node) for node in graph.node]
        weights = {tensor.name for tensor in graph.initializer}
        self.input_name = next(value.name for value in graph.input if value.name not in weights)
        self.output_name = graph.output[0].name
        self._slots = {tensor.name: f"weight_{index}" for index, tensor in enumerate(graph.initializer)}
        for tensor in graph.initializer:
            # A copy: numpy_helper gives a read-only view of the file's bytes.
            weight = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
            self.register_buffer(self._slots[tensor.name], weight)
        last_reader = {name: index for index, step in enumerate(self.steps) for name in step.inputs}
        self._last_read = [
            [name for name in dict.fromkeys(step.inputs) if last_reader[name] == index and name not in weights]
            for index, step in enumerate(self.steps)
        ]

    def forward(self, x: Tensor) -> Tensor:
        values = {self.input_name: x}
        for step, last_read in zip(self.steps, self._last_read, strict=True):
            inputs = [values[name] if name in values else getattr(self, self._slots[name]) for name in step.inputs]
            result = step.apply(inputs, step.attributes)
            del inputs
            for name in last_read:
                del values[name]
            values[step.output] = result
            del result
        return values[self.output_name]


class _Step:
    """One node of the graph, checked."""

    def __init__(self, node: onnx.NodeProto) -> None:
        if node.op_type not in _OPERATORS or node.domain not in ("", "ai.onnx"):
            readable = ", ".join(sorted(_OPERATORS))
            raise NotImplementedError(f"operator {node.op_type} ({node.name}): this reads {readable}")
        self.apply, supported = _OPERATORS[node.op_type]
        self.inputs = [name for name in node.input if name]
        self.output = node.output[0]
        self.attributes: Attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for name, value in self.attributes.items():
            if name not in supported and value != _HARMLESS.get(name):
                raise NotImplementedError(f"attribute {name} = {value!r} of {node.op_type} ({node.name})")


def _conv(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    weight = inputs[1]
    return functional.conv3d(
        inputs[0],
        weight,
        inputs[2] if len(inputs) > 2 else None,
        stride=attributes.get("strides", (1, 1, 1)),
        padding=_symmetric(attributes),
        dilation=attributes.get("dilations", (1, 1, 1)),
        groups=attributes.get("group", 1),
    )


def _conv_transpose(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    return functional.conv_transpose3d(
        inputs[0],
        inputs[1],
        inputs[2] if len(inputs) > 2 else None,
        stride=attributes.get("strides", (1, 1, 1)),
        padding=_symmetric(attributes),
        output_padding=attributes.get("output_padding", (0, 0, 0)),
        groups=attributes.get("group", 1),
        dilation=attributes.get("dilations", (1, 1, 1)),
    )


def _max_pool(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    kernel = attributes["kernel_shape"]
    return functional.max_pool3d(inputs[0], kernel, attributes.get("strides", (1, 1, 1)), _symmetric(attributes))


def _depth_to_space(inputs: list[Tensor], attributes: Attributes) -> Tensor:
    if attributes.get("mode", b"DCR") != b"CRD":
        raise NotImplementedError("mode DCR of DepthToSpace: torch shuffles as mode CRD")
    return functional.pixel_shuffle(inputs[0], attributes["blocksize"])


def _squeeze(inputs: list[Tensor], _: Attributes) -> Tensor:
    return inputs[0].squeeze(tuple(inputs[1].tolist()))


def _unsqueeze(inputs: list[Tensor], _: Attributes) -> Tensor:
    (axis,) = inputs[1].tolist()
    return inputs[0].unsqueeze(axis)


def _symmetric(attributes: Attributes) -> list[int]:
    """ONNX pads ``(z, y, x begin, z, y, x end)`` as torch's single number per axis."""
    pads = list(attributes.get("pads", (0,) * 6))
    if pads[:3] != pads[3:]:
        raise NotImplementedError(f"pads {pads}: torch pads both ends alike")
    return pads[:3]


# Values of attributes that change nothing. kernel_shape of a convolution repeats the weight's own shape.
_HARMLESS: dict[str, Any] = {"auto_pad": b"NOTSET", "ceil_mode": 0, "storage_order": 0, "dilations": [1, 1, 1]}
_CONV = {"strides", "pads", "dilations", "group", "kernel_shape"}
_OPERATORS: dict[str, tuple[Callable[[list[Tensor], Attributes], Tensor], set[str]]] = {
    "Conv": (_conv, _CONV),
    "ConvTranspose": (_conv_transpose, _CONV | {"output_padding"}),
    "MaxPool": (_max_pool, {"kernel_shape", "strides", "pads"}),
    "Relu": (lambda inputs, _: functional.relu(inputs[0]), set()),
    "Transpose": (lambda inputs, attributes: inputs[0].permute(*attributes["perm"]), {"perm"}),
    "Squeeze": (_squeeze, set()),
    "Unsqueeze": (_unsqueeze, set()),
    "DepthToSpace": (_depth_to_space, {"mode", "blocksize"}),
    "Concat": (lambda inputs, attributes: torch.cat(inputs, dim=attributes["axis"]), {"axis"}),
}
