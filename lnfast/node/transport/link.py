"""A connection that this side opens: whatever goes wrong has a code, and another thread can end it at any time."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from lnfast.errors import PeerError
from lnfast.node.config.address import Address
from lnfast.node.transport.pdu import HEAD, Kind
from lnfast.node.transport.sockets import ConnectionLostError, SlowPeerError, Wire, break_off, make_prompt, unsent_bytes

_MOST_BYTES = 64 * 1024  # of an answer: an acceptance of 128 contexts takes 10 KiB
_FLUSH_POLL_S = 0.1
_FAREWELL_S = 1.0  # for a peer with TLS to hear that the connection ends


class CancelledError(Exception):
    """The connection was ended from this side, by `Link.cancel`."""


class Link:
    """A TCP connection, with TLS on request. Its methods belong to one thread, except `cancel`."""

    def __init__(self, peer: Address) -> None:
        self._peer = peer
        self._wire: Wire | None = None
        self._socket: socket.socket | None = None
        self._cancelled = False
        self._heard = False  # a PDU has come
        self._given_up = False  # the peer takes nothing

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
            self.close()
            try:
                self._socket = socket.socket(family, kind, protocol)  # fails where this system has no such addresses
                self._check_cancelled()
                self._socket.settimeout(seconds)
                self._socket.connect(where)
                make_prompt(self._socket)
            except OSError as error:
                self._check_cancelled()
                failure = error
                continue
            if tls is not None:
                self._secure(tls, seconds)
            self._wire = Wire(self._socket)
            return
        self.close()
        reason = "no answer" if isinstance(failure, TimeoutError) else failure and (failure.strerror or str(failure))
        raise PeerError("peer-unreachable", f"cannot connect to {self._peer}: {reason}") from failure

    def send(self, data: bytes, seconds: float) -> None:
        """Send some bytes.

        Raises:
            PeerError: ``no-answer`` when the peer has not taken them after some seconds; ``connection-lost``.
            CancelledError: by `cancel`.
        """
        wire = self._open()
        try:
            wire.write(data, seconds)
        except SlowPeerError as error:
            raise self._stalled(seconds) from error
        except ConnectionLostError as error:
            raise self._lost(error) from error

    def flush(self, seconds: float, alive: Callable[[], None]) -> None:
        """Wait until the peer's system has taken what was sent, or the peer answers.

        A few megabytes fit into the buffers of this system, and on a slow line take longer than a peer may for an
        answer, which begins only when it has them.

        Args:
            seconds: within which it must take something.
            alive: called whenever it has.

        Raises:
            PeerError, CancelledError: as `send`.
        """
        wire, unsent = self._open(), unsent_bytes(self._open().connection)
        end = time.monotonic() + seconds
        while unsent and wire.wait(_FLUSH_POLL_S) == "nothing":
            self._check_cancelled()
            rest = unsent_bytes(wire.connection)
            if rest < unsent:
                end = time.monotonic() + seconds
                alive()
            elif time.monotonic() > end:
                raise self._stalled(seconds)
            unsent = rest

    def receive(self, deadline: float, seconds: float) -> tuple[int, bytes]:
        """Receive a PDU: its type, and what follows its length.

        Args:
            deadline: in `time.monotonic`.
            seconds: that the peer was given, for the message.

        Raises:
            PeerError: ``no-answer`` when it is not whole in time; ``connection-lost``; ``bad-answer`` for bytes that
                begin no PDU, or one that is longer than any answer.
            CancelledError: by `cancel`.
        """
        wire = self._open()
        try:
            kind, length = HEAD.unpack(wire.read(HEAD.size, deadline))
            if not Kind.ASSOCIATE_RQ <= kind <= Kind.ABORT or length > _MOST_BYTES:
                raise PeerError("bad-answer", f"{self._peer} sends what is no PDU; does it speak DICOM on this port?")
            body = bytes(wire.read(length, deadline))
            self._heard = True
            return kind, body
        except SlowPeerError as error:
            self._check_cancelled()
            raise PeerError("no-answer", f"{self._peer} has not answered for {seconds:g} s") from error
        except ConnectionLostError as error:
            raise self._lost(error) from error

    def cancel(self) -> None:
        """End the connection, from any thread: whatever the owner is waiting for ends with a `CancelledError`."""
        self._cancelled = True
        connection = self._socket
        if connection is not None:
            break_off(connection)

    def close(self, *, gently: bool = False) -> None:
        """Close the connection; ``gently`` says so to a peer with TLS."""
        connection, self._socket, self._wire = self._socket, None, None
        if connection is None:
            return
        if self._cancelled or self._given_up:
            # What is not sent would linger in the system until the peer takes it.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif gently and isinstance(connection, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                connection.settimeout(_FAREWELL_S)
                connection.unwrap()
        connection.close()

    def _open(self) -> Wire:
        self._check_cancelled()
        assert self._wire is not None
        return self._wire

    def _addresses(self) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]]:
        try:
            addresses = socket.getaddrinfo(self._peer.host, self._peer.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name that no name server can be asked for is a UnicodeError
            raise PeerError(
                "unknown-host", f"no address is known for the host of {self._peer}; check its name and the name server"
            ) from error
        return addresses  # type: ignore[return-value]

    def _secure(self, tls: ssl.SSLContext, seconds: float) -> None:
        assert self._socket is not None
        try:
            self._socket = tls.wrap_socket(self._socket, server_hostname=self._peer.host, do_handshake_on_connect=False)
            self._check_cancelled()
            self._socket.settimeout(seconds)
            self._socket.do_handshake()
        except (OSError, ValueError) as error:
            self._check_cancelled()
            raise self._refused_by_tls(error) from error

    def _refused_by_tls(self, error: BaseException) -> PeerError:
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
        elif isinstance(error, TimeoutError):
            reason = "no answer; does it speak TLS on this port?"
        else:
            reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()
            reason = reason or "it ended the connection; does it speak TLS on this port, and trust our certificate?"
        return PeerError("tls-failed", f"no secure connection to {self._peer}: {reason}")

    def _stalled(self, seconds: float) -> PeerError:
        """What to raise when the peer takes nothing.

        Raises:
            CancelledError: it was this side that ended it.
        """
        self._check_cancelled()
        self._given_up = True
        return PeerError("no-answer", f"{self._peer} has not taken any more data for {seconds:g} s")

    def _lost(self, lost: ConnectionLostError) -> PeerError:
        """What to raise when the connection broke.

        Raises:
            CancelledError: it was this side that ended it.
        """
        self._check_cancelled()
        if isinstance(self._socket, ssl.SSLSocket) and not self._heard:
            # With TLS 1.3 a peer refuses our certificate when the handshake is over on this side.
            return self._refused_by_tls(lost.__cause__ or lost)
        return PeerError("connection-lost", f"{self._peer} ended the connection")

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise CancelledError
