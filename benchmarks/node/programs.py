"""The node, DCMTK's storescp as its PACS and dcmsend as its scanner, as processes on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.settings import Settings
from lnfast.errors import BackendError

LOOPBACK = "127.0.0.1"
_START_S, _STOP_S, _POLL_S = 120.0, 40.0, 0.02
_TOML = """\
[node]
aet = "LNFAST"
port = {port}
health_port = 0
spool = "{spool}"
[receive]
quiet_s = {quiet_s}
min_free_gib = 0
[[target]]
name = "pacs"
aet = "PACS"
host = "127.0.0.1"
port = {pacs}
[model]
name = "{model}"
device = "cpu"
threads = {threads}
[drift]
every = {drift_every}
"""


@dataclass(frozen=True)
class Site:
    """A node and its PACS, both running.

    Attributes:
        port: of the node.
        process: its id.
        spool: its folder.
        received: folder of the PACS.
    """

    port: int
    process: int
    spool: Path
    received: Path

    def send(self, folder: Path) -> float:
        """Send an exam by dcmsend; return the Unix time of its end.

        Raises:
            WrongAnswerError: an instance was not taken.
        """
        command = [_program("dcmsend"), "+sd", "+r", "-aec", "LNFAST", LOOPBACK, str(self.port), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=_START_S)
        if done.returncode != 0:
            raise WrongAnswerError(f"dcmsend ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return time.time()

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return rows of the node's ledger."""
        with closing(sqlite3.connect(f"file:{self.spool}/ledger.sqlite?mode=ro", uri=True, timeout=30)) as ledger:
            ledger.row_factory = sqlite3.Row
            return [dict(row) for row in ledger.execute(statement)]

    def count(self, state: str) -> int:
        """Return how many exams have a state."""
        return len(self.rows(f"SELECT id FROM exams WHERE state = '{state}'"))

    def wait_sent(self, count: int, seconds: float) -> None:
        """Wait until so many exams are sent.

        Raises:
            WrongAnswerError: they are not in time, or one is refused or dead.
        """
        _wait(lambda: self.count("sent") >= count or self._lost(), f"{count} exams are sent", seconds)
        if lost := self._lost():
            raise WrongAnswerError(f"exams ended otherwise than sent: {lost}")

    def _lost(self) -> list[dict[str, Any]]:
        return self.rows("SELECT state, code, message FROM exams WHERE state IN ('refused', 'dead') LIMIT 3")


@contextmanager
def site(settings: Settings, folder: Path, *, quiet_s: float, drift_every: int = 0) -> Iterator[Site]:
    """Run a node and a storescp; both are ended in any case.

    Args:
        settings: model and threads of the node.
        folder: of the spool, of what the PACS receives, and of both logs.
        quiet_s: of the node's ``[receive]``.
        drift_every: of its ``[drift]``.

    Raises:
        BackendError: ``program-missing``.
        WrongAnswerError: one of them does not start.
    """
    received, spool, config = folder / "received", folder / "spool", folder / "node.toml"
    received.mkdir()
    with _reserved_port() as port, _reserved_port() as pacs:
        content = _TOML.format(
            port=port,
            pacs=pacs,
            spool=spool,
            quiet_s=quiet_s,
            model=settings.model.folder,
            threads=settings.threads,
            drift_every=drift_every,
        )
        config.write_text(content, encoding="utf-8")
        store = [_program("storescp"), "-aet", "PACS", "+B", "-od", str(received), str(pacs)]
        node = [sys.executable, "-m", "lnfast", "node", "--config", str(config)]
        with _running(store, folder / "storescp.log", pacs), _running(node, folder / "node.log", port) as process:
            yield Site(port, process, spool, received)


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[int]:
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=_environment(), start_new_session=True)
    try:
        _wait(lambda: _listens(port) or process.poll() is not None, f"{Path(command[0]).name} listens", _START_S)
        if process.poll() is not None:
            raise WrongAnswerError(f"{' '.join(command[:4])} ended: {log.read_text(errors='replace')[-500:]}")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Hold a free port by a socket that never listens, so that nobody else gets it before its server starts."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((LOOPBACK, 0))
        yield reservation.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _wait(condition: Callable[[], object], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise WrongAnswerError(f"not within {seconds:g} s: {what}")
        time.sleep(_POLL_S)


def _environment() -> dict[str, str]:
    # DCMTK's sockets delay small messages by 40 ms unless told not to; scanners' do not.
    return {**os.environ, "TCP_NODELAY": "1"}


def _program(name: str) -> str:
    # Not from the folder of this Python: pynetdicom installs programs of other options under DCMTK's names.
    own = Path(sys.executable).parent
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder and Path(folder) != own]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        raise BackendError("program-missing", f"{name} of DCMTK is not installed: apt-get install dcmtk")
    return path
