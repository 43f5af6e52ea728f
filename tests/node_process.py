"""A node as a process of its own, from a node.toml that is written here: killed, restarted, asked, ended for sure."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_network import LOOPBACK, end, listens, reserved_port, wait_until

AET = "LNFAST"
FINAL = frozenset({"sent", "refused", "dead"})
_PROGRAM = (sys.executable, "-m", "lnfast")


def toml_text(tables: Mapping[str, Any]) -> str:
    """The text of a TOML file: a table for each entry, an array of tables for each list."""
    lines: list[str] = []
    for name, content in tables.items():
        for table in content if isinstance(content, list) else [content]:
            lines.append(f"[[{name}]]" if isinstance(content, list) else f"[{name}]")
            lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def target(port: int, name: str = "pacs", aet: str = "SINK", **entries: Any) -> dict[str, Any]:
    """A table ``[[target]]`` on loopback."""
    return {"name": name, "aet": aet, "host": LOOPBACK, "port": port, **entries}


@dataclass
class NodeProcess:
    """A node that can be started, killed and started again with the same spool and ports.

    Attributes:
        config: its node.toml.
        spool: its folder.
        port: of DICOM.
        health_port: of /healthz and /metrics.
        environment: of its process, beside this one's.
        program: what is run before ``node --config``; other than `_PROGRAM` to make a part of it fail.
        output: everything that it wrote to stdout and stderr, of all its lives.
    """

    config: Path
    spool: Path
    port: int
    health_port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = _PROGRAM
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        return self.config.with_suffix(".log")

    @property
    def ledger(self) -> Path:
        return self.spool / "ledger.sqlite"

    def start(self, *, ready: bool = True) -> NodeProcess:
        """Start it; wait until it works, or only until it runs."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment}
        with open(self.output, "ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "node", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.config.parent,
                start_new_session=True,
            )
        if ready:
            self.wait(self.is_ready, "the node is ready")
        return self

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> Any:
        """Wait until a condition holds while the node lives; a failure shows its exams and the end of its output."""
        detail = lambda: f"{list(self.exams().values())}\n{self.output.read_text(errors='replace')[-3000:]}"  # noqa: E731
        return wait_until(condition, what, seconds, alive=self.lives, detail=detail)

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """It receives, and says that nothing is wrong."""
        return self.health()[0] == 200 and listens(self.port)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            end(self.process, signal.SIGKILL)
            self.process = None

    def stop(self, seconds: float = 40.0) -> int:
        """End it as a service manager does; return its exit code."""
        assert self.process is not None
        code = end(self.process, signal.SIGTERM, seconds)
        self.process = None
        return code

    # ------------------------------------------------------------------------------------------------------ questions

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page; ``(0, "")`` where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.health_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def health(self) -> tuple[int, dict[str, Any]]:
        status, body = self.get("/healthz")
        return status, json.loads(body) if body else {}

    def metrics(self) -> dict[str, float]:
        """Each sample of /metrics by its name with labels."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Rows of the ledger, read beside the node."""
        if not self.ledger.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def exams(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.rows("SELECT * FROM exams")}

    def results(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM results WHERE released_at IS NOT NULL ORDER BY id")

    def jobs(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM jobs ORDER BY id")

    def states(self) -> list[str]:
        return sorted(row["state"] for row in self.exams().values())

    def wait_settled(self, count: int, seconds: float = 60.0) -> dict[str, dict[str, Any]]:
        """Wait until so many exams are there and nothing is to be done with any; return them."""
        settled = lambda: len(self.states()) == count and FINAL.issuperset(self.states())  # noqa: E731
        self.wait(settled, f"{count} exams are settled", seconds)
        return self.exams()

    def result_folder(self, exam: str, number: int = 1) -> Path:
        return self.spool / "results" / exam / str(number)

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another ``lnfast node`` with this node.toml, such as ``status``."""
        command = [*_PROGRAM, "node", "--config", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.config.parent)


@contextmanager
def node(
    folder: Path,
    model: Path,
    targets: list[dict[str, Any]],
    *,
    running: bool = True,
    environment: Mapping[str, str] | None = None,
    program: tuple[str, ...] = _PROGRAM,
    **tables: Mapping[str, Any],
) -> Iterator[NodeProcess]:
    """A node with its own spool, on two reserved ports; it is killed at the end in any case.

    Args:
        folder: of node.toml, the output and, unless ``node={"spool": ...}`` says otherwise, the spool.
        model: folder of its model, which it runs in FP32 on ONNX Runtime.
        targets: tables of `target`.
        running: start it, and wait until it is ready.
        environment, program: of `NodeProcess`.
        tables: further tables of node.toml, or entries of those that are here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with reserved_port() as port, reserved_port() as health_port:
        defaults: dict[str, Any] = {
            "node": {"aet": AET, "port": port, "spool": folder / "spool", "health_port": health_port},
            "receive": {"quiet_s": 1, "quiet_without_release_s": 2, "give_up_s": 60, "min_free_gib": 0},
            "model": {"name": str(model), "backend": "onnxruntime", "precision": "fp32", "threads": 1},
            "drift": {"every": 0},
        }
        for name, entries in tables.items():
            defaults[name] = {**defaults.get(name, {}), **entries}
        config = folder / "node.toml"
        config.write_text(toml_text({**defaults, **({"target": targets} if targets else {})}))
        process = NodeProcess(config, Path(defaults["node"]["spool"]), port, health_port, environment or {}, program)
        try:
            yield process.start() if running else process
        finally:
            process.kill()
