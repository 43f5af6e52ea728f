"""The rows that a reader wants first, as Markdown: ``python -m benchmarks table FILE...``.

Of each group the subject that comes first, which is what ``auto`` takes, in what the group is about; of the kernels
what has a target. Everything else stands in the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from benchmarks.harness.rows import Kept, Row
from benchmarks.report.console import digits, text_of

# Of each group the stages that are shown, none for all; the kernels' are those with a target.
STAGES: dict[str, tuple[str, ...]] = {
    "network": ("infer",),
    "pipeline": ("around", "total"),
    "coldstart": ("report",),
    "memory": ("peak",),
    "throughput": (),
}


def headlines(rows: list[Row]) -> list[Row]:
    """The rows that are shown, in their order."""
    first: dict[str, str] = {}
    study: dict[str, str] = {}
    for row in rows:
        subject = first.setdefault(row.bench, row.subject)
        if row.subject == subject:
            study.setdefault(f"{row.bench} {row.peer}", row.study)  # a pipeline's first is of all studies
    return [row for row in rows if _shown(row, first[row.bench], study.get(f"{row.bench} {row.peer}"))]


def markdown(files: Iterable[Kept]) -> str:
    """Of files that were measured alike: on what, one table of headlines, and the tables of what has no peer."""
    parts = []
    for environment, alike in groupby(files, lambda kept: _environment(kept.environment)):
        together = list(alike)
        parts.append(environment)
        if rows := [row for kept in together for row in headlines(kept.rows)]:
            heading = ("work", "lnfast", "against", "lnfast took", "the other", "ratio", "wanted")
            parts.append(_table(heading, map(_cells, rows)))
        for table in (table for kept in together for table in kept.tables.values()):
            parts.append(_table(table["columns"], (map(text_of, row) for row in table["rows"])))
    return "\n\n".join(parts) + "\n"


def _shown(row: Row, subject: str, study: str | None) -> bool:
    if row.bench not in STAGES:
        return row.target is not None
    stages, same = STAGES[row.bench], row.subject == subject and row.study == study
    return (not stages or row.stage in stages) and (same or row.subject == f"{subject}, in its windows")


def _environment(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    busy = "; the machine was BUSY, no number here is final" if facts["busy"] else ""
    flags = ", ".join(facts["cpu_flags"])
    return f"{facts['threads']} threads on {facts['cores']} cores of {facts['cpu']} ({flags}); {versions}{busy}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = row.agreement["verdict"]
    wanted = [f"{row.target:g}x"] if row.target is not None else []
    wanted += [f"under {digits(row.limit)} {row.unit}"] if row.limit is not None else []
    return (
        f"{row.bench}, {row.stage}: {row.study}",
        row.subject,
        row.peer,
        f"{digits(row.subject_median)} {row.unit} ({digits(row.subject_p5)}-{digits(row.subject_p95)})",
        f"{digits(row.peer_median)} ({digits(row.peer_p5)}-{digits(row.peer_p95)})",
        verdict if row.ratio is None else f"{row.ratio:.2f}x",
        ", ".join(wanted) or "-",
    )


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
