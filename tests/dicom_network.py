"""Peers of DICOM networks on loopback: DCMTK's programs and Orthanc, on ports that the kernel chose.

A port stays reserved, by a socket that is bound and never listens, from the moment it is chosen until the test ends: no
other test gets it, a connection to it is refused while nothing listens, and a peer that comes back has the same one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest

LOOPBACK = "127.0.0.1"
_SUCCESS = "Success"


def system_path() -> str:
    """PATH without the folder of this Python: pynetdicom installs programs of other options under DCMTK's names."""
    own = Path(sys.executable).parent
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder and Path(folder) != own]
    return os.pathsep.join([*folders, "/usr/bin", "/usr/sbin", "/usr/local/sbin"])


def _environment() -> dict[str, str]:
    # DCMTK waits for the peer's delayed acknowledgement after each message, 40 ms an instance, unless told not to.
    return {**os.environ, "PATH": system_path(), "TCP_NODELAY": "1"}


def program(name: str) -> str:
    """Path of a program; without it the test skips, but not in CI."""
    path = shutil.which(name, path=system_path())
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed: CI must not skip this test")
        pytest.skip(f"{name} is not installed (Debian: dcmtk, orthanc)")
    return path


def wait_until(
    condition: Callable[[], object],
    what: str,
    seconds: float = 60.0,
    *,
    alive: Callable[[], object] = lambda: True,
    detail: Callable[[], object] = lambda: "",
) -> Any:
    """Poll until a condition holds and return its value; fail after some seconds, or when ``alive`` no longer holds.

    Args:
        condition: what is waited for.
        what: says it in the failure.
        seconds: at most.
        alive: whether waiting has a sense.
        detail: what the failure says beside it.
    """
    last = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if not alive():
            pytest.fail(f"it ended before {what}: {detail()}")
        if time.monotonic() > last:
            pytest.fail(f"not within {seconds:g} s: {what}: {detail()}")
        time.sleep(0.02)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A free port of loopback that nobody else gets meanwhile; a server with SO_REUSEADDR can listen on it."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((LOOPBACK, 0))
        yield reservation.getsockname()[1]


def listens(port: int) -> bool:
    """Whether a connection to a port of loopback is accepted."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((LOOPBACK, port)) == 0


def end(process: subprocess.Popen[Any], how: int = signal.SIGTERM, seconds: float = 20.0) -> int:
    """End a process and everything that it started in its session; return its exit code."""
    with suppress(ProcessLookupError):
        process.send_signal(how)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(20)


@dataclass
class StoreScp:
    """DCMTK's storescp: a PACS that keeps files.

    Attributes:
        port: reserved.
        folder: of the files, named by their UIDs as DCMTK names them.
        aet: its AE title; DCMTK accepts any.
        options: further arguments, such as ``--refuse``.
    """

    port: int
    folder: Path
    aet: str = "SINK"
    options: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> StoreScp:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [program("storescp"), "-aet", self.aet, "-od", str(self.folder), *self.options, str(self.port)]
        with open(self.folder.with_suffix(".log"), "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=_environment(), start_new_session=True, cwd=self.folder
            )
        wait_until(lambda: listens(self.port), "storescp listens", alive=lambda: self._process.poll() is None)
        return self

    def stop(self) -> None:
        if self._process is not None:
            end(self._process, signal.SIGKILL)
            self._process = None

    def files(self) -> list[Path]:
        """What is there now; a file that is being written may be among them."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def received(self) -> dict[str, pydicom.Dataset]:
        """SOP instance UID to object."""
        objects = [pydicom.dcmread(path) for path in self.files()]
        return {str(each.SOPInstanceUID): each for each in objects}


@contextmanager
def store_scp(folder: Path, *options: str, aet: str = "SINK", running: bool = True) -> Iterator[StoreScp]:
    """A storescp that is ended in any case; with ``running=False`` a PACS that is down until `StoreScp.start`."""
    program("storescp")
    with reserved_port() as port:
        peer = StoreScp(port, folder, aet, options)
        try:
            yield peer.start() if running else peer
        finally:
            peer.stop()


@dataclass
class Orthanc:
    """An Orthanc without a history, on two reserved ports."""

    port: int
    http_port: int
    aet: str = "ORTHANC"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.http_port}{path}", timeout=20) as answer:
            return bytes(answer.read())

    def ids(self, level: str = "instances") -> list[str]:
        """Orthanc's ids of all ``instances``, ``series``, ``studies`` or ``patients``."""
        return list(json.loads(self.get(f"/{level}")))

    def save_instances(self, folder: Path) -> list[Path]:
        """Write every instance as Orthanc gives it back."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number in self.ids():
            paths.append(folder / f"{number}.dcm")
            paths[-1].write_bytes(self.get(f"/instances/{number}/file"))
        return paths


@contextmanager
def orthanc() -> Iterator[Orthanc]:
    """An Orthanc that keeps its files in memory where the system has such a folder; it is ended in any case."""
    binary = program("Orthanc")
    memory = Path("/dev/shm")
    with (
        reserved_port() as port,
        reserved_port() as http_port,
        tempfile.TemporaryDirectory(prefix="lnfast-orthanc-", dir=memory if memory.is_dir() else None) as store,
    ):
        peer = Orthanc(port, http_port)
        settings = {
            "Name": "test",
            "HttpPort": http_port,
            "DicomPort": port,
            "DicomAet": peer.aet,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "SyncStorageArea": False,
            "StorageDirectory": store,
            "IndexDirectory": store,
            "Plugins": [],
        }
        path = Path(store) / "orthanc.json"
        path.write_text(json.dumps(settings))
        process = subprocess.Popen(
            [binary, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=store
        )
        try:
            ready = lambda: listens(port) and listens(http_port)  # noqa: E731
            wait_until(ready, "Orthanc listens", alive=lambda: process.poll() is None)
            yield peer
        finally:
            end(process)


@dataclass(frozen=True)
class Sent:
    """What a sending program of DCMTK reported.

    Attributes:
        exit_code: of the program.
        accepted: files that were answered 0x0000, in order.
        answers: the words of the answer to each file, in order; a file without an answer has none.
        output: everything it printed.
    """

    exit_code: int
    accepted: tuple[Path, ...]
    answers: tuple[tuple[Path, str], ...] = field(repr=False)
    output: str = field(repr=False)


def send_files(
    port: int, files: list[Path], *, called: str = "LNFAST", calling: str = "MR1", seconds: float = 120.0
) -> Sent:
    """Send files in one association by DCMTK's storescu, which goes on after a failure and reports each answer."""
    with sending(port, files, called=called, calling=calling) as process:
        return report_of(process, seconds)


@contextmanager
def sending(
    port: int, files: list[Path], *options: str, called: str = "LNFAST", calling: str = "MR1"
) -> Iterator[subprocess.Popen[str]]:
    """A storescu that is sending; `report_of` waits for it. It is killed at the end."""
    command = [program("storescu"), "-v", "-nh", "-R", "-to", "10", "-aet", calling, "-aec", called, *options]
    process = subprocess.Popen(
        [*command, LOOPBACK, str(port), *map(str, files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process, signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()


def report_of(process: subprocess.Popen[str], seconds: float = 120.0) -> Sent:
    """Wait for a storescu and read its report."""
    output, _ = process.communicate(timeout=seconds)
    answers: list[tuple[Path, str]] = []
    current: Path | None = None
    for line in output.splitlines():
        if match := re.search(r"Sending file: (.+)$", line):
            current = Path(match[1])
        elif (match := re.search(r"Received Store Response \((.+)\)", line)) and current is not None:
            answers.append((current, match[1]))
    accepted = tuple(path for path, words in answers if words == _SUCCESS)
    return Sent(process.returncode, accepted, tuple(answers), output)


def dcmsend(port: int, *paths: Path, called: str = "LNFAST", calling: str = "MR1", seconds: float = 120.0) -> None:
    """Send files and folders by DCMTK's dcmsend, as scanners and routers do; everything must be accepted."""
    command = [program("dcmsend"), "-v", "+sd", "+r", "-aet", calling, "-aec", called, LOOPBACK, str(port)]
    done = subprocess.run(
        [*command, *map(str, paths)], capture_output=True, text=True, timeout=seconds, env=_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"with status SUCCESS *: [1-9]", done.stdout + done.stderr), done.stdout + done.stderr


def echo(port: int, *, called: str = "LNFAST", calling: str = "MR1") -> bool:
    """Whether a C-ECHO by DCMTK's echoscu is answered."""
    command = [program("echoscu"), "-to", "10", "-ta", "10", "-td", "10", "-aet", calling, "-aec", called]
    return subprocess.run([*command, LOOPBACK, str(port)], capture_output=True, timeout=60).returncode == 0


def dataset_bytes(path: Path) -> bytes:
    """The encoded data set of a file, without preamble and file meta information, which each program writes anew."""
    content = path.read_bytes()
    assert content[128:140] == b"DICM\x02\x00\x00\x00UL\x04\x00", path
    return content[144 + int.from_bytes(content[140:144], "little") :]
