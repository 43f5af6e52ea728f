"""What a requestor writes and reads of the upper layer protocol (PS3.8 9.3): requests, acceptances, rejections.

Nothing that a peer answers is believed before every length was checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from lnfast.node.transport import contexts
from lnfast.node.transport.pdu import (
    ABSTRACT_SYNTAX,
    ANSWERED_CONTEXT_ITEM,
    APPLICATION_CONTEXT_ITEM,
    CONTEXT_ITEM,
    TRANSFER_SYNTAX,
    USER_ITEM,
    AbortReason,
    Kind,
    ViolationError,
    item,
    items,
    peer_max_length,
    uid,
    user_item,
    whole,
)

MAX_LENGTH = 16384  # of a P-DATA-TF that is sent to us: an answer has some 150 bytes
_ACCEPTANCE_FIXED = 68  # bytes of an A-ASSOCIATE-AC before its items


@dataclass(frozen=True)
class Offer:
    """A presentation context to propose: a SOP class, and the one transfer syntax in which its instances are stored."""

    sop_class: str
    syntax: str


@dataclass(frozen=True)
class Acceptance:
    """What an A-ASSOCIATE-AC says.

    Attributes:
        syntaxes: id of each accepted context to its transfer syntax.
        max_length: of a P-DATA-TF that the peer takes; 0 for any.
    """

    syntaxes: dict[int, str]
    max_length: int


def context_id(index: int) -> int:
    """Return the id of the context that is proposed at an index: ids are odd."""
    return 2 * index + 1


def associate_request(called: str, calling: str, offers: Sequence[Offer]) -> bytes:
    """Return an A-ASSOCIATE-RQ.

    Args:
        called: AE title of the peer, at most 16 ASCII characters.
        calling: own AE title.
        offers: contexts, at most `pdu.MOST_CONTEXTS`.
    """
    parts = [item(APPLICATION_CONTEXT_ITEM, contexts.APPLICATION_CONTEXT.encode())]
    for index, offer in enumerate(offers):
        names = item(ABSTRACT_SYNTAX, offer.sop_class.encode()) + item(TRANSFER_SYNTAX, offer.syntax.encode())
        parts.append(item(CONTEXT_ITEM, bytes((context_id(index), 0, 0, 0)) + names))
    parts.append(user_item(MAX_LENGTH, contexts.IMPLEMENTATION_CLASS_UID, contexts.implementation_version()))
    titles = called.encode("ascii").ljust(16) + calling.encode("ascii").ljust(16)
    return whole(Kind.ASSOCIATE_RQ, struct.pack(">HH", 1, 0) + titles + bytes(32) + b"".join(parts))


def read_acceptance(body: bytes) -> Acceptance:
    """Read an A-ASSOCIATE-AC, without its type and length.

    Raises:
        ViolationError: it is cut short, or has no room for a fragment.
    """
    if len(body) < _ACCEPTANCE_FIXED:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    syntaxes: dict[int, str] = {}
    max_length = 0
    for kind, value in items(body[_ACCEPTANCE_FIXED:]):
        if kind == ANSWERED_CONTEXT_ITEM:
            if len(value) < 4:
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            names = [uid(name) for inner, name in items(value[4:]) if inner == TRANSFER_SYNTAX]
            if value[2] == 0 and names:
                syntaxes[value[0]] = names[0]
        elif kind == USER_ITEM:
            max_length = peer_max_length(value)
    return Acceptance(syntaxes, max_length)


def read_rejection(body: bytes) -> tuple[int, int, int]:
    """Read an A-ASSOCIATE-RJ, without its type and length: result, source and reason (PS3.8 9.3.4).

    Raises:
        ViolationError: it is cut short.
    """
    if len(body) < 4:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    return body[1], body[2], body[3]


def release_request() -> bytes:
    """Return an A-RELEASE-RQ."""
    return whole(Kind.RELEASE_RQ, bytes(4))
