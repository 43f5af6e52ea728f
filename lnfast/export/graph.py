"""An ONNX graph to be read and changed: nodes, weights, and the producers and readers of a tensor.

The only module that imports onnx. It depends on no runtime and no precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.card import Model
from lnfast.errors import ModelError, one_line
from lnfast.optional import Package

PACKAGE = Package("export", "onnx", ("onnx",), "export")
WEIGHTED = ("Conv", "ConvTranspose")
OPSET_AT_LEAST = 13  # the first whose QuantizeLinear has a scale for each channel


def onnx() -> ModuleType:
    """Import the package onnx.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    module: ModuleType = PACKAGE.load()
    return module


class Graph:
    """An ONNX file, to be read and changed.

    Attributes:
        proto: the ``ModelProto``.
        weights: initializers by name, as arrays; put a changed one back with `set_weight`.

    Raises:
        ModelError: ``bad-onnx``, also for an operator set below 13.
    """

    def __init__(self, model: Model) -> None:
        self.description = f"model {model.card.name}"
        try:
            proto = onnx().load_from_string(model.onnx_bytes)
            onnx().checker.check_model(proto)
        except Exception as error:
            message = f"onnx cannot read model.onnx of {self.description}: {one_line(error)}"
            raise ModelError("bad-onnx", message) from error
        opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        if opset < OPSET_AT_LEAST:
            raise ModelError(
                "bad-onnx",
                f"model.onnx of {self.description} is of operator set {opset}, wanted {OPSET_AT_LEAST} or later; "
                "export the network again with a later one",
            )
        self.proto = proto
        self.refresh()

    def copy(self) -> Graph:
        """Return another graph of the same content."""
        twin = object.__new__(Graph)
        twin.description = self.description
        twin.proto = type(self.proto)()
        twin.proto.CopyFrom(self.proto)
        twin.refresh()
        return twin

    def to_bytes(self) -> bytes:
        """Return the ONNX file.

        Raises:
            ModelError: ``bad-onnx`` when the changed graph is not valid.
        """
        del self.proto.graph.value_info[:]  # types and shapes of inner tensors: runtimes infer them
        content: bytes = self.proto.SerializeToString()
        try:
            onnx().checker.check_model(content, full_check=True)
        except Exception as error:
            message = f"what was made of model.onnx of {self.description} is no valid graph: {one_line(error)}"
            raise ModelError("bad-onnx", message) from error
        return content

    def raise_opset(self, least: int) -> None:
        """Convert a graph of an earlier operator set to a later one.

        Raises:
            ModelError: ``unsupported-op`` when onnx cannot.
        """
        if max(entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")) >= least:
            return
        try:
            self.proto = onnx().version_converter.convert_version(self.proto, least)
        except Exception as error:
            message = f"onnx cannot bring {self.description} to operator set {least}: {one_line(error)}"
            raise ModelError("unsupported-op", message) from error
        self.refresh()

    @property
    def nodes(self) -> list[Any]:
        """The nodes, ``NodeProto``, in an order in which they can be computed."""
        return list(self.proto.graph.node)

    @property
    def input_name(self) -> str:
        """The name of the one input that is no weight."""
        return next(str(port.name) for port in self.proto.graph.input if port.name not in self.weights)

    @property
    def weighted(self) -> list[Any]:
        """The convolutions, transposed ones as well, whose weights are in the file."""
        return [node for node in self.nodes if node.op_type in WEIGHTED and node.input[1] in self.weights]

    def operators(self) -> Iterator[tuple[str, str]]:
        """Yield ``(type, name)`` of every node; a node without a name has that of its output."""
        for node in self.nodes:
            yield str(node.op_type), name_of(node)

    def producer(self, tensor: str) -> Any | None:
        """Return the node whose output a tensor is; None for an input or a weight."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> list[Any]:
        """Return the nodes that read a tensor."""
        return self._readers.get(tensor, [])

    def is_output(self, tensor: str) -> bool:
        """Return whether a tensor is an output of the graph."""
        return any(port.name == tensor for port in self.proto.graph.output)

    def set_weight(self, name: str, array: NDArray[Any]) -> None:
        """Replace a weight; it may get another type."""
        tensor = onnx().numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._tensors[name].CopyFrom(tensor)
        self.weights[name] = array

    def rebuild(self, nodes: Iterable[Any], added: Mapping[str, NDArray[Any]]) -> None:
        """Replace all nodes, add weights, and drop the weights that no node reads."""
        nodes = list(nodes)
        graph = self.proto.graph
        read = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in graph.initializer if tensor.name in read]
        weights += [onnx().numpy_helper.from_array(np.asarray(array), name) for name, array in added.items()]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(weights)
        self.refresh()

    def refresh(self) -> None:
        """Read weights, producers and readers from `proto` again, after it was changed."""
        graph = self.proto.graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.weights: dict[str, NDArray[Any]] = {
            name: onnx().numpy_helper.to_array(tensor) for name, tensor in self._tensors.items()
        }
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)


def name_of(node: Any) -> str:
    """Return a node's name, that of its output where it has none."""
    return str(node.name or node.output[0])


def make_node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    """Return a ``NodeProto`` named as its output."""
    return onnx().helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes)
