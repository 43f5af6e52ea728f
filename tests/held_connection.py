"""A connection that stands still after so many bytes: a sender is caught in the middle, however fast the machine is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dicom_network import LOOPBACK

_AT_ONCE = 64 << 10


class HeldConnection:
    """A port that passes one connection on to another port, up to a number of the sender's bytes; answers pass freely.

    Attributes:
        port: to connect to.
    """

    def __init__(self, port: int, most_bytes: int) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._peer, self._left = port, most_bytes
        self._may_pass = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="held-connection")
        self._thread.start()

    def let_go(self) -> None:
        """Pass on what was held, and all that comes."""
        self._may_pass.set()

    def close(self) -> None:
        """Let go, and wait for both sides to end."""
        self.let_go()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with suppress(OSError):
            sender, _ = self._listener.accept()
            with sender, socket.create_connection((LOOPBACK, self._peer)) as receiver:
                back = threading.Thread(target=self._pass_back, args=(receiver, sender), name="held-connection-back")
                back.start()
                with suppress(OSError):
                    self._pass_on(sender, receiver)
                with suppress(OSError):
                    receiver.shutdown(socket.SHUT_WR)
                back.join()

    def _pass_on(self, sender: socket.socket, receiver: socket.socket) -> None:
        while data := sender.recv(_AT_ONCE if self._may_pass.is_set() else min(_AT_ONCE, self._left)):
            receiver.sendall(data)
            self._left -= len(data)
            if self._left <= 0:
                self._may_pass.wait()

    @staticmethod
    def _pass_back(receiver: socket.socket, sender: socket.socket) -> None:
        with suppress(OSError):
            while data := receiver.recv(_AT_ONCE):
                sender.sendall(data)
            sender.shutdown(socket.SHUT_WR)


@contextmanager
def held_connection(port: int, most_bytes: int) -> Iterator[HeldConnection]:
    """Yield a way to a port that stands still after so many of the sender's bytes."""
    connection = HeldConnection(port, most_bytes)
    try:
        yield connection
    finally:
        connection.close()
