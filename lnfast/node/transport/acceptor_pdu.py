"""What an acceptor reads and writes of the upper layer protocol (PS3.8 9.3): requests, acceptances, rejections, aborts.

A request is read once, here, with every length checked against the bytes that are there, and with its numbers bounded;
nothing of it is believed before. `lnfast.node.transport.association` says why this is not left to pynetdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from lnfast.node.transport import contexts

HEAD = struct.Struct(">BxI")
_ITEM = struct.Struct(">BxH")
_REQUEST = struct.Struct(">H2x16s16s32x")
MOST_REQUEST_BYTES = 256 << 10  # 128 contexts of the longest UIDs with 20 transfer syntaxes each
MOST_CONTEXTS = 128  # their ids are the odd numbers of one byte
MOST_SYNTAXES = 4096  # of all contexts together
_MOST_UID = 64
_APPLICATION_CONTEXT_ITEM, _CONTEXT_ITEM, _ANSWERED_CONTEXT_ITEM, _USER_ITEM = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_MAX_LENGTH, _CLASS_UID, _VERSION_NAME = 0x51, 0x52, 0x55
_ACCEPTANCE, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 3, 4


class Kind(IntEnum):
    """Types of PDU."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


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


class Rejection(NamedTuple):
    """An A-ASSOCIATE-RJ in the numbers of PS3.8 table 9-21, and our code for it."""

    result: int
    source: int
    reason: int
    code: str


VERSION_REJECTED = Rejection(1, 2, 2, "protocol-version")
APPLICATION_CONTEXT_REJECTED = Rejection(1, 1, 2, "application-context")
CALLING_AE_TITLE_REJECTED = Rejection(1, 1, 3, "calling-ae-title")
CALLED_AE_TITLE_REJECTED = Rejection(1, 1, 7, "called-ae-title")
TOO_MANY_REJECTED = Rejection(2, 3, 2, "too-many-associations")


class Proposal(NamedTuple):
    """A presentation context of a request."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """An A-ASSOCIATE-RQ.

    Attributes:
        version: the bits of the protocol's versions.
        called, calling: AE titles without the spaces around them, ISO 8859-1.
        application_context: its name.
        proposals: presentation contexts.
        max_length: of a P-DATA-TF that the peer takes; 0 for any.
    """

    version: int
    called: str
    calling: str
    application_context: str
    proposals: tuple[Proposal, ...]
    max_length: int


def read_request(body: bytes) -> Request:
    """Read an A-ASSOCIATE-RQ, without its type and length.

    Raises:
        ViolationError: it is cut short, or has more or other contexts than there can be.
    """
    if len(body) < _REQUEST.size:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    version, called, calling = _REQUEST.unpack_from(body)
    application_context, max_length = "", 0
    proposals: dict[int, Proposal] = {}
    for kind, value in _items(body[_REQUEST.size :]):
        if kind == _APPLICATION_CONTEXT_ITEM:
            application_context = _name(value)
        elif kind == _CONTEXT_ITEM:
            proposal = _proposal(value)
            if proposal.id in proposals:
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            proposals[proposal.id] = proposal
        elif kind == _USER_ITEM:
            max_length = _peer_max_length(value)
    if not proposals or sum(len(each.transfer_syntaxes) for each in proposals.values()) > MOST_SYNTAXES:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    return Request(version, _title(called), _title(calling), application_context, tuple(proposals.values()), max_length)


def negotiate(request: Request, supported: Sequence[contexts.Context]) -> dict[int, tuple[str, str]]:
    """Return id -> SOP class and transfer syntax of the contexts that are accepted: of each our preferred syntax."""
    known = {context.sop_class.uid: [syntax.uid for syntax in context.syntaxes] for context in supported}
    accepted = {}
    for proposal in request.proposals:
        syntaxes = known.get(proposal.abstract_syntax, ())
        chosen = next((syntax for syntax in syntaxes if syntax in proposal.transfer_syntaxes), None)
        if chosen is not None:
            accepted[proposal.id] = (proposal.abstract_syntax, chosen)
    return accepted


def acceptance(request: Request, accepted: dict[int, tuple[str, str]], supported: Sequence[contexts.Context]) -> bytes:
    """Return the A-ASSOCIATE-AC that answers a request."""
    known = {context.sop_class.uid for context in supported}
    items = [_item(_APPLICATION_CONTEXT_ITEM, contexts.APPLICATION_CONTEXT.encode())]
    for proposal in request.proposals:
        if proposal.id in accepted:
            result, syntax = _ACCEPTANCE, accepted[proposal.id][1]
        else:  # the syntax is not significant then
            result = _NO_TRANSFER_SYNTAX if proposal.abstract_syntax in known else _NO_ABSTRACT_SYNTAX
            syntax = contexts.IMPLICIT_LITTLE_ENDIAN
        value = struct.pack(">BxBx", proposal.id, result) + _item(_TRANSFER, syntax.encode())
        items.append(_item(_ANSWERED_CONTEXT_ITEM, value))
    user = (
        _item(_MAX_LENGTH, struct.pack(">I", contexts.MOST_PDU_BYTES)),
        _item(_CLASS_UID, contexts.IMPLEMENTATION_CLASS_UID.encode()),
        _item(_VERSION_NAME, contexts.implementation_version().encode()),
    )
    items.append(_item(_USER_ITEM, b"".join(user)))
    titles = _REQUEST.pack(1, request.called.encode("latin-1").ljust(16), request.calling.encode("latin-1").ljust(16))
    return _pdu(Kind.ASSOCIATE_AC, titles + b"".join(items))


def rejection(why: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ."""
    return _pdu(Kind.ASSOCIATE_RJ, bytes((0, why.result, why.source, why.reason)))


def release_response() -> bytes:
    """Return an A-RELEASE-RP."""
    return _pdu(Kind.RELEASE_RP, bytes(4))


def abort(reason: AbortReason | None = None) -> bytes:
    """Return an A-ABORT: by the provider for a reason, or by the user, who gives none."""
    return _pdu(Kind.ABORT, bytes(4) if reason is None else bytes((0, 0, 2, reason)))


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


def _proposal(value: bytes) -> Proposal:
    if len(value) < 4 or not value[0] & 1:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    abstract = [_name(name) for kind, name in _items(value[4:]) if kind == _ABSTRACT]
    transfers = tuple(_name(name) for kind, name in _items(value[4:]) if kind == _TRANSFER)
    if len(abstract) != 1 or not transfers:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    return Proposal(value[0], abstract[0], transfers)


def _peer_max_length(value: bytes) -> int:
    for kind, length in _items(value):
        if kind == _MAX_LENGTH and len(length) == 4:
            (most,) = struct.unpack(">I", length)
            if 0 < most < 8:  # no room for a fragment of two bytes
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            return int(most)
    return 0


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
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


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _name(value: bytes) -> str:
    """A UID; what is too long for one is equal to none."""
    return value[: _MOST_UID + 1].decode("latin-1").rstrip("\0 ")


def _title(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")


def _pdu(kind: Kind, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body)) + body
