"""Rows of results, one for each comparison, and the JSON file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness.agreement import ALIKE
from benchmarks.harness.timing import summarize
from lnfast.errors import UsageError

SCHEMA = "lnfast.benchmarks/2"
Unit = Literal["ms", "ms/study", "MB"]
# Results that are no comparison with a peer, by name: ``{"columns": names, "rows": lists of values}``.
Tables = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class RowKey:
    """What a row is about; rows of two files are matched by it.

    Attributes:
        bench: the group.
        study: the input; "all" pools every study's runs, "2 of 3" those of the studies with the same answer.
        stage: "total" or a part of it.
        subject, peer: names with precision.
        unit: of the measured quantity, of which less is better.
    """

    bench: str
    study: str
    stage: str
    subject: str
    peer: str
    unit: Unit = "ms"


@dataclass(frozen=True, kw_only=True)
class Row(RowKey):
    """Subject against peer; medians, percentiles, floor and limit are in the row's unit.

    Attributes:
        subject_median, subject_p5, subject_p95, peer_median, peer_p5, peer_p95: over the runs of each.
        ratio: ``peer_median / subject_median``: above 1 the subject is better. None unless both answered alike.
        agreement: how their answers compare; ``agreement["verdict"]`` as in `benchmarks.harness.agreement`.
        n: runs of each; a run on several inputs counts for each of them.
        floor: median of the least work that any implementation needs, in the same rounds: of a kernel one plain read or
            write of the same bytes, of a pipeline its network; None where there is no such bound.
        of_floor: ``subject_median / floor``.
        target: the wanted ratio; None where none was set.
        limit: the greatest wanted value of the subject; None where none was set.
    """

    subject_median: float
    peer_median: float
    ratio: float | None
    agreement: dict[str, Any]
    subject_p5: float
    subject_p95: float
    peer_p5: float
    peer_p95: float
    n: int
    floor: float | None = None
    of_floor: float | None = None
    target: float | None = None
    limit: float | None = None

    @property
    def key(self) -> RowKey:
        """The part of the row by which rows of two files are matched."""
        return RowKey(self.bench, self.study, self.stage, self.subject, self.peer, self.unit)


def make_row(
    key: RowKey,
    subject: list[float],
    peer: list[float],
    agreement: dict[str, Any],
    *,
    floor: list[float] | None = None,
    target: float | None = None,
    limit: float | None = None,
) -> Row:
    """Summarize the runs of a subject, of a peer and of the floor.

    Raises:
        ValueError: an empty series.
    """
    ours, theirs = summarize(subject), summarize(peer)
    least = None if floor is None else summarize(floor).median
    return Row(
        **asdict(key),
        subject_median=ours.median,
        peer_median=theirs.median,
        ratio=theirs.median / ours.median if agreement["verdict"] in ALIKE and ours.median > 0 else None,
        agreement=agreement,
        subject_p5=ours.p5,
        subject_p95=ours.p95,
        peer_p5=theirs.p5,
        peer_p95=theirs.p95,
        n=min(ours.n, theirs.n),
        floor=least,
        of_floor=None if least is None else ours.median / least,
        target=target,
        limit=limit,
    )


def wrong_rows(rows: list[Row]) -> list[Row]:
    """Return the rows whose two sides contradict each other."""
    return [row for row in rows if row.agreement["verdict"] == "wrong"]


@dataclass(frozen=True)
class BenchmarkFile:
    """The content of a file of ``--json``: the environment, comparisons, and other tables."""

    environment: dict[str, Any]
    rows: list[Row]
    tables: Tables


def read_json(path: Path) -> BenchmarkFile:
    """Read a file of `write_json`.

    Raises:
        UsageError: ``not-benchmarks`` for any other file, ``other-schema`` for rows of another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = str(document["schema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is no file of python -m benchmarks --json: {type(error).__name__}: {error}"
        raise UsageError("not-benchmarks", message) from error
    if schema != SCHEMA:
        raise UsageError("other-schema", f"{path} is of {schema}, wanted {SCHEMA}; run these benchmarks again")
    rows = [Row(**row) for row in document["rows"]]
    return BenchmarkFile(document["environment"], rows, document.get("tables", {}))


def write_json(path: Path, environment: dict[str, Any], rows: list[Row], tables: Tables | None = None) -> None:
    """Write ``{"schema", "environment", "rows", "tables"}``; a value that could not be measured is null.

    Args:
        path: overwritten.
        environment: the machine, its software and the settings.
        rows: comparisons.
        tables: each of their rows is a line of the file.
    """
    document = {"schema": SCHEMA, "environment": environment, "rows": [asdict(row) for row in rows]}
    text = json.dumps({**document, **({"tables": {}} if tables else {})}, indent=1, allow_nan=False)
    if tables:
        text = text.removesuffix("{}\n}") + "{\n" + ",\n".join(map(_table_text, tables, tables.values())) + "\n }\n}"
    path.write_text(text + "\n", encoding="utf-8")


def _table_text(name: str, table: dict[str, Any]) -> str:
    lines = ",\n".join(f" {json.dumps(row, allow_nan=False, separators=(',', ':'))}" for row in table["rows"])
    return f'  {json.dumps(name)}: {{\n   "columns": {json.dumps(table["columns"])},\n   "rows": [\n{lines}\n   ]\n  }}'
