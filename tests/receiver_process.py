"""A receiver as a process of its own, whose memory, threads and descriptors a test can watch."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dicom_network import end, wait_until


@dataclass
class ReceiverProcess:
    """A receiver that runs.

    Attributes:
        folder: in which its spool and its log are.
    """

    process: subprocess.Popen[str]
    port: int
    folder: Path

    def resident_bytes(self) -> int:
        """Memory that it holds."""
        (line,) = (line for line in self._status() if line.startswith("VmRSS:"))
        return int(line.split()[1]) << 10

    def peak_bytes(self) -> int:
        """The most that it ever held."""
        (line,) = (line for line in self._status() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10

    def reset_peak(self) -> None:
        """Have `peak_bytes` begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def descriptors(self) -> int:
        """How many files and connections it holds."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def cpu_s(self) -> float:
        """Processor time that it took."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def counted(self) -> dict[str, float]:
        """Its metrics: name with labels, without the prefix, to value."""
        self.process.send_signal(signal.SIGUSR1)
        before = len(self._answers)
        wait_until(lambda: self._read() > before, "the metrics are written", 10)
        return dict(self._answers[-1])

    def files(self) -> list[Path]:
        """All instances."""
        return sorted((self.folder / "spool" / "exams").rglob("*.dcm"))

    def log(self) -> str:
        """What it logged."""
        return (self.folder / "log").read_text()

    def _status(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/status").read_text().splitlines()

    def __post_init__(self) -> None:
        self._answers: list[dict[str, float]] = []

    def _read(self) -> int:
        path = self.folder / "metrics"
        lines = path.read_text().splitlines() if path.exists() else []
        self._answers = [json.loads(line) for line in lines]
        return len(self._answers)


@contextmanager
def receiver_process(
    folder: Path, *, limits: dict[str, Any] | None = None, prefix: tuple[str, ...] = (), **receive: Any
) -> Iterator[ReceiverProcess]:
    """Start a receiver.

    Args:
        folder: for its spool and log; made where it is missing.
        limits: changes of `lnfast.node.receiver.association.Limits`.
        prefix: of the command, such as ``unshare``.
        receive: changes of ``[receive]``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps({"limits": limits or {}, "receive": receive})
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", __file__, str(folder), settings],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            # As the command line does: threads of OpenBLAS are not the receiver's.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        yield ReceiverProcess(process, int(line), folder)
    finally:
        end(process)
        process.stdout.close()


def _main() -> None:
    from receivers import QUICK, Record, node_config

    from lnfast.node.monitor.logs import configure
    from lnfast.node.monitor.metrics import Metrics
    from lnfast.node.receiver.receiver import Receiver
    from lnfast.node.spool import Spool

    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    configure("text", "debug")
    logging.getLogger("lnfast").info("begins")
    config = node_config(folder / "spool", **settings["receive"])
    spool, metrics = Spool(config.spool, min_free_bytes=config.receive.min_free_bytes), Metrics()
    receiver = Receiver(config, spool, Record(), metrics, limits=replace(QUICK, **settings["limits"]))
    receiver.start()
    print(receiver.port, flush=True)  # noqa: T201

    def write_metrics(*_: object) -> None:
        lines = (line.rpartition(" ") for line in metrics.text().splitlines() if not line.startswith("#"))
        values = {name.removeprefix("lnfast_node_"): float(value) for name, _, value in lines}
        with open(folder / "metrics", "a") as file:
            file.write(json.dumps(values) + "\n")

    signal.signal(signal.SIGUSR1, write_metrics)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            time.sleep(1)
    finally:
        receiver.stop()


if __name__ == "__main__":
    _main()
