"""The table that ``lnfast demo`` prints: the phantom's nodes beside the predicted ones."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from lnfast.cli.console import stdout, table
from lnfast.cli.demonstration import Demonstration
from lnfast.matching import Match
from lnfast.measure import Rules
from lnfast.report.lengths import length_text


def show_demonstration(demonstration: Demonstration) -> None:
    """Print the phantom's nodes beside the predicted ones, and a summary."""
    console, phantom = stdout(), demonstration.phantom
    console.print(
        f"{demonstration.case.name}: a digital patient at b = {phantom.protocol.b_value:g} s/mm2, never trained on.\n"
        "Short axis (of the minimum-volume box) and volume of each node, truth beside what was found:\n",
        markup=False,
    )
    numbers = ("true mm", "found mm", "true cm3", "found cm3")
    rows = table(console, "node", "where", *numbers, "", right=("node", *numbers))
    by_size = sorted(demonstration.comparison.matches, key=lambda match: -match.truth.short_axis_mm)
    for match in by_size:
        rows.add_row(
            str(match.truth.id),
            phantom.nodes[match.truth.id - 1].station,
            *_match_cells(match, demonstration.result.report.rules),
            style="bold" if match.truth.suspicious else "",
        )
    console.print(rows)
    console.print()
    for line in _conclusions(demonstration):
        console.print(line, markup=False)


def _match_cells(match: Match, rules: Rules) -> tuple[str, str, str, str, Text]:
    truth, predicted = match.truth, match.predicted
    short, volume = length_text(truth.short_axis_mm, rules), f"{truth.volume_mm3 / 1e3:.2f}"
    if predicted is None:
        return short, "-", volume, "-", Text("missed", style="red" if truth.suspicious else "yellow")
    remark = "suspicious" if truth.suspicious else ""
    if truth.suspicious != predicted.suspicious:  # measured on the wrong side of the limit
        remark = "too small" if truth.suspicious else "too large"
    style = "" if truth.suspicious == predicted.suspicious else "red"
    predicted_short, predicted_volume = length_text(predicted.short_axis_mm, rules), f"{predicted.volume_mm3 / 1e3:.2f}"
    return short, predicted_short, volume, predicted_volume, Text(remark, style=style)


def _conclusions(demonstration: Demonstration) -> Iterator[str]:
    comparison, report = demonstration.comparison, demonstration.result.report
    matched = sum(match.predicted is not None for match in comparison.matches)
    extra = len(comparison.unmatched)
    detection = comparison.detection
    timings = report.timings_ms
    yield (
        f"nodes       {matched} of {len(comparison.matches)} found, {extra} extra "
        f"({sum(node.suspicious for node in comparison.unmatched)} of them suspicious)"
    )
    suspicious = detection.detected + detection.missed
    yield f"suspicious  {detection.detected} of {suspicious} found, {detection.wrong} others called suspicious"
    yield f"N stage     {report.n_stage}, truth {demonstration.case.n_stage}"
    yield (
        f"time        {timings['total'] / 1e3:.2f} s, {timings['infer'] / 1e3:.2f} s of it in the network "
        f"({report.engine.backend} {report.engine.precision} on {report.engine.device})"
    )
    yield f"study       {demonstration.case.image}"
    yield f"results     {demonstration.folder}"
    yield ""
    yield "For research use only. The model was trained on digital patients like this one, not on people."
