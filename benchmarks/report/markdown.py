"""The most important rows as Markdown: ``python -m benchmarks table FILE...``.

Of each group the rows of the first subject, which is what ``auto`` takes, in the stages that the group is about; of the
kernels the rows with a target. All other rows are in the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from benchmarks.harness.rows import BenchmarkFile, Row
from benchmarks.report.console import format_number, format_value, limit_text

# Of each group the stages that are shown, none for all; the kernels' are those with a target.
STAGES: dict[str, tuple[str, ...]] = {
    "network": ("infer",),
    "pipeline": ("around", "total", "read DICOM"),
    "coldstart": ("report",),
    "memory": ("peak",),
    "throughput": (),
}


def headlines(rows: list[Row]) -> list[Row]:
    """Return the rows that are shown, in their order."""
    first: dict[str, str] = {}
    study: dict[str, str] = {}
    for row in rows:
        subject = first.setdefault(row.bench, row.subject)
        if row.subject == subject:
            study.setdefault(f"{row.bench} {row.peer}", row.study)  # a pipeline's first is of all studies
    return [row for row in rows if _is_headline(row, first[row.bench], study.get(f"{row.bench} {row.peer}"))]


def render_markdown(files: Iterable[BenchmarkFile]) -> str:
    """Return for each environment: its description, one table of `headlines`, and the tables without a peer."""
    parts = []
    for environment, alike in groupby(files, lambda file: _environment(file.environment)):
        together = list(alike)
        parts.append(environment)
        if rows := [row for file in together for row in headlines(file.rows)]:
            heading = ("work", "subject", "peer", "subject median (p5-p95)", "peer median (p5-p95)", "ratio", "target")
            parts.append(_table(heading, map(_cells, rows)))
        for table in (table for file in together for table in file.tables.values()):
            parts.append(_table(table["columns"], (map(format_value, row) for row in table["rows"])))
    return "\n\n".join(parts) + "\n"


def _is_headline(row: Row, subject: str, study: str | None) -> bool:
    if row.bench not in STAGES:
        return row.target is not None
    stages, same = STAGES[row.bench], row.subject == subject and row.study == study
    return (not stages or row.stage in stages) and (same or row.subject == f"{subject}, in its windows")


def _environment(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    busy = "; the machine was BUSY, no number here is final" if facts["busy"] else ""
    flags = ", ".join(facts["cpu_flags"]) + limit_text(facts)
    return f"{facts['threads']} threads on {facts['cores']} cores of {facts['cpu']} ({flags}); {versions}{busy}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = row.agreement["verdict"]
    wanted = [f"{row.target:g}x"] if row.target is not None else []
    wanted += [f"under {format_number(row.limit)} {row.unit}"] if row.limit is not None else []
    return (
        f"{row.bench}, {row.stage}: {row.study}",
        row.subject,
        row.peer,
        _range(row.subject_median, row.subject_p5, row.subject_p95, f" {row.unit}"),
        _range(row.peer_median, row.peer_p5, row.peer_p95),
        verdict if row.ratio is None else f"{row.ratio:.2f}x",
        ", ".join(wanted) or "-",
    )


def _range(median: float, p5: float, p95: float, unit: str = "") -> str:
    return f"{format_number(median)}{unit} ({format_number(p5)}-{format_number(p95)})"


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
