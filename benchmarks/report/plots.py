"""Plots of rows and tables as PNG: ratios with peers, time by stage, growth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

from benchmarks.harness.engines import STAGES
from benchmarks.harness.rows import Row, Tables
from benchmarks.report.console import format_number
from benchmarks.report.markdown import headlines

PARTS = tuple(stage for stage in STAGES if stage not in ("around", "total"))
_COLOURS = ("#7f8c8d", "#2c7fb8", "#2e8b57", "#e67e22", "#8e44ad")
AROUND = dict(zip((part for part in PARTS if part != "infer"), _COLOURS, strict=True))
DPI = 110


def draw(rows: list[Row], tables: Tables, folder: Path) -> None:
    """Write ``benchmarks.png`` of the comparisons and ``scaling.png`` of that table into a folder, which may be new."""
    folder.mkdir(parents=True, exist_ok=True)
    compared = [row for row in headlines(rows) if row.ratio is not None]
    parts = _parts(rows)
    if compared or parts:
        heights = (max(len(compared), 2), max(len(parts), 2))
        figure = Figure(figsize=(9, 2 + 0.24 * sum(heights)), layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=heights)
        _ratios(above, compared)
        _breakdown(below, parts)
        figure.savefig(folder / "benchmarks.png", format="png", dpi=DPI)
    if "scaling" in tables:
        scaling_figure(tables["scaling"]).savefig(folder / "scaling.png", format="png", dpi=DPI)


def _ratios(axes: Axes, rows: list[Row]) -> None:
    """Draw a bar for each row, with the range that p5 and p95 of both sides leave."""
    kernels = [f"{row.subject}, " if row.bench == "kernels" else "" for row in rows]
    names = [f"{row.bench}, {kernel}{row.stage}: {row.study}" for kernel, row in zip(kernels, rows, strict=True)]
    ratios = [row.ratio or 0.0 for row in rows]
    low = [ratio - row.peer_p5 / row.subject_p95 for ratio, row in zip(ratios, rows, strict=True)]
    high = [row.peer_p95 / row.subject_p5 - ratio for ratio, row in zip(ratios, rows, strict=True)]
    groups = list(dict.fromkeys(row.bench for row in rows))
    colours = [f"C{groups.index(row.bench)}" for row in rows]
    places = range(len(rows))
    axes.barh(places, ratios, xerr=(low, high), color=colours, ecolor="0.3", capsize=2)
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    for place, row in enumerate(rows):
        peer = row.peer.removeprefix(f"{row.subject.removesuffix('run_many')}")
        axes.text(row.peer_p95 / row.subject_p5 * 1.05, place, peer, fontsize=6, va="center", color="0.3")
    axes.set(xscale="log", xlabel="times as good as the peer (p5 to p95 of both)")
    axes.margins(y=0.01)
    lowest = min([1.0, *filter(None, ratios)])  # an answer that differs has no ratio
    highest = max([1.0, *(row.peer_p95 / row.subject_p5 for row in rows)])
    axes.set_xlim(lowest / 2, 40 * highest)  # the peers' names stand to the right of the bars
    axes.axvline(1, color="0.4", linewidth=0.8)


def _parts(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Median ms of the pipeline by side and stage, over all studies together."""
    parts: dict[str, dict[str, float]] = {}
    # A single study has a total and no stages.
    pooled = {row.study for row in rows if row.bench == "pipeline" and row.stage in PARTS}
    of_pipeline = [row for row in rows if row.bench == "pipeline" and row.study in pooled]
    for row in of_pipeline:
        parts.setdefault(row.subject, {})[row.stage] = row.subject_median
    for row in of_pipeline:
        parts.setdefault(row.peer, {}).setdefault(row.stage, row.peer_median)
    return {name: times for name, times in parts.items() if times.keys() >= set(STAGES)}


def _breakdown(axes: Axes, parts: dict[str, dict[str, float]]) -> None:
    """Draw a bar of the work around the network for each side; the network, whose bar would dwarf it, is text."""
    for place, times in enumerate(parts.values()):
        left = 0.0
        for stage, colour in AROUND.items():
            axes.barh(place, times[stage], left=left, color=colour, label=stage if place == 0 else None)
            left += times[stage]
        share = 100 * times["around"] / times["total"]
        around_ms, network_ms = format_number(times["around"]), format_number(times["infer"])
        label = f" {around_ms} ms, {share:.1f} % of all; the network {network_ms} ms"
        axes.text(left, place, label, fontsize=6, va="center", color="0.3")
    axes.set_yticks(range(len(parts)), list(parts), fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="around the network, file to report, ms")
    axes.margins(x=1.1)
    if parts:
        axes.legend(fontsize=6, ncols=len(AROUND), loc="lower left", bbox_to_anchor=(0, 1), frameon=False)


def scaling_figure(table: dict[str, Any]) -> Figure:
    """Return the plots of the group ``scaling``, one for each quantity that grows, with the slope of each stage."""
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    alongs = list(dict.fromkeys(row["along"] for row in rows))
    figure = Figure(figsize=(3.6 * len(alongs), 4), layout="constrained")
    for axes, along in zip(figure.subplots(1, len(alongs), squeeze=False)[0], alongs, strict=True):
        lines = [row for row in rows if row["along"] == along]
        for row in lines:
            slope = round(row["slope"], 2) + 0.0  # a slope of -0.001 is 0.00
            axes.plot(row["sizes"], row["ms"], "o-", markersize=3, label=f"{row['stage']}: {slope:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=along, ylabel="ms")
        axes.set_xticks(lines[0]["sizes"], [_count(size) for size in lines[0]["sizes"]], fontsize=7)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.tick_params(axis="y", which="both", labelsize=7)
        words = {"title": "stage: slope of log ms over log size", "title_fontsize": 6, "fontsize": 6}
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False, **words)
    return figure


def _count(size: int) -> str:
    return f"{size / 1e6:.1f} M" if size >= 1e5 else str(size)
