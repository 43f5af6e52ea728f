"""An association with a peer, as the one who asks: verify that it answers, and store instances.

Everything is done by the thread that calls; whatever a peer does or does not do ends within the times of `Timeouts`.

The client is not built on pynetdicom's requestor. Of 3.0.4: it never returns from a peer that stops reading, or that
promises a PDU and does not send it (``Association.kill`` waits for a thread that is in ``send`` or ``recv``); it counts
the time to the answer from before the data has left, so that a slow line is a failure; it does not compare the message
id of the answer; and its two threads poll.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from lnfast.errors import PeerError, StudyError
from lnfast.node.client.answers import StoreAnswer, read_status, rejection
from lnfast.node.client.instance_file import InstanceFile
from lnfast.node.config.address import Address
from lnfast.node.transport import contexts, messages, pdu
from lnfast.node.transport.link import Link
from lnfast.node.transport.pdu import AbortReason, Kind, ViolationError
from lnfast.node.transport.requestor_pdu import (
    Offer,
    associate_request,
    context_id,
    read_acceptance,
    read_rejection,
    release_request,
)
from lnfast.study import shown

VERIFICATION = Offer(contexts.VERIFICATION.uid, contexts.IMPLICIT_LITTLE_ENDIAN)
_MOST_PDUS = 64  # of one answer


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Timeouts:
    """How long a peer may take, seconds.

    Attributes:
        connect_s: for the connection to an address, and for the handshake of TLS.
        acse_s: for the answer to a request for an association or its release.
        dimse_s: for the answer to a message, counted from its last byte.
        network_s: for taking the next 128 KiB of a message.
    """

    connect_s: float = 10.0
    acse_s: float = 10.0
    dimse_s: float = 30.0
    network_s: float = 60.0


@dataclass(frozen=True)
class Route:
    """How a peer is reached.

    Attributes:
        peer: where it is.
        calling: our AE title.
        tls: None for plain TCP.
        timeouts: for its answers.
    """

    peer: Address
    calling: str
    tls: ssl.SSLContext | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)


class ClientAssociation:
    """One association. It is entered by ``with``, left by a release, and by an abort when something went wrong."""

    def __init__(self, route: Route, offers: Sequence[Offer]) -> None:
        """Prepare; nothing is sent yet.

        Args:
            route: to the peer.
            offers: contexts to propose, at most `pdu.MOST_CONTEXTS`.
        """
        self._route = route
        self._offers = tuple(offers)
        self._link = Link(route.peer)
        self._ids: dict[Offer, int] = {}
        self._max_length = 0
        self._message_id = 0
        self._established = False

    def __enter__(self) -> ClientAssociation:
        """Ask for the association.

        Raises:
            PeerError: the peer is not reached or rejects it.
            CancelledError: by `cancel`.
        """
        try:
            self._associate()
        except BaseException:
            self._link.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.release() if error is None else self.abort()
        finally:
            self._link.close()

    @property
    def usable(self) -> bool:
        """Whether it still stands, so far as is known without asking."""
        return self._established

    @property
    def rejected(self) -> tuple[Offer, ...]:
        """The proposed contexts that the peer did not accept."""
        return tuple(offer for offer in self._offers if offer not in self._ids)

    def echo(self) -> None:
        """Ask the peer to verify that it is there; `VERIFICATION` must have been proposed.

        Raises:
            PeerError: it does not, or not as it should.
            CancelledError: by `cancel`.
        """
        identity = self._accepted(VERIFICATION)
        message_id = self._next_message_id()
        command = messages.echo_request(message_id)
        self._send(messages.command_pdus(identity, command, self._max_length))
        status = self._answer_to(message_id, messages.ECHO_RSP)
        if status != 0:
            raise PeerError("bad-answer", f"{self._route.peer} answered the echo with 0x{status:04X}")

    def takes(self, sop_class: str, syntax: str) -> bool:
        """Whether the peer accepted a context that was proposed."""
        return Offer(sop_class, syntax) in self._ids

    def check_accepted(self, instance: InstanceFile) -> None:
        """Refuse a file that the peer does not take, before anything is sent.

        Raises:
            PeerError: ``context-rejected``.
        """
        self._accepted(Offer(instance.sop_class, instance.syntax))

    def store(self, instance: InstanceFile, alive: Callable[[], None] = _nothing) -> StoreAnswer:
        """Send a file, byte for byte as it is, and return the peer's answer to it.

        Args:
            instance: the file.
            alive: called before each wait, which is not longer than the times for the network and for an answer.

        Raises:
            PeerError: ``context-rejected``, after which other instances can be stored; or the association broke.
            StudyError: ``truncated``: the file became shorter since its head was read.
            OSError: the file cannot be read.
            CancelledError: by `cancel`.
        """
        identity = self._accepted(Offer(instance.sop_class, instance.syntax))
        message_id = self._next_message_id()
        command = messages.store_request(message_id, instance.sop_class, instance.sop_uid)
        head = messages.command_pdus(identity, command, self._max_length)
        with open(instance.path, "rb") as file:
            remaining = os.fstat(file.fileno()).st_size - instance.offset
            file.seek(instance.offset)
            while remaining > 0:
                data = file.read(min(remaining, messages.fragment_size(self._max_length)))
                if not data:
                    raise StudyError("truncated", f"{shown(instance.path.name)}: the file became shorter by now")
                remaining -= len(data)
                alive()
                self._send(head + messages.data_pdu(identity, data, last=remaining == 0))
                head = b""
        return read_status(self._answer_to(message_id, messages.STORE_RSP, alive), self._route.peer)

    def release(self) -> None:
        """End it in agreement with the peer. Every instance has its answer by then: what fails here is no failure."""
        if not self._established:
            return
        self._established = False
        with suppress(PeerError):
            self._link.send(release_request(), self._route.timeouts.acse_s)
            deadline = time.monotonic() + self._route.timeouts.acse_s
            for _ in range(_MOST_PDUS):
                kind, _ = self._link.receive(deadline, self._route.timeouts.acse_s)
                if kind == Kind.RELEASE_RQ:  # both asked at the same time (PS3.8 7.2.2.7)
                    self._link.send(pdu.release_response(), self._route.timeouts.acse_s)
                elif kind != Kind.DATA:
                    break
            self._link.close(gently=True)

    def abort(self) -> None:
        """End it at once, and tell the peer."""
        if self._established:
            self._established = False
            with suppress(Exception):
                self._link.send(pdu.abort(), 1.0)
        self._link.close()

    def cancel(self) -> None:
        """End it from another thread: the call that is running raises a `CancelledError`."""
        self._link.cancel()

    def _associate(self) -> None:
        route = self._route
        self._link.connect(route.tls, route.timeouts.connect_s)
        request = associate_request(route.peer.aet, route.calling, self._offers)
        deadline = time.monotonic() + route.timeouts.acse_s
        self._link.send(request, route.timeouts.acse_s)
        kind, body = self._link.receive(deadline, route.timeouts.acse_s)
        try:
            if kind == Kind.ASSOCIATE_RJ:
                raise rejection(*read_rejection(body), route.peer)
            if kind != Kind.ASSOCIATE_AC:
                raise self._unexpected(kind)
            accepted = read_acceptance(body)
        except ViolationError:
            raise PeerError("bad-answer", f"{route.peer} answers with what is no DICOM") from None
        self._ids = {
            offer: context_id(index)
            for index, offer in enumerate(self._offers)
            if accepted.syntaxes.get(context_id(index)) == offer.syntax
        }
        self._max_length = accepted.max_length
        self._established = True

    def _accepted(self, offer: Offer) -> int:
        try:
            return self._ids[offer]
        except KeyError:
            raise PeerError(
                "context-rejected",
                f"{self._route.peer} does not take objects of SOP class {offer.sop_class} in transfer syntax "
                f"{offer.syntax}; let it, or do not send them",
            ) from None

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _send(self, data: bytes) -> None:
        try:
            self._link.send(data, self._route.timeouts.network_s)
        except PeerError:
            self._established = False
            raise

    def _answer_to(self, message_id: int, command: int, alive: Callable[[], None] = _nothing) -> int:
        """The status of the answer to a message; afterwards the association stands only if it was a sound one."""
        established, self._established = self._established, False
        self._link.flush(self._route.timeouts.network_s, alive)
        try:
            response = self._response()
        except ViolationError:
            raise self._bad_answer("with what is no DICOM") from None
        if response.field != command or response.message_id != message_id:
            raise self._bad_answer("to another message than the one it was sent")
        self._established = established
        return response.status

    def _response(self) -> messages.Response:
        data = b""
        deadline = time.monotonic() + self._route.timeouts.dimse_s
        for _ in range(_MOST_PDUS):
            kind, body = self._link.receive(deadline, self._route.timeouts.dimse_s)
            if kind != Kind.DATA:
                raise self._unexpected(kind)
            for _, control, part in pdu.read_fragments(memoryview(body)):
                data += part
                if not control & messages.COMMAND or len(data) > messages.MOST_COMMAND_BYTES:
                    raise ViolationError(AbortReason.INVALID_PARAMETER)
                if control & messages.LAST:
                    return messages.read_response(data)
        raise ViolationError(AbortReason.INVALID_PARAMETER)

    def _bad_answer(self, how: str) -> PeerError:
        """What is raised after an answer that cannot be trusted; the peer is told that it is over."""
        with suppress(Exception):
            self._link.send(pdu.abort(), 1.0)
        return PeerError("bad-answer", f"{self._route.peer} answers {how}")

    def _unexpected(self, kind: int) -> PeerError:
        if kind in (Kind.ABORT, Kind.RELEASE_RQ):
            how = "aborted" if kind == Kind.ABORT else "released"
            return PeerError("association-aborted", f"{self._route.peer} {how} the association before it answered")
        return self._bad_answer("with a PDU that does not belong here")
