"""Pictures of rows and tables, as PNG: how many times as fast, where the time goes, how it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.engines import STAGES
from benchmarks.rows import Row, Tables
from benchmarks.table import headlines

PARTS = tuple(stage for stage in STAGES if stage not in ("around", "total"))
COLOURS = dict(zip(PARTS, ("#7f8c8d", "#2c7fb8", "#c9d6df", "#2e8b57", "#e67e22", "#8e44ad"), strict=True))
DPI = 110


def draw(rows: list[Row], tables: Tables, folder: Path) -> None:
    """``benchmarks.png`` of comparisons and ``scaling.png`` of that table, into a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [row for row in headlines(rows) if row.ratio is not None]
    parts = _parts(rows)
    if shown or parts:
        figure = Figure(figsize=(11, 1.2 + 0.26 * max(len(shown), 6)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _ratios(left, shown)
        _breakdown(right, parts)
        figure.savefig(folder / "benchmarks.png", format="png", dpi=DPI)
    if "scaling" in tables:
        _scaling(tables["scaling"]).savefig(folder / "scaling.png", format="png", dpi=DPI)


def _ratios(axes: Axes, rows: list[Row]) -> None:
    """A bar for each row, with what p5 and p95 of both sides leave open."""
    names = [f"{row.bench}, {row.stage}: {row.study} / {row.peer}" for row in rows]
    ratios = [row.ratio or 0.0 for row in rows]
    low = [ratio - row.peer_p5 / row.subject_p95 for ratio, row in zip(ratios, rows, strict=True)]
    high = [row.peer_p95 / row.subject_p5 - ratio for ratio, row in zip(ratios, rows, strict=True)]
    groups = list(dict.fromkeys(row.bench for row in rows))
    colours = [f"C{groups.index(row.bench)}" for row in rows]
    places = range(len(rows))
    axes.barh(places, ratios, xerr=(low, high), color=colours, ecolor="0.3", capsize=2)
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times as good as the peer (p5 to p95 of both)")
    axes.axvline(1, color="0.4", linewidth=0.8)


def _parts(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Of the pipeline, each side's median ms by stage."""
    parts: dict[str, dict[str, float]] = {}
    of_pipeline = [row for row in rows if row.bench == "pipeline" and row.stage in PARTS]
    for row in of_pipeline:
        parts.setdefault(row.subject, {})[row.stage] = row.subject_median
    for row in of_pipeline:
        parts.setdefault(row.peer, {}).setdefault(row.stage, row.peer_median)
    return parts


def _breakdown(axes: Axes, parts: dict[str, dict[str, float]]) -> None:
    """A bar of 100 % for each side."""
    for place, times in enumerate(parts.values()):
        done, total = 0.0, sum(times.values())
        for stage, colour in COLOURS.items():
            share = 100 * times[stage] / total
            axes.barh(place, share, left=done, color=colour, label=stage if place == 0 else None)
            done += share
    axes.set_yticks(range(len(parts)), list(parts), fontsize=7)
    axes.invert_yaxis()
    axes.set(title="where the time goes, file to report", xlabel="% of the total", xlim=(0, 100))
    if parts:
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)


def _scaling(table: dict[str, Any]) -> Figure:
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    alongs = list(dict.fromkeys(row["along"] for row in rows))
    figure = Figure(figsize=(3.6 * len(alongs), 3.2), layout="constrained")
    for axes, along in zip(figure.subplots(1, len(alongs), squeeze=False)[0], alongs, strict=True):
        for row in rows:
            if row["along"] == along:
                axes.plot(row["sizes"], row["ms"], "o-", markersize=3, label=f"{row['stage']}: {row['slope']:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=along, ylabel="ms")
        axes.legend(fontsize=6, title="stage: slope", title_fontsize=6, frameon=False)
    return figure
