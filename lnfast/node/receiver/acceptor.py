"""Where connections wait until their first PDU is whole: one thread for all, none for a peer that says nothing.

pynetdicom gives each connection two threads that poll a thousand times a second, before the peer has said a word, and
makes the handshake of TLS in the thread that accepts: a hundred silent sockets stop its server, under TLS one does.
Here a silent socket costs a descriptor and the bytes it sent. The number that may wait is bounded; beyond it the one
that has waited longest is closed, so that a peer that speaks at once always gets through.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lnfast.node.monitor.life import Life
from lnfast.node.monitor.logs import place
from lnfast.node.transport.acceptor_pdu import MOST_REQUEST_BYTES, AssociateRequest, Rejection, read_request, rejection
from lnfast.node.transport.pdu import HEAD, KINDS, AbortReason, Kind, ViolationError, abort
from lnfast.node.transport.sockets import make_prompt, notice_death

_logger = logging.getLogger("lnfast.node.receiver")
ROOM = 256  # connections that may wait
_READ_BYTES = 64 << 10
_LAST_WORDS_S = 2.0  # for a peer to read why it is sent away
_MOST_AT_ONCE = 64  # connections that are accepted before those that wait are served
_PAUSE_S = 0.1  # after an accept that the system refused
_LOOP_S = 0.5


@dataclass(frozen=True)
class Requestor:
    """A peer whose first PDU was a sound A-ASSOCIATE-RQ.

    Attributes:
        connection: blocking, after the handshake of TLS.
        address: of the peer.
        request: what it wants.
    """

    connection: socket.socket
    address: str
    request: AssociateRequest


@dataclass
class _Pending:
    """A connection that waits.

    Attributes:
        leaving: it got its answer, and what it still sends is thrown away.
    """

    connection: socket.socket
    address: str
    deadline: float
    handshaking: bool
    leaving: bool = False
    received: bytearray = field(default_factory=bytearray)


class Acceptor:
    """Accepts connections and reads their first PDU, in a thread of its own.

    Args:
        listener: bound and listening; the acceptor closes it.
        tls: for TLS; None for none.
        admit: takes a requestor over and returns None, or returns why it is rejected. It may not wait.
        refused: gets the code and the address of each connection that does not become an association.
        seconds: from connecting to a whole request.
        stop: file descriptor; once it is readable nothing is accepted any more, and what waits is closed.
    """

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        admit: Callable[[Requestor], Rejection | None],
        refused: Callable[[str, str], None],
        *,
        seconds: float,
        stop: int,
    ) -> None:
        self._listener = listener
        self._tls, self._admit, self._refused = tls, admit, refused
        self._seconds, self._stop = seconds, stop
        self._pending: dict[socket.socket, _Pending] = {}  # in the order in which they came
        self._selector = selectors.DefaultSelector()
        self.life = Life("lnfast-receiver")
        self.thread = threading.Thread(target=self._run, name="lnfast-receiver", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        self.thread.start()

    def _run(self) -> None:
        try:
            stopping = False
            while not stopping:
                self.life.beat()
                for key, _ in self._selector.select(_LOOP_S):
                    if key.fileobj == self._stop:
                        stopping = True
                    elif key.fileobj is self._listener:
                        self._accept()
                    elif key.data.connection in self._pending:  # it may have been closed in this round
                        self._serve(key.data)
                self._end_the_slow()
        finally:
            for pending in list(self._pending.values()):
                self._close(pending)
            self._selector.close()
            self._listener.close()

    def _accept(self) -> None:
        """Accept the connections that there are, or many of them."""
        for _ in range(_MOST_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is free: who has waited longest gives one back
                _logger.warning("a connection could not be accepted", exc_info=error, extra={"code": "no-descriptor"})
                self._make_room(len(self._pending) - 1)
                time.sleep(_PAUSE_S)
                return
            self._add(connection, str(address[0]))

    def _add(self, connection: socket.socket, address: str) -> None:
        try:
            make_prompt(connection)
            notice_death(connection)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            connection.setblocking(False)
        except OSError:  # it is gone already
            connection.close()
            return
        self._make_room(ROOM - 1)
        pending = _Pending(connection, address, time.monotonic() + self._seconds, self._tls is not None)
        self._pending[connection] = pending
        self._selector.register(connection, selectors.EVENT_READ, pending)

    def _make_room(self, most: int) -> None:
        while len(self._pending) > max(most, 0):
            oldest = next(iter(self._pending.values()))
            self._refused("crowded-out", oldest.address)
            self._close(oldest)

    def _end_the_slow(self) -> None:
        now = time.monotonic()
        for pending in [pending for pending in self._pending.values() if pending.deadline < now]:
            if not pending.leaving:
                self._refused("no-request", pending.address)
            self._close(pending)

    def _serve(self, pending: _Pending) -> None:
        try:
            self._receive(pending)
        except Exception as error:  # whatever one peer does, the others are served
            _logger.error("%s at %s ended a connection", type(error).__name__, place(error))
            if pending.connection in self._pending:
                self._forget(pending)
            pending.connection.close()

    def _receive(self, pending: _Pending) -> None:
        """Take what a connection sent."""
        try:
            if pending.handshaking and not self._shake_hands(pending):
                return
            data = pending.connection.recv(_READ_BYTES)
            while data and isinstance(pending.connection, ssl.SSLSocket) and pending.connection.pending():
                data += pending.connection.recv(_READ_BYTES)  # the selector does not see what TLS holds
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLError:
            self._refused("tls-failed", pending.address)
            self._close(pending)
            return
        except OSError:
            data = b""
        if not data:
            if not pending.leaving:
                self._refused("no-request", pending.address)
            self._close(pending)
        elif not pending.leaving:
            pending.received += data
            self._read(pending)

    def _shake_hands(self, pending: _Pending) -> bool:
        assert isinstance(pending.connection, ssl.SSLSocket)
        try:
            pending.connection.do_handshake()
        except ssl.SSLWantWriteError:
            self._selector.modify(pending.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, pending)
            return False
        except ssl.SSLWantReadError:
            self._selector.modify(pending.connection, selectors.EVENT_READ, pending)
            return False
        self._selector.modify(pending.connection, selectors.EVENT_READ, pending)
        pending.handshaking = False
        return True

    def _read(self, pending: _Pending) -> None:
        """Read the first PDU, if it is whole."""
        data = pending.received
        try:
            if len(data) < HEAD.size:
                return
            kind, length = HEAD.unpack_from(data)
            if kind == Kind.ABORT:
                self._refused("no-request", pending.address)
                self._close(pending)
                return
            if kind != Kind.ASSOCIATE_RQ:
                known = kind in KINDS
                raise ViolationError(AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNIZED_PDU)
            if length > MOST_REQUEST_BYTES:
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            if len(data) < HEAD.size + length:
                return
            if len(data) > HEAD.size + length:  # it did not wait for the answer
                raise ViolationError(AbortReason.UNEXPECTED_PDU)
            request = read_request(bytes(data[HEAD.size :]))
        except ViolationError as violation:
            self._refused("bad-request", pending.address)
            self._send_away(pending, abort(violation.reason))
            return
        self._forget(pending)
        pending.connection.setblocking(True)
        why = self._admit(Requestor(pending.connection, pending.address, request))
        if why is not None:
            pending.connection.setblocking(False)
            self._pending[pending.connection] = pending
            self._selector.register(pending.connection, selectors.EVENT_READ, pending)
            self._send_away(pending, rejection(why))

    def _send_away(self, pending: _Pending, last_words: bytes) -> None:
        """Answer, and close once the peer has closed or had time to read it.

        Closing at once would reset the connection while the peer's bytes are unread, and it might never see the answer.
        """
        pending.leaving = True
        pending.received.clear()
        pending.deadline = time.monotonic() + _LAST_WORDS_S
        try:
            pending.connection.send(last_words)  # ten bytes always fit
            socket.socket.shutdown(pending.connection, socket.SHUT_WR)
        except OSError:
            self._close(pending)

    def _forget(self, pending: _Pending) -> None:
        del self._pending[pending.connection]
        self._selector.unregister(pending.connection)

    def _close(self, pending: _Pending) -> None:
        self._forget(pending)
        pending.connection.close()
