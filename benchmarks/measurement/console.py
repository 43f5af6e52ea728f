"""The answers for people: tables, and one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.measurement.summary import ALL, MeasurementRow
from benchmarks.report.console import console

if TYPE_CHECKING:
    from benchmarks.measurement import Answers

# Headings of the columns: a rule against the truth that is its own, or against the body's short axis.
RULES = {
    ("box", "box"): "box",
    ("axial", "axial"): "axial",
    ("axial", "box"): "axial as short axis",
    ("surface", "box"): "surface",
    ("ellipsoid", "box"): "ellipsoid",
}
DRAWN = {"box": "#c0392b", "axial": "#2c7fb8", "surface": "#2e8b57"}
WRONG_BAND = "7.5-8.8"


def show(answers: Answers, folder: Path | None) -> None:
    """Print the tables; draw ``measurement.png`` into a folder where one is asked for."""
    print_answers(answers)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        draw(answers, folder / "measurement.png")


def print_answers(answers: Answers) -> None:
    """Bias, spread, 95 % limits and wrong calls, as ``bias sd (low to high) wrong``."""
    out = console()
    out.print("mean error, SD (95 % limits) in mm; share on the wrong side of 8 mm\n", highlight=False)
    exact = [row for row in answers.scanners if row.mask == "truth"]
    by_band = [row for row in exact if row.scanner == row.orientation == ALL]
    by_scanner = [row for row in exact if row.scanner != ALL and row.orientation == ALL]
    by_turn = [row for row in exact if row.scanner == ALL and row.orientation != ALL]
    for title, rows in (
        ("exact nodes", by_band),
        ("exact nodes by scanner", by_scanner),
        ("exact nodes by the direction of their short axis", by_turn),
        ("exact nodes by scanner and direction", [row for row in exact if ALL not in (row.scanner, row.orientation)]),
        ("imaged nodes: blur and noise", [row for row in answers.scanners if row.mask == "imaged"]),
        ("exact nodes by slice thickness", answers.slices),
        ("nodes that the network found in whole phantoms", answers.network),
    ):
        out.print(_table(title, rows))


def draw(answers: Answers, path: Path) -> None:
    """Bias with spread, and wrong calls near the limit, against slice thickness, as a PNG."""
    from matplotlib.figure import Figure

    near = [row for row in answers.slices if row.size_mm == WRONG_BAND]
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (rule, colour) in enumerate(DRAWN.items()):
        rows = [row for row in near if (row.rule, row.truth) == (rule, "axial" if rule == "axial" else "box")]
        slices_mm = [float(row.scanner.split()[0]) + 0.12 * (number - 1) for row in rows]
        bias_mm, sd_mm = [row.bias_mm or 0.0 for row in rows], [row.sd_mm or 0.0 for row in rows]
        left.errorbar(slices_mm, bias_mm, sd_mm, fmt="o-", color=colour, capsize=2, markersize=3.5, label=rule)
        right.plot(slices_mm, [100 * row.wrong for row in rows], "o-", color=colour, markersize=3.5, label=rule)
    left.axhline(0, color="0.6", linewidth=0.8)
    left.set(title=f"nodes of {WRONG_BAND} mm: error", xlabel="slice thickness, mm", ylabel="mean error with SD, mm")
    right.set(
        title="wrong side of 8 mm", xlabel="slice thickness, mm", ylabel="share of these nodes, %", ylim=(0, None)
    )
    right.legend(frameon=False)
    figure.savefig(path, format="png", dpi=110)


def _table(title: str, rows: Sequence[MeasurementRow]) -> Table:
    """A line for each size, scanner and orientation, a column for each rule."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    lines: dict[tuple[str, str, str], dict[str, MeasurementRow]] = {}
    for row in rows:
        lines.setdefault((row.size_mm, row.scanner, row.orientation), {})[RULES[row.rule, row.truth]] = row
    named = [heading for heading in RULES.values() if any(heading in line for line in lines.values())]
    shown = [number for number in range(3) if any(key[number] != ALL for key in lines)] or [0]
    for number in shown:
        table.add_column(("size mm", "scanner", "short axis")[number])
    for heading in ("nodes", *named):
        table.add_column(heading, justify="right")
    for key, line in lines.items():
        cells = [cell(line[heading]) if heading in line else "-" for heading in named]
        table.add_row(*(key[number] for number in shown), str(max(row.n for row in line.values())), *cells)
    return table


def cell(row: MeasurementRow) -> str:
    """Such as ``-0.82 1.24 (-3.3 to 1.6) 51%``."""
    limits = row.limits_mm
    if row.bias_mm is None:
        return "not seen"
    spread = "" if limits is None else f" {row.sd_mm:.2f} ({limits[0]:+.1f} to {limits[1]:+.1f})"
    unseen = f", {row.unseen} not seen" if row.unseen else ""
    return f"{row.bias_mm:+.2f}{spread} {100 * row.wrong:.0f}%{unseen}"
