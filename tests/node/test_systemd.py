"""What systemd is told, over a real socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lnfast.node.monitor.systemd import Systemd

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="sockets of POSIX")


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """The socket of a service manager at an address as ``NOTIFY_SOCKET`` has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        receiver.settimeout(2.0)
        yield receiver


@pytest.mark.parametrize("abstract", [False, True])
def test_every_message_arrives(tmp_path: Path, abstract: bool) -> None:
    address = f"@lnfast-test-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "LANG": "C"}
    with manager(address) as receiver:
        systemd = Systemd(variables)
        assert systemd.watchdog_s == 30.0
        assert variables == {"LANG": "C"}, "a child process does not speak in the node's place"
        systemd.ready("receiving on 127.0.0.1:11112")
        assert receiver.recv(4096) == b"READY=1\nSTATUS=receiving on 127.0.0.1:11112"
        systemd.alive()
        assert receiver.recv(4096) == b"WATCHDOG=1"
        systemd.status("idle")
        assert receiver.recv(4096) == b"STATUS=idle"
        systemd.extend(1.5)
        assert receiver.recv(4096) == b"EXTEND_TIMEOUT_USEC=1500000"
        systemd.stopping("draining")
        assert receiver.recv(4096) == b"STOPPING=1\nSTATUS=draining"


@pytest.mark.parametrize("named", ["", "relative/path", "vsock:2:1234"])
def test_without_a_socket_of_this_kind_nothing_is_sent(named: str, caplog: pytest.LogCaptureFixture) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "30000000"})
    systemd.ready("ready")
    assert systemd.watchdog_s is None and not caplog.records


def test_a_manager_that_went_away_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with caplog.at_level(logging.WARNING, "lnfast.node.systemd"):
        systemd.alive()
    (record,) = caplog.records
    assert record.exc_info is not None and isinstance(record.exc_info[1], FileNotFoundError)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "5000000"}, 5.0),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(variables: dict[str, str], seconds: float | None) -> None:
    assert Systemd({"NOTIFY_SOCKET": "@x", **variables}).watchdog_s == seconds
