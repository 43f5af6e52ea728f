"""Rows and tables in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.harness.rows import Row, Tables
from benchmarks.harness.timing import Summary
from benchmarks.report.compare import FileComparison

_PACKAGES = (
    "lnfast",
    "openvino",
    "onnxruntime",
    "torch",
    "monai",
    "numpy",
    "scipy",
    "connected-components-3d",
    "trimesh",
)
_NONE = "-"
_TEXT_COLUMNS = ("study", "stage", "peer", "answer")
_STYLE = {"same": "", "close": "", "other": "", "different": "yellow", "wrong": "bold red"}
HOUR_MS = 3.6e6


def limit_text(environment: dict[str, Any]) -> str:
    """Return what follows the flags of a processor whose instructions were limited; older files do not say it."""
    limit = environment.get("cpu_limit")
    return f", limited to {limit}" if limit else ""


def print_rows(environment: dict[str, Any], rows: list[Row]) -> None:
    """Print the environment, then a table for each group and subject."""
    out = console()
    versions = environment["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in _PACKAGES if name in versions)
    load = environment["load_average"]
    busy = f", load {load[0]}: BUSY, no number here is final" if environment["busy"] else ""
    flags = " ".join(environment["cpu_flags"]) + limit_text(environment)
    used = f"{environment['threads']} threads, kernels {environment['kernels']}{busy}"
    out.print(f"{environment['cpu']} ({flags}), {used}\n{packages}\n", highlight=False)
    for bench, subject, unit in dict.fromkeys((row.bench, row.subject, row.unit) for row in rows):
        chosen = [row for row in rows if (row.bench, row.subject, row.unit) == (bench, subject, unit)]
        cells = [_cells(row) for row in chosen]
        table = Table(title=f"{bench}: {subject}", title_justify="left", box=SIMPLE_HEAD)
        headings = [heading for heading in cells[0] if any(cell[heading] != _NONE for cell in cells)]
        for heading in headings:
            table.add_column(heading, justify="left" if heading in _TEXT_COLUMNS else "right")
        for row, cell in zip(chosen, cells, strict=True):
            table.add_row(*(cell[heading] for heading in headings), style=_STYLE[row.agreement["verdict"]])
        out.print(table)


def _cells(row: Row) -> dict[str, str]:
    """The cells of a row by heading; a column without any value is left out."""
    ours = Summary(row.n, row.subject_median, row.subject_p5, row.subject_p95)
    theirs = Summary(row.n, row.peer_median, row.peer_p5, row.peer_p95)
    dice = row.agreement.get("dice")
    return {
        "study": row.study,
        "stage": row.stage,
        "peer": row.peer,
        f"subject {row.unit} (p5-p95)": _range(ours),
        f"peer {row.unit} (p5-p95)": _range(theirs),
        "studies/h": f"{HOUR_MS / row.subject_median:.0f}" if row.unit == "ms/study" else _NONE,
        "ratio": _NONE if row.ratio is None else f"{row.ratio:.2f}x",
        "target": _NONE if row.target is None else f"{row.target:g}x",
        "limit": _NONE if row.limit is None else format_number(row.limit),
        "floor": _NONE if row.floor is None else format_number(row.floor),
        "of floor": _NONE if row.of_floor is None else f"{row.of_floor:.{1 if row.of_floor >= 2 else 3}f}x",
        "Dice": _NONE if dice is None else f"{dice:.4f}",
        "runs": str(row.n),
        "answer": _answer(row.agreement),
    }


def print_tables(tables: Tables) -> None:
    """Print the tables that are no comparison with a peer."""
    for name, table in tables.items():
        printed = Table(title=name, title_justify="left", box=SIMPLE_HEAD)
        for column, value in zip(table["columns"], table["rows"][0], strict=True):
            printed.add_column(column, justify="left" if isinstance(value, str) else "right")
        for row in table["rows"]:
            printed.add_row(*map(format_value, row))
        console().print(printed)


def format_value(value: Any) -> str:
    """Return a cell of a table that is no comparison."""
    if isinstance(value, list):
        return " ".join(map(format_value, value))
    return format_number(value) if isinstance(value, float) else str(value)


def _answer(agreement: dict[str, Any]) -> str:
    """The verdict, and the counts or stages that differ."""
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
    return f"{format_number(summary.median)} ({format_number(summary.p5)}-{format_number(summary.p95)})"


def format_number(value: float) -> str:
    """Return a number with about three significant digits."""
    if abs(value) < 0.1:
        return f"{value:.4f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def console() -> Console:
    """Return a console as wide as the terminal; in a file or a pipe lines are not folded."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=240)


def print_comparison(comparison: FileComparison, threshold: float) -> None:
    """Print the rows that changed, worst first, and how many did not change."""
    out = console()
    for line in comparison.differences:
        out.print(f"not the same: {line}", highlight=False)
    counts = Counter(change.outcome for change in comparison.changes)
    table = Table(title=f"ratio of ratios, threshold {threshold:g}x", title_justify="left", box=SIMPLE_HEAD)
    headings = ("group", "study", "stage", "subject", "peer", "old", "new", "change (interval)", "outcome")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("old", "new", "change (interval)") else "left")
    for row in comparison.changes:
        if row.outcome == "unchanged":
            continue
        ratios = ("none" if ratio is None else f"{ratio:.2f}x" for ratio in (row.old, row.new))
        change = _NONE if row.change is None else f"{row.change:.3f}"
        change += "" if row.low is None else f" ({row.low:.3f}-{row.high:.3f})"
        key = row.key
        cells = (key.bench, key.study, key.stage, key.subject, key.peer, *ratios, change, row.outcome)
        table.add_row(*cells, style="bold red" if row in comparison.regressions else "")
    if table.row_count:
        out.print(table)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    rest = f"only in the old file {comparison.only_old}, only in the new one {comparison.only_new}"
    out.print(f"{summary}; {rest}", highlight=False)
