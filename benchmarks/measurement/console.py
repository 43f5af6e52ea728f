"""Tables of the measurements in the terminal, and one plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.measurement.summary import ALL, MeasurementResults, MeasurementRow
from benchmarks.report.console import console

# Headings of the columns: a rule against its own truth, or against the body's short axis.
RULES = {
    ("box", "box"): "box",
    ("axial", "axial"): "axial",
    ("axial", "box"): "axial as short axis",
    ("surface", "box"): "surface",
    ("ellipsoid", "box"): "ellipsoid",
}
COLOURS = {"box": "#c0392b", "axial": "#2c7fb8", "surface": "#2e8b57"}
WRONG_BAND = "7.5-8.8"


def show(results: MeasurementResults, folder: Path | None) -> None:
    """Print the tables; draw ``measurement.png`` into the folder, if there is one."""
    print_results(results)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        draw(results, folder / "measurement.png")


def print_results(results: MeasurementResults) -> None:
    """Print bias, spread, 95 % limits and wrong calls, as ``bias sd (low to high) wrong``."""
    out = console()
    out.print("mean error, SD (95 % limits) in mm; share on the wrong side of 8 mm\n", highlight=False)
    exact = [row for row in results.scanners if row.mask == "truth"]
    by_band = [row for row in exact if row.scanner == row.orientation == ALL]
    by_scanner = [row for row in exact if row.scanner != ALL and row.orientation == ALL]
    by_orientation = [row for row in exact if row.scanner == ALL and row.orientation != ALL]
    for title, rows in (
        ("exact nodes", by_band),
        ("exact nodes by scanner", by_scanner),
        ("exact nodes by the direction of their short axis", by_orientation),
        ("exact nodes by scanner and direction", [row for row in exact if ALL not in (row.scanner, row.orientation)]),
        ("imaged nodes: blur and noise", [row for row in results.scanners if row.mask == "imaged"]),
        ("exact nodes by slice thickness", results.slices),
        *(
            (f"marked by the {mask}", [row for row in results.network if row.mask == mask])
            for mask in sorted({row.mask for row in results.network}, reverse=True)
        ),
    ):
        out.print(_table(title, rows))


def draw(results: MeasurementResults, path: Path) -> None:
    """Plot bias with spread, and wrong calls near the limit, over slice thickness, as a PNG."""
    from matplotlib.figure import Figure

    near = [row for row in results.slices if row.size_mm == WRONG_BAND]
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (rule, colour) in enumerate(COLOURS.items()):
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
    rules = [heading for heading in RULES.values() if any(heading in line for line in lines.values())]
    keys = [number for number in range(3) if any(key[number] != ALL for key in lines)] or [0]
    for number in keys:
        table.add_column(("size mm", "scanner", "short axis")[number])
    for heading in ("nodes", *rules):
        table.add_column(heading, justify="right")
    for line_key, line in lines.items():
        cells = [cell(line[heading]) if heading in line else "-" for heading in rules]
        table.add_row(*(line_key[number] for number in keys), str(max(row.n for row in line.values())), *cells)
    return table


def cell(row: MeasurementRow) -> str:
    """Return a cell such as ``-0.82 1.24 (-3.3 to 1.6) 51%``."""
    limits = row.limits_mm
    if row.bias_mm is None:
        return "not seen"
    spread = "" if limits is None else f" {row.sd_mm:.2f} ({limits[0]:+.1f} to {limits[1]:+.1f})"
    unseen = f", {row.unseen} not seen" if row.unseen else ""
    return f"{row.bias_mm:+.2f}{spread} {100 * row.wrong:.0f}%{unseen}"
