"""One association with a sender, from the answer to its request until its end, in one thread.

The receiver is not built on pynetdicom's acceptor, which the tests use as a peer. Of 3.0.4: it reads as many bytes as a
length promises, 4 GiB too (its issue 1086), and waits for them without an end, in a thread that nothing ends; it queues
messages of a sender that does not wait for answers without bound; it collects an instance in memory, or in a temporary
file that an abort leaves behind; a request without a UID gets no answer at all; and what goes wrong is logged with its
values. To mend that means to replace its reader, its DIMSE and its threads, which is all that an acceptor of two
services consists of. Without two polling threads an association also costs nothing while it is quiet.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from lnfast.node.receiver.instance import SUCCESS, Incoming, Refusal
from lnfast.node.transport import contexts, pdu
from lnfast.node.transport.acceptor_pdu import AssociateRequest, acceptance, negotiate
from lnfast.node.transport.messages import (
    CANCEL_RQ,
    COMMAND,
    ECHO_RQ,
    LAST,
    MOST_COMMAND_BYTES,
    STORE_RQ,
    Command,
    command_pdus,
    read_command,
    response,
)
from lnfast.node.transport.pdu import AbortReason, Kind, ViolationError
from lnfast.node.transport.sockets import ConnectionLostError, SlowPeerError, Wire

Ending = Literal["released", "aborted", "lost", "idle"]
_MOST_PDU = 1 << 20  # some senders exceed what was announced; memory stays bounded all the same
_MOST_SHORT_PDU = 64  # release and abort have 4 bytes
_RELEASE_S = 0.2  # within which a sender that has got its last answer releases; the receiver that stops waits for it


@dataclass(frozen=True)
class Limits:
    """How long a receiver waits, in seconds, and for how much.

    Attributes:
        request_s: from connecting to a whole A-ASSOCIATE-RQ.
        idle_s: for the next message. Some senders keep an association open between two series; a peer that was
            switched off is found sooner, see `notice_death`.
        pdu_s: from the first byte of a PDU to its last, and for a PDU to be taken by the peer.
        message_s: for the next PDU of a message; and for all of it, besides what its bytes take at ``least_bytes_s``.
        least_bytes_s: a message that comes slower on the average is given up.
        most_message_bytes: of a data set, also of one that is thrown away; beyond it the association is aborted.
        drain_s: at `Receiver.stop`, for the instances that are arriving.
    """

    request_s: float = 10.0
    idle_s: float = 300.0
    pdu_s: float = 30.0
    message_s: float = 60.0
    least_bytes_s: float = 16384.0
    most_message_bytes: int = 1 << 30
    drain_s: float = 10.0


class Store(Protocol):
    """What takes the instances of an association."""

    def begin(self, command: Command, context: tuple[str, str]) -> Incoming:
        """Begin to take an instance."""

    def end(self, incoming: Incoming) -> Refusal | None:
        """Store an instance that has come whole; return why not."""

    def lose(self, incoming: Incoming) -> None:
        """Note an instance of which only a part came before the association ended."""

    def release(self) -> None:
        """Note that the sender has nothing more to give, before it is told that this is known."""


class AcceptedAssociation:
    """An association that the receiver granted.

    Args:
        wire: connection.
        request: of the peer.
        supported: contexts.
        store: what takes its instances.
        limits: of time.
        stop: file descriptor that becomes readable when the receiver stops.
    """

    def __init__(
        self,
        wire: Wire,
        request: AssociateRequest,
        supported: tuple[contexts.Context, ...],
        store: Store,
        limits: Limits,
        stop: int,
    ) -> None:
        self._wire, self._request, self._store = wire, request, store
        self._limits, self._stop = limits, stop
        self._supported = supported
        self.accepted = negotiate(request, supported)
        self.violation: AbortReason | None = None
        self._message = _Message()

    def run(self) -> Ending:
        """Answer the request, then what the peer asks, until the end; the connection is left to the caller."""
        try:
            self._write(acceptance(self._request, self.accepted, self._supported))
            while True:
                ending = self._next()
                if ending is not None:
                    return ending
        except ViolationError as violation:
            self.violation = violation.reason
            return self._abort(violation.reason, "aborted")
        except SlowPeerError:
            return self._abort(AbortReason.NOT_SPECIFIED, "lost")
        except ConnectionLostError:
            return "lost"
        except Exception:
            self._abort(AbortReason.NOT_SPECIFIED, "aborted")
            raise
        finally:
            try:
                if self._message.incoming is not None:
                    self._store.lose(self._message.incoming)
            finally:
                self._message.discard()

    def _next(self) -> Ending | None:
        """Read one PDU and do what it says; return how the association ended, if it did."""
        idle = self._message.is_idle
        waited = self._wire.wait(self._limits.idle_s if idle else self._limits.message_s, self._stop if idle else None)
        if waited == "stop" and self._wire.wait(_RELEASE_S) != "data":
            return self._abort(None, "aborted")
        if waited == "nothing":
            return self._abort(AbortReason.NOT_SPECIFIED, "idle" if idle else "lost")
        kind, body = self._read()
        if waited == "stop" and kind == Kind.DATA:  # the next instance would come
            return self._abort(None, "aborted")
        if kind == Kind.DATA:
            for context_id, control, data in pdu.read_fragments(body):
                self._take(context_id, control, data)
            self._check_progress()
            return None
        if kind == Kind.ABORT:
            return "aborted"
        if kind == Kind.RELEASE_RQ and idle:
            self._store.release()
            self._write(pdu.release_response())
            return "released"
        raise ViolationError(AbortReason.UNEXPECTED_PDU)

    def _read(self) -> tuple[int, memoryview]:
        deadline = time.monotonic() + self._limits.pdu_s
        kind, length = pdu.HEAD.unpack(self._wire.read(pdu.HEAD.size, deadline))
        if kind not in pdu.KINDS:
            raise ViolationError(AbortReason.UNRECOGNIZED_PDU)
        if kind in (Kind.ASSOCIATE_RQ, Kind.ASSOCIATE_AC, Kind.ASSOCIATE_RJ, Kind.RELEASE_RP):
            raise ViolationError(AbortReason.UNEXPECTED_PDU)
        if length > (_MOST_PDU if kind == Kind.DATA else _MOST_SHORT_PDU):
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        return kind, self._wire.read(length, deadline)

    def _write(self, data: bytes) -> None:
        self._wire.write(data, self._limits.pdu_s)

    def _abort(self, reason: AbortReason | None, ending: Ending) -> Ending:
        with suppress(ConnectionLostError, SlowPeerError):
            self._wire.write(pdu.abort(reason), 1.0)
        return ending

    def _take(self, context_id: int, control: int, data: memoryview) -> None:
        """Take a fragment of a message."""
        context = self.accepted.get(context_id)
        if context is None:
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        message = self._message
        if control & COMMAND:
            message.add_command(context_id, data)
            if not control & LAST:
                return
            command = message.end_command()
            if command.has_data_set:
                message.incoming = self._begin(command, context)
                return
        else:
            message.add_data(context_id, data)
            if not control & LAST:
                return
        self._message = _Message()
        self._answer(context_id, message)

    def _begin(self, command: Command, context: tuple[str, str]) -> Incoming:
        if command.field != STORE_RQ or context[0] == contexts.VERIFICATION.uid:
            raise ViolationError(AbortReason.UNEXPECTED_PARAMETER)
        return self._store.begin(command, context)

    def _answer(self, context_id: int, message: _Message) -> None:
        command = message.command
        assert command is not None
        if command.field == CANCEL_RQ:  # there is nothing that could be cancelled
            return
        if command.field == ECHO_RQ and message.incoming is None:
            status, comment = SUCCESS, ""
        elif message.incoming is not None:
            try:
                refusal = self._store.end(message.incoming)
            finally:
                message.discard()
            status, comment = (refusal.status, refusal.comment) if refusal else (SUCCESS, "")
        else:
            raise ViolationError(AbortReason.UNEXPECTED_PARAMETER)
        self._write(command_pdus(context_id, response(command, status, comment), self._request.max_length))

    def _check_progress(self) -> None:
        """End what would never end: a message without an end, or one that trickles."""
        message = self._message
        if message.is_idle:
            return
        if message.size > self._limits.most_message_bytes:
            raise ViolationError(AbortReason.NOT_SPECIFIED)
        if time.monotonic() - message.begun > self._limits.message_s + message.size / self._limits.least_bytes_s:
            raise SlowPeerError


class _Message:
    """A DIMSE message that arrives: command set, then data set."""

    def __init__(self) -> None:
        self.command: Command | None = None
        self.incoming: Incoming | None = None
        self.begun = time.monotonic()
        self.size = 0
        self._context_id = 0  # no context has it
        self._command = bytearray()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it has come."""
        return not self._context_id

    def add_command(self, context_id: int, data: memoryview) -> None:
        """Add a fragment of the command set."""
        if self.is_idle:
            self.begun = time.monotonic()
        self._join(context_id)
        self._command += data
        if self.command is not None or len(self._command) > MOST_COMMAND_BYTES:
            raise ViolationError(AbortReason.INVALID_PARAMETER)

    def end_command(self) -> Command:
        """Read the command set, of which the last fragment was added."""
        self.command = read_command(bytes(self._command))
        return self.command

    def add_data(self, context_id: int, data: memoryview) -> None:
        """Add a fragment of the data set."""
        if self.incoming is None:
            raise ViolationError(AbortReason.UNEXPECTED_PARAMETER)
        self._join(context_id)
        self.size += len(data)
        self.incoming.write(data)

    def discard(self) -> None:
        """Throw away what has come of a data set."""
        if self.incoming is not None:
            self.incoming.discard()

    def _join(self, context_id: int) -> None:
        if self._context_id not in (0, context_id):
            raise ViolationError(AbortReason.INVALID_PARAMETER)
        self._context_id = context_id
