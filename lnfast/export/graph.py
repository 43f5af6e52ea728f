"""A network as export works on it: nodes, weights, and who makes and who reads a tensor.

The only module that imports onnx. Nothing here knows of a runtime or of precision.
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
    """The package.

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
        self.whose = f"model {model.card.name}"
        try:
            proto = onnx().load_from_string(model.onnx_bytes)
            onnx().checker.check_model(proto)
        except Exception as error:
            raise ModelError("bad-onnx", f"onnx cannot read model.onnx of {self.whose}: {one_line(error)}") from error
        opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        if opset < OPSET_AT_LEAST:
            raise ModelError(
                "bad-onnx",
                f"model.onnx of {self.whose} is of operator set {opset}, wanted {OPSET_AT_LEAST} or later; "
                "export the network again with a later one",
            )
        self.proto = proto
        self._read()

    def copy(self) -> Graph:
        """Another one of the same content."""
        twin = object.__new__(Graph)
        twin.whose = self.whose
        twin.proto = type(self.proto)()
        twin.proto.CopyFrom(self.proto)
        twin._read()
        return twin

    def to_bytes(self) -> bytes:
        """The ONNX file.

        Raises:
            ModelError: ``bad-onnx`` when what was made of it is none.
        """
        del self.proto.graph.value_info[:]  # types and shapes of what lies between: runtimes infer them
        content: bytes = self.proto.SerializeToString()
        try:
            onnx().checker.check_model(content, full_check=True)
        except Exception as error:
            told = f"what was made of model.onnx of {self.whose} is no valid graph: {one_line(error)}"
            raise ModelError("bad-onnx", told) from error
        return content

    def raise_opset(self, least: int) -> None:
        """Say the same in a later operator set, where the graph is of an earlier one.

        Raises:
            ModelError: ``unsupported-op`` when onnx cannot.
        """
        if max(entry.version for entry in self.proto.opset_import if entry.domain in ("", "ai.onnx")) >= least:
            return
        try:
            self.proto = onnx().version_converter.convert_version(self.proto, least)
        except Exception as error:
            told = f"onnx cannot bring {self.whose} to operator set {least}: {one_line(error)}"
            raise ModelError("unsupported-op", told) from error
        self._read()

    @property
    def nodes(self) -> list[Any]:
        """``NodeProto`` in an order in which they can be computed."""
        return list(self.proto.graph.node)

    @property
    def input_name(self) -> str:
        """Of the one input that is no weight."""
        return next(str(port.name) for port in self.proto.graph.input if port.name not in self.weights)

    @property
    def weighted(self) -> list[Any]:
        """Convolutions, transposed ones as well, whose weights are in the file."""
        return [node for node in self.nodes if node.op_type in WEIGHTED and node.input[1] in self.weights]

    def operators(self) -> Iterator[tuple[str, str]]:
        """``(type, name)`` of every node; a node without a name goes by what it makes."""
        for node in self.nodes:
            yield str(node.op_type), name_of(node)

    def producer(self, tensor: str) -> Any | None:
        """The node that makes a tensor; None for an input or a weight."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> list[Any]:
        """The nodes that read a tensor."""
        return self._readers.get(tensor, [])

    def is_output(self, tensor: str) -> bool:
        """Whether the graph hands it out."""
        return any(port.name == tensor for port in self.proto.graph.output)

    def set_weight(self, name: str, array: NDArray[Any]) -> None:
        """Replace a weight; it may get another type."""
        made = onnx().numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._tensors[name].CopyFrom(made)
        self.weights[name] = array

    def rebuild(self, nodes: Iterable[Any], added: Mapping[str, NDArray[Any]]) -> None:
        """Replace all nodes, add weights, and drop the weights that nobody reads any more."""
        nodes = list(nodes)
        graph = self.proto.graph
        read = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        kept += [onnx().numpy_helper.from_array(np.asarray(array), name) for name, array in added.items()]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        self._read()

    def _read(self) -> None:
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
    """What a node is called; one without a name goes by what it makes."""
    return str(node.name or node.output[0])


def make_node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    """A ``NodeProto`` named as what it makes."""
    return onnx().helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes)
