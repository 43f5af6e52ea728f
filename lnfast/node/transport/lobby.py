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

from lnfast.node.life import Life
from lnfast.node.transport.acceptor_pdu import MOST_REQUEST_BYTES, Rejection, Request, read_request, rejection
from lnfast.node.transport.pdu import HEAD, AbortReason, Kind, ViolationError, abort
from lnfast.node.transport.sockets import make_prompt

_logger = logging.getLogger("lnfast.node.receiver")
_READ_BYTES = 64 << 10
_LAST_WORDS_S = 2.0  # for a peer to read why it is sent away
_PAUSE_S = 0.1  # after an accept that the system refused
_LOOP_S = 0.5


@dataclass(frozen=True)
class Caller:
    """A peer whose first PDU was a sound A-ASSOCIATE-RQ.

    Attributes:
        connection: blocking, after the handshake of TLS.
        address: of the peer.
        request: what it wants.
    """

    connection: socket.socket
    address: str
    request: Request


@dataclass
class _Guest:
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


class Lobby:
    """Accepts connections and reads their first PDU, in a thread of its own.

    Args:
        listener: bound and listening; the lobby closes it.
        tls: for TLS; None for none.
        admit: takes a caller over and returns None, or returns why it is rejected. In the lobby's thread: it may not
            wait.
        count: gets the code of each connection that does not become an association.
        seconds: from connecting to a whole request.
        room: how many may wait.
    """

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        admit: Callable[[Caller], Rejection | None],
        count: Callable[[str], None],
        *,
        seconds: float,
        room: int = 256,
    ) -> None:
        self._listener = listener
        self._tls, self._admit, self._count = tls, admit, count
        self._seconds, self._room = seconds, room
        self._guests: dict[socket.socket, _Guest] = {}  # in the order in which they came
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self.life = Life("lnfast-receiver")
        self.thread = threading.Thread(target=self._run, name="lnfast-receiver", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.thread.start()

    def stop(self) -> None:
        """Accept nothing any more and close what waits; who is connected to an association stays."""
        self._stopping.set()
        self.thread.join()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self.thread.is_alive()

    def waiting(self) -> int:
        """Return how many connections wait."""
        return len(self._guests)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.life.beat()
                for key, _ in self._selector.select(_LOOP_S):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data in self._guests.values():  # it may have been sent away in this round
                        self._hear(key.data)
                self._end_the_slow()
        finally:
            for guest in list(self._guests.values()):
                self._close(guest)
            self._selector.close()
            self._listener.close()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is free: whoever waits longest gives one back
            _logger.warning("a connection could not be accepted", exc_info=error, extra={"code": "no-descriptor"})
            self._make_room(len(self._guests) - 1)
            time.sleep(_PAUSE_S)
            return
        try:
            make_prompt(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            connection.setblocking(False)
        except OSError:  # it is gone already
            connection.close()
            return
        self._make_room(self._room - 1)
        guest = _Guest(connection, address[0], time.monotonic() + self._seconds, self._tls is not None)
        self._guests[connection] = guest
        self._selector.register(connection, selectors.EVENT_READ, guest)

    def _make_room(self, most: int) -> None:
        while len(self._guests) > max(most, 0):
            self._count("crowded-out")
            self._close(next(iter(self._guests.values())))

    def _end_the_slow(self) -> None:
        now = time.monotonic()
        for guest in [guest for guest in self._guests.values() if guest.deadline < now]:
            if not guest.leaving:
                self._count("no-request")
            self._close(guest)

    def _hear(self, guest: _Guest) -> None:
        """Take what a guest sent."""
        try:
            if guest.handshaking and not self._shake_hands(guest):
                return
            data = guest.connection.recv(_READ_BYTES)
            while data and isinstance(guest.connection, ssl.SSLSocket) and guest.connection.pending():
                data += guest.connection.recv(_READ_BYTES)  # the selector does not see what TLS holds
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLError:
            self._count("tls-failed")
            self._close(guest)
            return
        except OSError:
            data = b""
        if not data:
            if not guest.leaving:
                self._count("no-request")
            self._close(guest)
        elif not guest.leaving:
            guest.received += data
            self._read(guest)

    def _shake_hands(self, guest: _Guest) -> bool:
        assert isinstance(guest.connection, ssl.SSLSocket)
        try:
            guest.connection.do_handshake()
        except ssl.SSLWantWriteError:
            self._selector.modify(guest.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, guest)
            return False
        except ssl.SSLWantReadError:
            self._selector.modify(guest.connection, selectors.EVENT_READ, guest)
            return False
        self._selector.modify(guest.connection, selectors.EVENT_READ, guest)
        guest.handshaking = False
        return True

    def _read(self, guest: _Guest) -> None:
        """Read the first PDU, if it is whole."""
        data = guest.received
        try:
            if len(data) < HEAD.size:
                return
            kind, length = HEAD.unpack_from(data)
            if kind == Kind.ABORT:
                self._count("no-request")
                self._close(guest)
                return
            if kind != Kind.ASSOCIATE_RQ:
                known = kind in Kind._value2member_map_
                raise ViolationError(AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNIZED_PDU)
            if length > MOST_REQUEST_BYTES:
                raise ViolationError(AbortReason.INVALID_PARAMETER)
            if len(data) < HEAD.size + length:
                return
            if len(data) > HEAD.size + length:  # it did not wait for the answer
                raise ViolationError(AbortReason.UNEXPECTED_PDU)
            request = read_request(bytes(data[HEAD.size :]))
        except ViolationError as violation:
            self._count("bad-request")
            self._send_away(guest, abort(violation.reason))
            return
        self._forget(guest)
        guest.connection.setblocking(True)
        why = self._admit(Caller(guest.connection, guest.address, request))
        if why is not None:
            guest.connection.setblocking(False)
            self._guests[guest.connection] = guest
            self._selector.register(guest.connection, selectors.EVENT_READ, guest)
            self._count(why.code)
            self._send_away(guest, rejection(why))

    def _send_away(self, guest: _Guest, last_words: bytes) -> None:
        """Answer, and close once the peer has closed or had time to read it.

        Closing at once would reset the connection while the peer's bytes are unread, and it might never see the answer.
        """
        guest.leaving = True
        guest.received.clear()
        guest.deadline = time.monotonic() + _LAST_WORDS_S
        try:
            guest.connection.send(last_words)  # ten bytes always fit
            socket.socket.shutdown(guest.connection, socket.SHUT_WR)
        except OSError:
            self._close(guest)

    def _forget(self, guest: _Guest) -> None:
        del self._guests[guest.connection]
        self._selector.unregister(guest.connection)

    def _close(self, guest: _Guest) -> None:
        self._forget(guest)
        guest.connection.close()
