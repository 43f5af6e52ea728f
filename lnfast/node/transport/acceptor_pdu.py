"""What an acceptor reads and writes of the upper layer protocol (PS3.8 9.3): requests, acceptances, rejections, aborts.

A request is read once, here, with every length checked against the bytes that are there, and with its numbers bounded;
nothing of it is believed before. `lnfast.node.receiver.association` says why this is not left to pynetdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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

_REQUEST = struct.Struct(">H2x16s16s32x")
MOST_REQUEST_BYTES = 256 << 10  # 128 contexts with 28 transfer syntaxes each, all of the longest UIDs
_ACCEPTANCE, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 3, 4


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
REJECTIONS = (
    CALLED_AE_TITLE_REJECTED,
    CALLING_AE_TITLE_REJECTED,
    APPLICATION_CONTEXT_REJECTED,
    VERSION_REJECTED,
    TOO_MANY_REJECTED,
)


class Proposal(NamedTuple):
    """A presentation context of a request."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AssociateRequest:
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


def read_request(body: bytes) -> AssociateRequest:
    """Read an A-ASSOCIATE-RQ, without its type and length.

    Raises:
        ViolationError: it is cut short, or has more or other contexts than there can be.
    """
    if len(body) < _REQUEST.size:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    version, called, calling = _REQUEST.unpack_from(body)
    application_context, max_length = "", 0
    proposals: dict[int, Proposal] = {}
    for kind, value in items(body[_REQUEST.size :]):
        if kind == APPLICATION_CONTEXT_ITEM:
            application_context = uid(value)
        elif kind == CONTEXT_ITEM:
            proposal = _proposal(value)
            if proposal.id in proposals:
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            proposals[proposal.id] = proposal
        elif kind == USER_ITEM:
            max_length = peer_max_length(value)
    if not proposals:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    return AssociateRequest(
        version, _title(called), _title(calling), application_context, tuple(proposals.values()), max_length
    )


def negotiate(request: AssociateRequest, supported: Sequence[contexts.Context]) -> dict[int, tuple[str, str]]:
    """Return id -> SOP class and transfer syntax of the contexts that are accepted: of each our preferred syntax."""
    known = {context.sop_class.uid: [syntax.uid for syntax in context.syntaxes] for context in supported}
    accepted = {}
    for proposal in request.proposals:
        syntaxes = known.get(proposal.abstract_syntax, ())
        chosen = next((syntax for syntax in syntaxes if syntax in proposal.transfer_syntaxes), None)
        if chosen is not None:
            accepted[proposal.id] = (proposal.abstract_syntax, chosen)
    return accepted


def acceptance(
    request: AssociateRequest, accepted: dict[int, tuple[str, str]], supported: Sequence[contexts.Context]
) -> bytes:
    """Return the A-ASSOCIATE-AC that answers a request."""
    known = {context.sop_class.uid for context in supported}
    answers = [item(APPLICATION_CONTEXT_ITEM, contexts.APPLICATION_CONTEXT.encode())]
    for proposal in request.proposals:
        if proposal.id in accepted:
            result, syntax = _ACCEPTANCE, accepted[proposal.id][1]
        else:  # the syntax is not significant then
            result = _NO_TRANSFER_SYNTAX if proposal.abstract_syntax in known else _NO_ABSTRACT_SYNTAX
            syntax = contexts.IMPLICIT_LITTLE_ENDIAN
        value = struct.pack(">BxBx", proposal.id, result) + item(TRANSFER_SYNTAX, syntax.encode())
        answers.append(item(ANSWERED_CONTEXT_ITEM, value))
    answers.append(
        user_item(contexts.MOST_PDU_BYTES, contexts.IMPLEMENTATION_CLASS_UID, contexts.implementation_version())
    )
    titles = _REQUEST.pack(1, request.called.encode("latin-1").ljust(16), request.calling.encode("latin-1").ljust(16))
    return whole(Kind.ASSOCIATE_AC, titles + b"".join(answers))


def rejection(why: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ."""
    return whole(Kind.ASSOCIATE_RJ, bytes((0, why.result, why.source, why.reason)))


def _proposal(value: bytes) -> Proposal:
    if len(value) < 4 or not value[0] & 1:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    abstract = [uid(name) for kind, name in items(value[4:]) if kind == ABSTRACT_SYNTAX]
    transfers = tuple(uid(name) for kind, name in items(value[4:]) if kind == TRANSFER_SYNTAX)
    if len(abstract) != 1 or not transfers:
        raise ViolationError(AbortReason.INVALID_PARAMETER)
    return Proposal(value[0], abstract[0], transfers)


def _title(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")
