"""Tables for a person: at most 100 columns, colours only on a terminal, plain ASCII off it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lnfast.cli.demo import Demonstration
from lnfast.matching import Match
from lnfast.measure import Rules
from lnfast.report.text import length_text

WIDTH = 100


def stdout() -> Console:
    """stdout as rich sees it; a pipe or a file gets the same lines without colours."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    return console


def table(console: Console, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with a rule under its head; the columns of numbers stand to the right."""
    made = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII2,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def show_findings(findings: dict[str, Any]) -> None:
    """What `doctor` found."""
    console = stdout()
    flags = findings["cpu_flags"]
    told = "not told by this system" if flags is None else " ".join(flags) or "none of those that speed a network up"
    console.print(
        f"lnfast {findings['lnfast']}, Python {findings['python']}, {findings['platform']}, "
        f"{findings['cores']} cores ({told}); kernels: {findings['kernels']}",
        markup=False,
    )
    rows = table(console, "backend", "version", "devices", "precisions", "state")
    for status in findings["backends"]:
        rows.add_row(
            status["name"],
            status["version"] or "-",
            " ".join(status["devices"]) or "-",
            " ".join(status["precisions"]) or "-",
            Text(_state(status), style="" if status["devices"] else "yellow"),
        )
    console.print("", rows, "")
    rows = table(console, "model", "version", "trained on", "state")
    for model in findings["models"]:
        state = model["problem"] or "files match the card"
        rows.add_row(
            model["name"],
            model["version"] or "-",
            Text(model["trained_on"] or "-"),
            Text(state, style="red" if model["problem"] else ""),
        )
    if findings["models"]:
        console.print(rows, "")
    rows = table(console, "engine", "of model", "state")
    for engine in findings["engines"]:
        proof = engine["certificate"] or {"studies": 0}
        state = (
            engine["problem"] or f"certified on {proof['studies']} {'study' if proof['studies'] == 1 else 'studies'}"
        )
        rows.add_row(
            f"{engine['target']} {engine['version']} {engine['precision']}",
            engine["model"],
            Text(state, style="red" if engine["problem"] else ""),
        )
    if findings["engines"]:
        console.print(rows, "")
    if findings["cache"]["problem"]:
        console.print(Text(f"no cache: {findings['cache']['problem']}", style="yellow"))
    chosen = findings["auto"]
    if chosen["error"]:
        console.print(Text(f"nothing can run: {chosen['error']}", style="red"))
        return
    console.print(
        f"auto takes {chosen['name']} {chosen['version']}, {chosen['precision']} on {chosen['device']} "
        f"({chosen['choice']}); self-test passed, Dice {chosen['self_test']['dice']:.4f} with FP32",
        markup=False,
    )


def _state(status: dict[str, Any]) -> str:
    if not status["problem"]:
        return "ready"
    return f"{status['problem']}; mend: {status['mend']}" if status["mend"] else str(status["problem"])


def show_demonstration(shown: Demonstration) -> None:
    """A digital patient's nodes beside what was found of them."""
    console = stdout()
    console.print(
        f"{shown.case.name}: a digital patient at b = {shown.phantom.protocol.b_value:g} s/mm2, never trained on.\n"
        "Short axis (of the minimum-volume box) and volume of each node, truth beside what was found:\n",
        markup=False,
    )
    numbers = ("true mm", "found mm", "true cm3", "found cm3")
    rows = table(console, "node", "where", *numbers, "", right=("node", *numbers))
    by_size = sorted(shown.comparison.matches, key=lambda pair: -pair.truth.short_axis_mm)
    for pair in by_size:
        rows.add_row(
            str(pair.truth.id),
            shown.phantom.nodes[pair.truth.id - 1].station,
            *_pair_cells(pair, shown.result.report.rules),
            style="bold" if pair.truth.suspicious else "",
        )
    console.print(rows)
    console.print()
    for line in _conclusions(shown):
        console.print(line, markup=False)


def _pair_cells(pair: Match, rules: Rules) -> tuple[str, str, str, str, Text]:
    truth, found = pair.truth, pair.predicted
    short, volume = length_text(truth.short_axis_mm, rules), f"{truth.volume_mm3 / 1e3:.2f}"
    if found is None:
        return short, "-", volume, "-", Text("missed", style="red" if truth.suspicious else "yellow")
    remark = "suspicious" if truth.suspicious else ""
    if truth.suspicious != found.suspicious:  # measured on the wrong side of the limit
        remark = "too small" if truth.suspicious else "too large"
    style = "" if truth.suspicious == found.suspicious else "red"
    found_short, found_volume = length_text(found.short_axis_mm, rules), f"{found.volume_mm3 / 1e3:.2f}"
    return short, found_short, volume, found_volume, Text(remark, style=style)


def _conclusions(shown: Demonstration) -> Iterator[str]:
    comparison, report = shown.comparison, shown.result.report
    found = sum(pair.predicted is not None for pair in comparison.matches)
    extra = len(comparison.unmatched)
    detection = comparison.detection
    timings = report.timings_ms
    yield (
        f"nodes       {found} of {len(comparison.matches)} found, {extra} extra "
        f"({sum(node.suspicious for node in comparison.unmatched)} of them suspicious)"
    )
    suspicious = detection.detected + detection.missed
    yield f"suspicious  {detection.detected} of {suspicious} found, {detection.wrong} others called suspicious"
    yield f"N stage     {report.n_stage}, truth {shown.case.n_stage}"
    yield (
        f"time        {timings['total'] / 1e3:.2f} s, {timings['infer'] / 1e3:.2f} s of it in the network "
        f"({report.engine.backend} {report.engine.precision} on {report.engine.device})"
    )
    yield f"study       {shown.case.image}"
    yield f"results     {shown.folder}"
    yield ""
    yield "For research use only. The model was trained on digital patients like this one, not on people."
