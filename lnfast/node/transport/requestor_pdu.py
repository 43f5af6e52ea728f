"""What a sender writes and reads on the wire: PDUs of the upper layer (PS3.8 9.3) and command sets of DIMSE (PS3.7).

The receiver is pynetdicom's; sending is not. pynetdicom's requestor waits without an end for a peer that stops reading,
or that promises a PDU and does not send it (``Association.kill`` waits for a thread that is in ``recv``); it counts the
time to the answer from before the data has left, does not compare the message id of the answer, and takes 4 ms an
instance for its two polling threads. Of the protocol a sender needs little, and tests compare each PDU with
pynetdicom's, both ways.

Nothing that a peer sends is trusted: each length is checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
ECHO_RQ, ECHO_RSP, STORE_RQ, STORE_RSP = 0x0030, 0x8030, 0x0001, 0x8001
MOST_CONTEXTS = 128  # their ids are the odd numbers of a byte
MAX_LENGTH = 16384  # of a P-DATA-TF that is sent to us: an answer has some 150 bytes
HEAD = struct.Struct(">BxI")  # type and length of a PDU

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ITEM = struct.Struct(">BxH")
_FRAGMENT = struct.Struct(">BxIIBB")  # a P-DATA-TF of one fragment, up to its bytes
_COMMAND, _LAST = 1, 2  # bits of a fragment's control byte
_ELEMENT = struct.Struct("<HHI")
_ACCEPT_FIXED = 68  # bytes before the items of an A-ASSOCIATE-AC
_LARGEST_FRAGMENT = 128 * 1024
_MEDIUM = 0
_HAS_DATA_SET, _NO_DATA_SET = 0x0001, 0x0101


class MalformedError(Exception):
    """The peer's bytes are no such PDU."""


@dataclass(frozen=True)
class Offer:
    """A presentation context to propose: a SOP class, and the one transfer syntax that its instances are stored in."""

    sop_class: str
    syntax: str


@dataclass(frozen=True)
class Implementation:
    """Who sends: the implementation class UID, and a version name of at most 16 characters."""

    class_uid: str
    version: str


@dataclass(frozen=True)
class Acceptance:
    """What an A-ASSOCIATE-AC says.

    Attributes:
        syntaxes: id of each accepted context to its transfer syntax.
        max_length: bytes of a P-DATA-TF that the peer takes; 0 for any.
    """

    syntaxes: dict[int, str]
    max_length: int


@dataclass(frozen=True)
class Rejection:
    """What an A-ASSOCIATE-RJ says, in the numbers of PS3.8 9.3.4."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True)
class Response:
    """The command set of a response.

    Attributes:
        command: its command field: `STORE_RSP`, `ECHO_RSP` or any other.
        message_id: of the request that it answers; None where it says none.
        status: None where it says none.
    """

    command: int
    message_id: int | None
    status: int | None


def associate_request(called: str, calling: str, contexts: Sequence[Offer], own: Implementation) -> bytes:
    """An A-ASSOCIATE-RQ; the ids of the contexts are 1, 3, 5 and so on.

    Args:
        called: AE title of the peer, at most 16 ASCII characters.
        calling: own AE title.
        contexts: at most `MOST_CONTEXTS`.
        own: implementation.
    """
    items = [_item(0x10, _APPLICATION_CONTEXT.encode())]
    for index, context in enumerate(contexts):
        names = _item(0x30, context.sop_class.encode()) + _item(0x40, context.syntax.encode())
        items.append(_item(0x20, bytes((2 * index + 1, 0, 0, 0)) + names))
    user = _item(0x51, struct.pack(">I", MAX_LENGTH)) + _item(0x52, own.class_uid.encode())
    items.append(_item(0x50, user + _item(0x55, own.version.encode())))
    titles = called.encode().ljust(16) + calling.encode().ljust(16)
    body = struct.pack(">HH", 1, 0) + titles + bytes(32) + b"".join(items)
    return HEAD.pack(ASSOCIATE_RQ, len(body)) + body


def release_request() -> bytes:
    """An A-RELEASE-RQ."""
    return HEAD.pack(RELEASE_RQ, 4) + bytes(4)


def release_response() -> bytes:
    """An A-RELEASE-RP."""
    return HEAD.pack(RELEASE_RP, 4) + bytes(4)


def abort() -> bytes:
    """An A-ABORT by the user of the service."""
    return HEAD.pack(ABORT, 4) + bytes(4)


def read_acceptance(body: bytes) -> Acceptance:
    """Read an A-ASSOCIATE-AC, without its type and length.

    Raises:
        MalformedError: it is cut short.
    """
    if len(body) < _ACCEPT_FIXED:
        raise MalformedError
    syntaxes: dict[int, str] = {}
    max_length = 0
    for kind, value in _items(body[_ACCEPT_FIXED:]):
        if kind == 0x21:
            if len(value) < 4:
                raise MalformedError
            names = [name for inner, name in _items(value[4:]) if inner == 0x40]
            if value[2] == 0 and names:
                syntaxes[value[0]] = names[0].decode("ascii", "replace").rstrip("\0 ")
        elif kind == 0x50:
            lengths = [length for inner, length in _items(value) if inner == 0x51]
            if lengths and len(lengths[0]) == 4:
                (max_length,) = struct.unpack(">I", lengths[0])
    if 0 < max_length < 8:  # no room for a fragment of two bytes
        raise MalformedError
    return Acceptance(syntaxes, max_length)


def read_rejection(body: bytes) -> Rejection:
    """Read an A-ASSOCIATE-RJ, without its type and length.

    Raises:
        MalformedError: it is cut short.
    """
    if len(body) < 4:
        raise MalformedError
    return Rejection(body[1], body[2], body[3])


def store_request(message_id: int, sop_class: str, sop_uid: str) -> bytes:
    """The command set of a C-STORE-RQ of medium priority."""
    values = (
        (0x0002, _uid(sop_class)),
        (0x0100, _short(STORE_RQ)),
        (0x0110, _short(message_id)),
        (0x0700, _short(_MEDIUM)),
        (0x0800, _short(_HAS_DATA_SET)),
        (0x1000, _uid(sop_uid)),
    )
    return _command_set(values)


def echo_request(message_id: int, sop_class: str) -> bytes:
    """The command set of a C-ECHO-RQ."""
    values = (
        (0x0002, _uid(sop_class)),
        (0x0100, _short(ECHO_RQ)),
        (0x0110, _short(message_id)),
        (0x0800, _short(_NO_DATA_SET)),
    )
    return _command_set(values)


def fragment_size(max_length: int) -> int:
    """Bytes of a message that go into one P-DATA-TF, an even number, for a peer that takes ``max_length``."""
    room = max_length - 6 if max_length else _LARGEST_FRAGMENT
    return min(room, _LARGEST_FRAGMENT) & ~1


def fragment(context_id: int, data: bytes, *, command: bool, last: bool) -> bytes:
    """A P-DATA-TF with one fragment of a command set or a data set."""
    control = (_COMMAND if command else 0) | (_LAST if last else 0)
    return _FRAGMENT.pack(DATA_TF, len(data) + 6, len(data) + 2, context_id, control) + data


def command_fragments(context_id: int, command: bytes, size: int) -> bytes:
    """The P-DATA-TFs of a command set, ``size`` bytes of it in each."""
    starts = range(0, len(command), size)
    return b"".join(
        fragment(context_id, command[at : at + size], command=True, last=at + size >= len(command)) for at in starts
    )


def read_fragments(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """The fragments of command sets in a P-DATA-TF, and whether each is the last of its command set.

    Raises:
        MalformedError: a length leads beyond the end, or there is a fragment of a data set: no answer has one.
    """
    at = 0
    while at < len(body):
        if len(body) - at < 6:
            raise MalformedError
        (length,) = struct.unpack_from(">I", body, at)
        control = body[at + 5]
        if length < 2 or at + 4 + length > len(body) or not control & _COMMAND:
            raise MalformedError
        yield body[at + 6 : at + 4 + length], bool(control & _LAST)
        at += 4 + length


def read_response(command: bytes) -> Response:
    """Read a command set.

    Raises:
        MalformedError: it is cut short or has no command field.
    """
    numbers: dict[int, int] = {}
    at = 0
    while at < len(command):
        if len(command) - at < _ELEMENT.size:
            raise MalformedError
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if group != 0 or at + length > len(command):
            raise MalformedError
        if length == 2:
            (numbers[element],) = struct.unpack_from("<H", command, at)
        at += length
    if 0x0100 not in numbers:
        raise MalformedError
    return Response(numbers[0x0100], numbers.get(0x0120), numbers.get(0x0900))


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size:
            raise MalformedError
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if at + length > len(data):
            raise MalformedError
        yield kind, data[at : at + length]
        at += length


def _command_set(values: Sequence[tuple[int, bytes]]) -> bytes:
    """Implicit VR little endian, behind the length of the group."""
    body = b"".join(_ELEMENT.pack(0, element, len(value)) + value for element, value in values)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def _uid(text: str) -> bytes:
    data = text.encode("ascii")
    return data + b"\0" * (len(data) % 2)


def _short(number: int) -> bytes:
    return struct.pack("<H", number)
