"""An association with a peer, as the one who asks: verify that it answers, and store instances.

Everything is done by the thread that calls; whatever a peer does or does not do ends within the times of `Timeouts`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from lnfast._version import __version__
from lnfast.errors import PeerError, StudyError
from lnfast.node.transport import requestor_pdu as pdu
from lnfast.node.transport.address import Address
from lnfast.node.transport.answers import StoreAnswer, read_status, rejection
from lnfast.node.transport.instance_file import InstanceFile
from lnfast.node.transport.link import Deadline, Link
from lnfast.study import shown

VERIFICATION = pdu.Offer("1.2.840.10008.1.1", "1.2.840.10008.1.2")
IMPLEMENTATION = pdu.Implementation("2.25.136196088088510649443077201481394410320", f"LNFAST_{__version__}"[:16])
_MOST_COMMAND_BYTES = 64 * 1024
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


class Association:
    """One association. It is entered by ``with``, left by a release, and by an abort when something went wrong."""

    def __init__(self, route: Route, contexts: Sequence[pdu.Offer]) -> None:
        """Prepare; nothing is sent yet.

        Args:
            route: to the peer.
            contexts: to propose, at most `pdu.MOST_CONTEXTS`.
        """
        self._route = route
        self._contexts = tuple(contexts)
        self._link = Link(route.peer)
        self._ids: dict[pdu.Offer, int] = {}
        self._fragment_size = 0
        self._message_id = 0
        self._established = False

    def __enter__(self) -> Association:
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
    def rejected(self) -> tuple[pdu.Offer, ...]:
        """The proposed contexts that the peer did not accept."""
        return tuple(context for context in self._contexts if context not in self._ids)

    def echo(self) -> None:
        """Ask the peer to verify that it is there; `VERIFICATION` must have been proposed.

        Raises:
            PeerError: it does not, or not as it should.
            CancelledError: by `cancel`.
        """
        context_id = self._accepted(VERIFICATION)
        message_id = self._next_message_id()
        command = pdu.echo_request(message_id, VERIFICATION.sop_class)
        self._send(pdu.command_fragments(context_id, command, self._fragment_size))
        status = self._answer_to(message_id, pdu.ECHO_RSP)
        if status != 0:
            raise PeerError("bad-answer", f"{self._route.peer} answered the echo with 0x{status:04X}")

    def check_accepted(self, instance: InstanceFile) -> None:
        """Refuse a file that the peer does not take, before anything is sent.

        Raises:
            PeerError: ``context-rejected``.
        """
        self._accepted(pdu.Offer(instance.sop_class, instance.syntax))

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
        context_id = self._accepted(pdu.Offer(instance.sop_class, instance.syntax))
        message_id = self._next_message_id()
        command = pdu.store_request(message_id, instance.sop_class, instance.sop_uid)
        head = pdu.command_fragments(context_id, command, self._fragment_size)
        with open(instance.path, "rb") as file:
            remaining = os.fstat(file.fileno()).st_size - instance.offset
            file.seek(instance.offset)
            while remaining > 0:
                wanted = min(remaining, self._fragment_size)
                data = file.read(wanted)
                if len(data) < wanted:
                    remaining = 0
                    break
                remaining -= wanted
                alive()
                self._send(head + pdu.fragment(context_id, data, command=False, last=remaining == 0))
                head = b""
            else:
                return read_status(self._answer_to(message_id, pdu.STORE_RSP), self._route.peer)
        raise StudyError("truncated", f"{shown(instance.path.name)}: the file became shorter while it was sent")

    def release(self) -> None:
        """End it in agreement with the peer. Every instance has its answer by then: what fails here is no failure."""
        if not self._established:
            return
        self._established = False
        with suppress(PeerError):
            self._link.send(pdu.release_request(), self._route.timeouts.acse_s)
            deadline = Deadline(self._route.timeouts.acse_s)
            for _ in range(_MOST_PDUS):
                kind, _ = self._link.receive(deadline)
                if kind == pdu.RELEASE_RQ:  # both asked at the same time (PS3.8 7.2.2.7)
                    self._link.send(pdu.release_response(), self._route.timeouts.acse_s)
                elif kind != pdu.DATA_TF:
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
        request = pdu.associate_request(route.peer.aet, route.calling, self._contexts, IMPLEMENTATION)
        self._link.send(request, route.timeouts.acse_s)
        kind, body = self._link.receive(Deadline(route.timeouts.acse_s))
        try:
            if kind == pdu.ASSOCIATE_RJ:
                refused = pdu.read_rejection(body)
                raise rejection(refused.result, refused.source, refused.reason, route.peer)
            if kind != pdu.ASSOCIATE_AC:
                raise self._unexpected(kind)
            accepted = pdu.read_acceptance(body)
        except pdu.MalformedError:
            raise PeerError("bad-answer", f"{route.peer} answers with what is no DICOM") from None
        self._ids = {
            context: 2 * index + 1
            for index, context in enumerate(self._contexts)
            if accepted.syntaxes.get(2 * index + 1) == context.syntax
        }
        self._fragment_size = pdu.fragment_size(accepted.max_length)
        self._established = True

    def _accepted(self, context: pdu.Offer) -> int:
        try:
            return self._ids[context]
        except KeyError:
            raise PeerError(
                "context-rejected",
                f"{self._route.peer} does not take objects of SOP class {context.sop_class} in transfer syntax "
                f"{context.syntax}; let it, or do not send them",
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

    def _answer_to(self, message_id: int, command: int) -> int:
        """The status of the answer to a message; afterwards the association stands only if it was a sound one."""
        established, self._established = self._established, False
        try:
            response = self._response()
        except pdu.MalformedError:
            raise self._bad_answer("with what is no DICOM") from None
        if response.command != command or response.message_id != message_id:
            raise self._bad_answer("to another message than the one it was sent")
        if response.status is None:
            raise self._bad_answer("without a status")
        self._established = established
        return response.status

    def _response(self) -> pdu.Response:
        data = b""
        deadline = Deadline(self._route.timeouts.dimse_s)
        for _ in range(_MOST_PDUS):
            kind, body = self._link.receive(deadline)
            if kind != pdu.DATA_TF:
                raise self._unexpected(kind)
            for part, last in pdu.read_fragments(body):
                data += part
                if last:
                    return pdu.read_response(data)
                if len(data) > _MOST_COMMAND_BYTES:
                    raise pdu.MalformedError
        raise pdu.MalformedError

    def _bad_answer(self, how: str) -> PeerError:
        """What is raised after an answer that cannot be trusted; the peer is told that it is over."""
        with suppress(Exception):
            self._link.send(pdu.abort(), 1.0)
        return PeerError("bad-answer", f"{self._route.peer} answers {how}")

    def _unexpected(self, kind: int) -> PeerError:
        if kind in (pdu.ABORT, pdu.RELEASE_RQ):
            how = "aborted" if kind == pdu.ABORT else "released"
            return PeerError("association-aborted", f"{self._route.peer} {how} the association before it answered")
        return self._bad_answer("with a PDU that does not belong here")
