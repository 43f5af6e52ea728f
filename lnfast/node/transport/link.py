"""A connection to a peer: PDUs go out and come in, each within its time, and another thread can end it at any time."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from lnfast.errors import PeerError
from lnfast.node.transport import requestor_pdu as pdu
from lnfast.node.transport.address import Address

# What an answer may have at most: 128 contexts of an acceptance take 10 KiB.
MOST_BYTES = 64 * 1024
_FAREWELL_S = 1.0  # to tell a peer that it is over
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux


class CancelledError(Exception):
    """The connection was ended from this side, by `Link.cancel`."""


class Deadline:
    """The moment until which something must have happened."""

    def __init__(self, seconds: float) -> None:
        """Let it be some seconds from now."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        remaining = self._end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining


class Link:
    """A TCP connection, with TLS on request. Its methods belong to one thread, except `cancel`."""

    def __init__(self, peer: Address) -> None:
        self._peer = peer
        self._socket: socket.socket | None = None
        self._cancelled = False

    def connect(self, tls: ssl.SSLContext | None, seconds: float) -> None:
        """Connect to the first address of the host that answers.

        Args:
            tls: None for plain TCP.
            seconds: for each of the addresses, and for the handshake of TLS.

        Raises:
            PeerError: ``unknown-host``, ``peer-unreachable`` or ``tls-failed``.
            CancelledError: by `cancel`.
        """
        failure: OSError | None = None
        for family, kind, protocol, _, where in self._addresses():
            connection = socket.socket(family, kind, protocol)
            self._socket = connection
            try:
                self._check_cancelled()
                connection.settimeout(seconds)
                connection.connect(where)
            except OSError as error:
                self._check_cancelled()
                failure = error
                connection.close()
                continue
            # The peer gets each message at once, and not only when it has acknowledged the one before.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if tls is not None:
                self._secure(tls, seconds)
            return
        self._socket = None
        reason = "no answer" if isinstance(failure, TimeoutError) else failure and (failure.strerror or str(failure))
        raise PeerError("peer-unreachable", f"cannot connect to {self._peer}: {reason}") from failure

    def send(self, data: bytes, seconds: float) -> None:
        """Send some bytes.

        Raises:
            PeerError: ``no-answer`` when the peer has not taken them after some seconds, ``connection-lost``.
            CancelledError: by `cancel`.
        """
        try:
            self._open.settimeout(seconds)
            self._open.sendall(data)
        except TimeoutError as error:
            self._check_cancelled()
            raise PeerError("no-answer", f"{self._peer} has not taken any more data for {seconds:g} s") from error
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, deadline: Deadline) -> tuple[int, bytes]:
        """Receive a PDU: its type, and what follows its length.

        Raises:
            PeerError: ``no-answer`` when it is not whole in time; ``connection-lost``; ``bad-answer`` for
                bytes that begin no PDU, or one that is longer than any answer.
            CancelledError: by `cancel`.
        """
        kind, length = pdu.HEAD.unpack(self._exactly(pdu.HEAD.size, deadline))
        if not pdu.ASSOCIATE_RQ <= kind <= pdu.ABORT or length > MOST_BYTES:
            raise PeerError("bad-answer", f"{self._peer} does not speak DICOM: what it sends is no PDU")
        return kind, self._exactly(length, deadline)

    def cancel(self) -> None:
        """End the connection, from any thread: whatever the owner is waiting for ends with a `CancelledError`."""
        self._cancelled = True
        connection = self._socket
        if connection is not None:
            with suppress(OSError):
                # Of the plain socket: that of TLS would change under the thread that reads it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self, *, gently: bool = False) -> None:
        """Close the connection; ``gently`` says so to a peer with TLS."""
        connection, self._socket = self._socket, None
        if connection is None:
            return
        if gently and isinstance(connection, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                connection.settimeout(_FAREWELL_S)
                connection.unwrap()
        connection.close()

    @property
    def _open(self) -> socket.socket:
        self._check_cancelled()
        assert self._socket is not None
        return self._socket

    def _addresses(self) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]]:
        try:
            found = socket.getaddrinfo(self._peer.host, self._peer.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name that no name server can be asked for is a UnicodeError
            raise PeerError(
                "unknown-host", f"no address is known for the host of {self._peer}; check its name and the name server"
            ) from error
        return found  # type: ignore[return-value]

    def _secure(self, tls: ssl.SSLContext, seconds: float) -> None:
        assert self._socket is not None
        try:
            self._socket = tls.wrap_socket(self._socket, server_hostname=self._peer.host, do_handshake_on_connect=False)
            self._socket.settimeout(seconds)
            self._socket.do_handshake()
        except (OSError, ValueError) as error:
            self._check_cancelled()
            self.close()
            raise self._refused_by_tls(error) from error

    def _refused_by_tls(self, error: Exception) -> PeerError:
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
        elif isinstance(error, TimeoutError):
            reason = "no answer; does it speak TLS on this port?"
        else:
            reason = getattr(error, "reason", None) or "it ended the connection; does it speak TLS on this port?"
        return PeerError("tls-failed", f"no secure connection to {self._peer}: {reason}")

    def _exactly(self, count: int, deadline: Deadline) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                connection = self._open
                connection.settimeout(deadline.remaining())
                if _QUICKACK is not None:
                    # Acknowledge at once, or a peer with Nagle's algorithm holds back the rest of its answer for
                    # 40 ms. The kernel forgets the option, so it is set before each reading.
                    connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
                part = connection.recv(count - len(data))
            except TimeoutError as error:
                self._check_cancelled()
                raise PeerError("no-answer", f"{self._peer} has not answered for {deadline.seconds:g} s") from error
            except OSError as error:
                raise self._lost(error) from error
            if not part:
                raise self._lost(None)
            data += part
        return bytes(data)

    def _lost(self, error: OSError | None) -> PeerError:
        """What to raise when the connection broke.

        Raises:
            CancelledError: it was this side that ended it.
        """
        self._check_cancelled()
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return self._refused_by_tls(error)  # with TLS 1.3 a peer refuses our certificate after the handshake
        return PeerError("connection-lost", f"{self._peer} ended the connection")

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise CancelledError
