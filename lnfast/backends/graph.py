"""Checks of a network: of the ONNX file before a runtime sees it, and of the ports that the runtime reports.

An ONNX file may keep its weights in other files. OpenVINO, given the bytes of such a model, looks for those files in
the current folder and takes what it finds there, so weights that no hash covers could slip in. Hence the file is
walked here first. Only the skeleton is read; weights are skipped by their length, so size costs nothing.

    ModelProto > GraphProto > TensorProto (an initializer)
                      |
                  NodeProto > AttributeProto > TensorProto, GraphProto (bodies of If and Loop)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lnfast.backends.protocol import NetworkIO
from lnfast.card import Model
from lnfast.errors import ModelError

# Which fields of a message hold which messages, by onnx.proto; field numbers never change.
_CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Port:
    """An input or output of the graph as a runtime sees it.

    Attributes:
        names: all its names.
        shape: an axis of free length is a string.
        dtype: ``"float32"``, ``"float16"`` or the runtime's own name of another type.
    """

    names: frozenset[str]
    shape: tuple[int | str, ...]
    dtype: str


def check_file(onnx_bytes: bytes, description: str) -> None:
    """Refuse an ONNX file that is damaged or points outside itself.

    Args:
        onnx_bytes: the file.
        description: of the file in the message, ``"model.onnx of model NAME"``.

    Raises:
        ModelError: ``bad-onnx`` or ``external-data``.
    """
    content = memoryview(onnx_bytes)
    has_graph = False
    pending = [("model", 0, len(content))]
    try:
        while pending:
            kind, start, end = pending.pop()
            has_graph |= kind == "graph"
            children = _CHILDREN[kind]
            for field, wire, low, high in _fields(content, start, end):
                if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and low)):
                    raise ModelError(
                        "external-data",
                        f"{description} keeps weights in another file; wanted one file that holds everything: "
                        "save it again without external data",
                    )
                if field in children and wire == _BYTES:
                    pending.append((children[field], low, high))
    except ValueError as error:
        raise ModelError("bad-onnx", f"{description} is not an ONNX file or is damaged: {error}") from error
    if not has_graph:
        raise ModelError("bad-onnx", f"{description} is not an ONNX file: it holds no graph")


def check_ports(model: Model, io: NetworkIO, inputs: list[Port], outputs: list[Port]) -> None:
    """Refuse a graph whose one input and one output are not what the card says, in the requested type.

    Raises:
        ModelError: ``model-mismatch`` with the ports of the graph and those of the card.
    """
    card = model.card
    wanted = (1, 1, *io.shape_zyx)
    for role, ports, name in (("input", inputs, io.input_name), ("output", outputs, io.output_name)):
        if len(ports) == 1 and name in ports[0].names and ports[0].shape == wanted and ports[0].dtype == io.dtype:
            continue
        got = ", ".join(f"{'/'.join(sorted(p.names))} {p.dtype} ({', '.join(map(str, p.shape))})" for p in ports)
        raise ModelError(
            "model-mismatch",
            f"the {role} of model.onnx is {got or 'missing'}, card.json of model {card.name} wants "
            f"{name} {io.dtype} {wanted}; export the model again",
        )


def _fields(content: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(field, wire type, low, high)`` of a message: the range of its bytes, or a number in `low`."""
    at = start
    while at < end:
        key, at = _varint(content, at, end)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(content, at, end)
            yield field, wire, number, 0
            continue
        if wire == _BYTES:
            length, at = _varint(content, at, end)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at} starts no field")
        if at + length > end:
            raise ValueError(f"a field at byte {at} runs past the end")
        yield field, wire, at, at + length
        at += length


def _varint(content: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends early")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number before byte {at} has no end")
