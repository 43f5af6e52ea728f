"""What both roles of the upper layer protocol (PS3.8 9.3) write and read: heads, items, fragments, release and abort.

Every length is checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

HEAD = struct.Struct(">BxI")  # type and length of a PDU
MOST_CONTEXTS = 128  # their ids are the odd numbers of one byte
APPLICATION_CONTEXT_ITEM, CONTEXT_ITEM, ANSWERED_CONTEXT_ITEM, USER_ITEM = 0x10, 0x20, 0x21, 0x50
ABSTRACT_SYNTAX, TRANSFER_SYNTAX = 0x30, 0x40
_MAX_LENGTH, _CLASS_UID, _VERSION_NAME = 0x51, 0x52, 0x55
_ITEM = struct.Struct(">BxH")
_MOST_UID = 64


class Kind(IntEnum):
    """Types of PDU."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


KINDS = frozenset(Kind)


class AbortReason(IntEnum):
    """Why the service provider aborts, PS3.8 table 9-26."""

    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6
    NOT_SPECIFIED = 0


class ViolationError(Exception):
    """The peer broke the protocol; the association is aborted with this reason."""

    def __init__(self, reason: AbortReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


def whole(kind: Kind, body: bytes) -> bytes:
    """Return a PDU."""
    return HEAD.pack(kind, len(body)) + body


def release_response() -> bytes:
    """Return an A-RELEASE-RP."""
    return whole(Kind.RELEASE_RP, bytes(4))


def abort(reason: AbortReason | None = None) -> bytes:
    """Return an A-ABORT: by the provider for a reason, or by the user, who gives none."""
    return whole(Kind.ABORT, bytes(4) if reason is None else bytes((0, 0, 2, reason)))


def read_fragments(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Context id, control byte and bytes of each fragment of a P-DATA-TF.

    Raises:
        ViolationError: a length leads beyond the end, or there is no fragment.
    """
    at = 0
    while at < len(body) or not at:
        if len(body) - at < 6:
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        (length,) = struct.unpack_from(">I", body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        yield body[at + 4], body[at + 5], body[at + 6 : end]
        at = end


def user_item(max_length: int, class_uid: str, version: str) -> bytes:
    """Return the item in which an implementation says who it is, and how long a P-DATA-TF may be that it takes."""
    parts = (
        (_MAX_LENGTH, struct.pack(">I", max_length)),
        (_CLASS_UID, class_uid.encode()),
        (_VERSION_NAME, version.encode()),
    )
    return item(USER_ITEM, b"".join(item(*part) for part in parts))


def peer_max_length(value: bytes) -> int:
    """Return how long a P-DATA-TF may be by the value of a `USER_ITEM`; 0 for any.

    Raises:
        ViolationError: there is no room for a fragment of two bytes.
    """
    for kind, length in items(value):
        if kind == _MAX_LENGTH and len(length) == 4:
            (most,) = struct.unpack(">I", length)
            if 0 < most < 8:
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            return int(most)
    return 0


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each item.

    Raises:
        ViolationError: a length leads beyond the end.
    """
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size:
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if at + length > len(data):
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        yield kind, data[at : at + length]
        at += length


def item(kind: int, value: bytes) -> bytes:
    """Return an item."""
    return _ITEM.pack(kind, len(value)) + value


def uid(value: bytes) -> str:
    """Return a UID without its padding; what is too long for one is equal to none."""
    return value[: _MOST_UID + 1].decode("latin-1").rstrip("\0 ")
