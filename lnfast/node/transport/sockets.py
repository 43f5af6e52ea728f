"""A TCP connection, plain or TLS, on which every wait has an end; for the receiver and the client."""

from __future__ import annotations

import select
import socket
import ssl
import sys
import time
from contextlib import suppress
from typing import Literal

_DELAYED_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux


class ConnectionLostError(Exception):
    """The peer closed or reset the connection."""


class SlowPeerError(Exception):
    """The peer did not send or take bytes in time."""


def make_prompt(connection: socket.socket) -> None:
    """Have what is written leave at once.

    Nagle's algorithm keeps the tail of a message back until the peer has acknowledged its beginning, and the peer,
    which has nothing to say yet, delays that by 40 ms: an instance then takes 47 ms in place of 5.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def acknowledge_at_once(connection: socket.socket) -> None:
    """Have what arrives next acknowledged at once, for a peer that did not think of `make_prompt`.

    The system takes it back by itself, so it is called before each read.
    """
    if _DELAYED_ACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _DELAYED_ACK, 1)


def notice_death(connection: socket.socket) -> None:
    """Have the system ask a silent peer whether it is there; one that was switched off is lost after a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def break_off(connection: socket.socket) -> None:
    """End a connection both ways; who waits in a read or a write of it goes on with `ConnectionLostError`.

    From any thread: also under TLS it does not touch the state of the encryption.
    """
    with suppress(OSError):  # it is closed
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def unsent_bytes(connection: socket.socket) -> int:
    """Return how many bytes were written and not acknowledged by the peer's system; 0 where this system cannot tell."""
    try:
        import fcntl
        import termios

        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (ImportError, OSError):
        return 0


class Wire:
    """Reads and writes a connection within deadlines.

    Args:
        connection: connected, after the handshake of TLS; the wire closes it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = bytearray(4096)

    def wait(self, seconds: float, stop: int | None = None) -> Literal["data", "stop", "nothing"]:
        """Wait for data from the peer.

        Args:
            seconds: at most.
            stop: file descriptor; once it is readable this returns ``stop``, also where there is data.
        """
        held = isinstance(self.connection, ssl.SSLSocket) and self.connection.pending() > 0
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        if stop is not None:
            poll.register(stop, select.POLLIN)
        ready = dict(poll.poll(0 if held else seconds * 1000))
        if stop in ready:
            return "stop"
        return "data" if ready or held else "nothing"

    def read(self, size: int, deadline: float) -> memoryview:
        """Read bytes; what is returned is valid until the next read.

        Args:
            size: of what is read, which the caller bounded.
            deadline: in `time.monotonic`.

        Raises:
            ConnectionLostError, SlowPeerError: before all have come.
        """
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view = memoryview(self._buffer)[:size]
        at = 0
        while at < size:
            self.connection.settimeout(_remaining(deadline))
            try:
                acknowledge_at_once(self.connection)
                count = self.connection.recv_into(view[at:])
            except TimeoutError:
                raise SlowPeerError from None
            except OSError as error:
                raise ConnectionLostError from error
            if not count:
                raise ConnectionLostError
            at += count
        return view

    def write(self, data: bytes, seconds: float) -> None:
        """Write all bytes.

        Raises:
            ConnectionLostError, SlowPeerError: before all are gone.
        """
        self.connection.settimeout(seconds)
        try:
            self.connection.sendall(data)
        except TimeoutError:
            raise SlowPeerError from None
        except OSError as error:
            raise ConnectionLostError from error

    def finish(self, seconds: float, most: int = 1 << 20) -> None:
        """Close the connection so that the peer gets what was written last.

        Closing while bytes of the peer are unread makes the system reset the connection, and the peer may then lose our
        last PDU. So its bytes are thrown away until it closes, for some time and up to some amount.
        """
        deadline = time.monotonic() + seconds
        try:
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            while most > 0:
                self.connection.settimeout(_remaining(deadline))
                count = socket.socket.recv_into(self.connection, self._buffer)
                if not count:
                    break
                most -= count
        except (OSError, SlowPeerError):  # reset, or out of time
            pass
        self.connection.close()


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise SlowPeerError
    return remaining
