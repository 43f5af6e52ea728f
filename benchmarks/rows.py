"""One comparison is one row: printed for people, kept as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.agreement import ALIKE
from benchmarks.timing import Summary, summarize

SCHEMA = "lnfast.benchmarks/1"
_SHOWN = ("lnfast", "openvino", "onnxruntime", "torch", "numpy", "scipy", "connected-components-3d", "trimesh")
_NONE = "-"
_WORDS = ("study", "stage", "peer", "answer")
_STYLE = {"same": "", "close": "", "different": "yellow", "wrong": "bold red"}


@dataclass(frozen=True)
class Row:
    """Subject against peer.

    Attributes:
        bench: the group.
        study: what was run on; "all" pools every study's runs, "2 of 3" those of the studies with the same answer.
        stage: "total" or a part of it.
        subject, peer: names with precision.
        subject_ms, peer_ms: medians.
        ratio: ``peer_ms / subject_ms``: above one the subject is faster. None unless both answered alike.
        agreement: how their answers compare; ``agreement["verdict"]`` as in `benchmarks.agreement`.
        n: runs of each; a run on several inputs counts for each of them.
        floor_ms: median of one plain read or write of the same bytes in the same rounds; None where that says nothing.
        of_floor: ``subject_ms / floor_ms``.
        target: the ratio that is wanted; None where none was set.
    """

    bench: str
    study: str
    stage: str
    subject: str
    peer: str
    subject_ms: float
    peer_ms: float
    ratio: float | None
    agreement: dict[str, Any]
    subject_p5_ms: float
    subject_p95_ms: float
    peer_p5_ms: float
    peer_p95_ms: float
    n: int
    floor_ms: float | None = None
    of_floor: float | None = None
    target: float | None = None


@dataclass(frozen=True)
class Pair:
    """What a row is about."""

    bench: str
    study: str
    stage: str
    subject: str
    peer: str


def make_row(
    pair: Pair,
    subject_ms: list[float],
    peer_ms: list[float],
    agreement: dict[str, Any],
    *,
    floor_ms: list[float] | None = None,
    target: float | None = None,
) -> Row:
    """Summarize two series of runs, and a third of what nobody can do without.

    Raises:
        ValueError: an empty series.
    """
    ours, theirs = summarize(subject_ms), summarize(peer_ms)
    floor = None if floor_ms is None else summarize(floor_ms).median
    return Row(
        **asdict(pair),
        subject_ms=ours.median,
        peer_ms=theirs.median,
        ratio=theirs.median / ours.median if agreement["verdict"] in ALIKE and ours.median > 0 else None,
        agreement=agreement,
        subject_p5_ms=ours.p5,
        subject_p95_ms=ours.p95,
        peer_p5_ms=theirs.p5,
        peer_p95_ms=theirs.p95,
        n=min(ours.n, theirs.n),
        floor_ms=floor,
        of_floor=None if floor is None else ours.median / floor,
        target=target,
    )


def wrong(rows: list[Row]) -> list[Row]:
    """Rows whose two sides contradict each other."""
    return [row for row in rows if row.agreement["verdict"] == "wrong"]


def write_json(
    path: Path, environment: dict[str, Any], rows: list[Row], tables: Mapping[str, dict[str, Any]] | None = None
) -> None:
    """Write ``{"schema", "environment", "rows"}``; what could not be measured is null.

    Args:
        path: overwritten.
        environment: what it was measured on.
        rows: comparisons.
        tables: by name, ``{"columns", "rows"}`` of what is no comparison with a peer; a row is a line of the file.
    """
    document = {"schema": SCHEMA, "environment": environment, "rows": [asdict(row) for row in rows]}
    text = json.dumps({**document, **({"tables": {}} if tables else {})}, indent=1, allow_nan=False)
    if tables:
        text = text.removesuffix("{}\n}") + "{\n" + ",\n".join(map(_table_text, tables, tables.values())) + "\n }\n}"
    path.write_text(text + "\n", encoding="utf-8")


def _table_text(name: str, table: dict[str, Any]) -> str:
    lines = ",\n".join(f" {json.dumps(row, allow_nan=False, separators=(',', ':'))}" for row in table["rows"])
    return f'  {json.dumps(name)}: {{\n   "columns": {json.dumps(table["columns"])},\n   "rows": [\n{lines}\n   ]\n  }}'


def print_rows(environment: dict[str, Any], rows: list[Row]) -> None:
    """What it was measured on, then a table for each group and subject."""
    out = console()
    versions = environment["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if name in versions)
    load = environment["load_average"]
    busy = f", load {load[0]}: BUSY, no number here is final" if environment["busy"] else ""
    flags = " ".join(environment["cpu_flags"])
    used = f"{environment['threads']} threads, kernels {environment['kernels']}{busy}"
    out.print(f"{environment['cpu']} ({flags}), {used}\n{packages}\n", highlight=False)
    for bench, subject in dict.fromkeys((row.bench, row.subject) for row in rows):
        chosen = [row for row in rows if (row.bench, row.subject) == (bench, subject)]
        cells = [_cells(row) for row in chosen]
        table = Table(title=f"{bench}: {subject}", title_justify="left", box=SIMPLE_HEAD)
        shown = [heading for heading in cells[0] if any(cell[heading] != _NONE for cell in cells)]
        for heading in shown:
            table.add_column(heading, justify="left" if heading in _WORDS else "right")
        for row, cell in zip(chosen, cells, strict=True):
            table.add_row(*(cell[heading] for heading in shown), style=_STYLE[row.agreement["verdict"]])
        out.print(table)


def _cells(row: Row) -> dict[str, str]:
    """What is printed, by heading; a column in which nobody has anything is left out."""
    ours = Summary(row.n, row.subject_ms, row.subject_p5_ms, row.subject_p95_ms)
    theirs = Summary(row.n, row.peer_ms, row.peer_p5_ms, row.peer_p95_ms)
    dice = row.agreement.get("dice")
    return {
        "study": row.study,
        "stage": row.stage,
        "peer": row.peer,
        "subject ms (p5-p95)": _range(ours),
        "peer ms (p5-p95)": _range(theirs),
        "ratio": _NONE if row.ratio is None else f"{row.ratio:.2f}x",
        "target": _NONE if row.target is None else f"{row.target:g}x",
        "floor ms": _NONE if row.floor_ms is None else _ms(row.floor_ms),
        "of floor": _NONE if row.of_floor is None else f"{row.of_floor:.1f}x",
        "Dice": _NONE if dice is None else f"{dice:.4f}",
        "runs": str(row.n),
        "answer": _answer(row.agreement),
    }


def _answer(agreement: dict[str, Any]) -> str:
    """The verdict, and what differs when something does."""
    verdict = str(agreement["verdict"])
    if verdict == "same":
        return verdict
    differing = [
        f"{key.replace('_', ' ')} {agreement[key][0]} / {agreement[key][1]}"
        for key in ("nodes", "suspicious", "n_stage")
        if key in agreement and agreement[key][0] != agreement[key][1]
    ]
    return f"{verdict}: {', '.join(differing)}" if differing else verdict


def _range(summary: Summary) -> str:
    return f"{_ms(summary.median)} ({_ms(summary.p5)}-{_ms(summary.p95)})"


def _ms(value: float) -> str:
    """Three digits that mean something."""
    if value < 0.1:
        return f"{value:.4f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def console() -> Console:
    """As wide as the terminal; a file or a pipe gets lines that are not folded."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=240)
