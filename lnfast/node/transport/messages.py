"""Command sets of DIMSE (PS3.7 6.3 and annex E): requests and responses of C-STORE and C-ECHO, read and written.

Not by pydicom: a command set may hold what the peer likes, pydicom would read nested sequences of it, and it warns of
a UID by quoting it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from lnfast.node.transport.contexts import MOST_PDU_BYTES, VERIFICATION
from lnfast.node.transport.pdu import HEAD, AbortReason, Kind, ViolationError

MOST_COMMAND_BYTES = 64 << 10
STORE_RQ, STORE_RSP, ECHO_RQ, ECHO_RSP, CANCEL_RQ = 0x0001, 0x8001, 0x0030, 0x8030, 0x0FFF
NO_DATA_SET = 0x0101
COMMAND, LAST = 1, 2  # bits of a fragment's control byte

_ELEMENT = struct.Struct("<HHI")
_FRAGMENT = struct.Struct(">IBB")
_GROUP_LENGTH, _SOP_CLASS, _FIELD, _MESSAGE_ID, _ANSWERED_ID = 0x0000, 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, _DATA_SET_TYPE, _STATUS, _ERROR_COMMENT, _SOP_INSTANCE = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000
_MEDIUM = 0
_DATA_SET = 0x0001
_LONGEST_COMMENT = 64


@dataclass(frozen=True)
class Command:
    """The command set of a request.

    Attributes:
        field: which command.
        message_id: to which the answer refers.
        sop_class, sop_instance: as sent, without padding; empty where it is missing. Not checked.
        has_data_set: a data set follows.
    """

    field: int
    message_id: int
    sop_class: str
    sop_instance: str
    has_data_set: bool


@dataclass(frozen=True)
class Response:
    """The command set of a response: which command, the id of the message that it answers, and the status."""

    field: int
    message_id: int
    status: int


def read_command(data: bytes) -> Command:
    """Read a command set.

    Raises:
        ViolationError: it is not made of elements of group 0, or says no command or message id.
    """
    elements = _elements(data)
    field = _number(elements, _FIELD)
    identity = _ANSWERED_ID if field == CANCEL_RQ else _MESSAGE_ID
    return Command(
        field=field,
        message_id=_number(elements, identity),
        sop_class=_text(elements, _SOP_CLASS),
        sop_instance=_text(elements, _SOP_INSTANCE),
        has_data_set=_number(elements, _DATA_SET_TYPE) != NO_DATA_SET,
    )


def response(command: Command, status: int, comment: str = "") -> bytes:
    """Return the command set that answers a C-STORE or C-ECHO.

    Args:
        command: the request.
        status: of the answer.
        comment: why, in at most 64 ASCII characters; empty for none.
    """
    values = [
        *_uid(_SOP_CLASS, command.sop_class),
        (_FIELD, _short(command.field | 0x8000)),
        (_ANSWERED_ID, _short(command.message_id)),
        (_DATA_SET_TYPE, _short(NO_DATA_SET)),
        (_STATUS, _short(status)),
    ]
    if comment:
        values.append((_ERROR_COMMENT, _even(comment[:_LONGEST_COMMENT].encode("ascii", "replace"), b" ")))
    if command.field == STORE_RQ:
        values += _uid(_SOP_INSTANCE, command.sop_instance)
    return _command_set(values)


def store_request(message_id: int, sop_class: str, sop_instance: str) -> bytes:
    """Return the command set of a C-STORE-RQ of medium priority."""
    values = [
        *_uid(_SOP_CLASS, sop_class),
        (_FIELD, _short(STORE_RQ)),
        (_MESSAGE_ID, _short(message_id)),
        (_PRIORITY, _short(_MEDIUM)),
        (_DATA_SET_TYPE, _short(_DATA_SET)),
        *_uid(_SOP_INSTANCE, sop_instance),
    ]
    return _command_set(values)


def echo_request(message_id: int) -> bytes:
    """Return the command set of a C-ECHO-RQ."""
    values = [
        *_uid(_SOP_CLASS, VERIFICATION.uid),
        (_FIELD, _short(ECHO_RQ)),
        (_MESSAGE_ID, _short(message_id)),
        (_DATA_SET_TYPE, _short(NO_DATA_SET)),
    ]
    return _command_set(values)


def read_response(data: bytes) -> Response:
    """Read the command set of a response.

    Raises:
        ViolationError: it is not made of elements of group 0, or says no command, message id or status.
    """
    elements = _elements(data)
    return Response(_number(elements, _FIELD), _number(elements, _ANSWERED_ID), _number(elements, _STATUS))


def command_pdus(context_id: int, command: bytes, max_length: int) -> bytes:
    """Return the P-DATA-TFs of a command set.

    Args:
        context_id: of the presentation context.
        command: set.
        max_length: of a PDU that the peer takes; 0 for any.
    """
    size = max_length - _FRAGMENT.size if max_length else len(command)
    size = max(size & ~1, 2)
    parts = []
    for at in range(0, len(command), size):
        data = command[at : at + size]
        control = COMMAND | (LAST if at + size >= len(command) else 0)
        parts += [HEAD.pack(Kind.DATA, len(data) + 6), _FRAGMENT.pack(len(data) + 2, context_id, control), data]
    return b"".join(parts)


def data_pdu(context_id: int, data: bytes, *, last: bool) -> bytes:
    """Return a P-DATA-TF with a fragment of a data set."""
    return HEAD.pack(Kind.DATA, len(data) + 6) + _FRAGMENT.pack(len(data) + 2, context_id, LAST * last) + data


def fragment_size(max_length: int) -> int:
    """Return how many bytes of a message, an even number, go into one P-DATA-TF.

    Args:
        max_length: of a PDU that the peer takes; 0 for any.
    """
    return (min(max_length or MOST_PDU_BYTES, MOST_PDU_BYTES) - _FRAGMENT.size) & ~1


def _elements(data: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _ELEMENT.size:
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        group, element, length = _ELEMENT.unpack_from(data, at)
        at += _ELEMENT.size
        if group != 0 or at + length > len(data):
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        elements[element] = data[at : at + length]
        at += length
    return elements


def _command_set(values: Iterable[tuple[int, bytes]]) -> bytes:
    """Implicit VR little endian, behind the length of the group."""
    body = b"".join(_ELEMENT.pack(0, element, len(value)) + value for element, value in values)
    return _ELEMENT.pack(0, _GROUP_LENGTH, 4) + struct.pack("<I", len(body)) + body


def _short(number: int) -> bytes:
    return struct.pack("<H", number)


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    return int.from_bytes(value, "little")


def _text(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").decode("latin-1").rstrip("\0 ")


def _uid(element: int, text: str) -> list[tuple[int, bytes]]:
    """The element of a UID; one that is none is not repeated."""
    return [(element, _even(text.encode("ascii"), b"\0"))] if is_uid(text) else []


def is_uid(text: str) -> bool:
    """Return whether a text is made as UIDs are: 1 to 64 digits and dots.

    Senders exist whose components begin with 0, which is forbidden and harmless.
    """
    return 0 < len(text) <= 64 and text[0] in "012" and all(letter in "0123456789." for letter in text)


def _even(data: bytes, padding: bytes) -> bytes:
    return data + padding * (len(data) % 2)
