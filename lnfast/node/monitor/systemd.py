"""What systemd wants to be told: that the node is ready, that it is stopping, and that it is alive.

The protocol of ``sd_notify(3)``: a datagram to the socket that ``NOTIFY_SOCKET`` names. Without it nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, MutableMapping

_logger = logging.getLogger("lnfast.node.systemd")


class Systemd:
    """The socket of the service manager, or none.

    Args:
        environment: in which ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` stand; they are taken out, so
            that no child process speaks in the node's place.

    Attributes:
        watchdog_s: after this time without `alive` the service is killed; None without a watchdog.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._address = _address(variables.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(variables) if self._address is not None else None
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            variables.pop(name, None)

    def ready(self, status: str) -> None:
        """Say that the node receives."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """Say that the node drains."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """Put the watchdog off."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Ask for more time to start or stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(state.encode(), self._address)
        except OSError as error:  # the node is worth more than what is said of it
            _logger.warning("systemd could not be told", exc_info=error)


def _address(named: str) -> bytes | None:
    """Return the address of a socket in the file system, or of an abstract one, which is written with an ``@``."""
    if not named or named[0] not in "/@":
        return None
    return os.fsencode("\0" + named[1:] if named[0] == "@" else named)


def _watchdog_s(variables: Mapping[str, str]) -> float | None:
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(variables.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
