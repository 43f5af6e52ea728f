"""The paper's tables, from the content of metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.subsets import SUBSETS
from lnfast.evaluate.output.names import MEASURE_NAMES, QUANTITIES, STAGING_MEASURES, Quantity, p_all_against_suspicious
from lnfast.evaluate.output.page.cells import Footnotes, estimate, mean_sd, number, p_value, text
from lnfast.evaluate.output.paper import PAPER_DETECTION, PAPER_SEGMENTATION, PAPER_SUBSETS

Content = Mapping[str, Any]  # metrics.json, or a part of it
Row = tuple[str, Sequence[str]]
_DEFINITIONS = {
    "by_prediction": "counted by prediction",
    "one_to_one": "each node in one pair",
    "iou_0.1": "one pair, IoU at least 0.1",
    "iou_0.5": "one pair, IoU at least 0.5",
    "touching_any_size": "a node of any size touches",
}


def segmentation(content: Content) -> str:
    """Return each measure of the three subsets, of studies and of single nodes, beside the paper's."""
    notes = Footnotes("segmentation")
    of_studies, of_nodes = content["segmentation"], content["segmentation_of_matched_nodes"]
    rows: list[Row] = [
        (f"{_nodes(subset)}<small>as one mask of a study</small>", _beside_paper(of_studies[subset], subset, notes))
        for subset in SUBSETS
    ]
    rows += [
        (
            f"{_nodes(subset)}<small>each and its match</small>",
            [mean_sd(of_nodes[subset][key], notes) for key in MEASURES],
        )
        for subset in SUBSETS
    ]
    comparisons = content["subset_comparison"]
    compared = ", ".join(
        f"{MEASURE_NAMES[measure]} P {_all_against_suspicious(comparisons[measure], notes)} (paper {paper})"
        for measure, paper in PAPER_SUBSETS.items()
    )
    caption = "Segmentation: mean \u00b1 SD over studies; below, over true nodes that a prediction touches"
    return _table(
        caption,
        "Nodes",
        [MEASURE_NAMES[measure] for measure in MEASURES],
        rows,
        notes,
        f"<p>All against suspicious nodes, LSD: {compared}.</p>",
    )


def detection(content: Content) -> str:
    """Return the detection of suspicious and of largest nodes, by the paper's definition and by the others."""
    notes, rows = Footnotes("detection"), list[Row]()
    for subset in ("suspicious", "largest"):
        counts, paper = content["detection"][subset], PAPER_DETECTION[subset]
        rows.append((f"<b>{_nodes(subset)}</b>", _detection_cells(counts, notes, paper)))
        for key, name in _DEFINITIONS.items():
            part = counts[key]
            if key == "by_prediction":
                # Its precision counts predictions alone; its recall is that of the row above.
                recall = {name: counts[name] for name in ("fn", "recall", "recall_low", "recall_high")}
                part = {**part, **recall, "tp": part["right"], "fp": part["wrong"], "detected": counts["tp"]}
            rows.append((name, _detection_cells(part, notes)))
    caption = (
        "Detection: a node is found where a prediction of its subset shares a voxel with it; below, other readings"
    )
    return _table(caption, "Nodes", ["Precision", "Recall", "F1"], rows, notes)


def diagnosis(content: Content) -> str:
    """Return N0 or N1 by truth and call, and by scanner where groups are known."""
    notes, patient, groups = Footnotes("diagnosis"), content["patient"], content["groups"]
    counts = patient["table"]
    calls: list[Row] = [
        ("<b>N1</b> in the truth", [str(counts["tp"]), str(counts["fn"])]),
        ("<b>N0</b> in the truth", [str(counts["fp"]), str(counts["tn"])]),
    ]
    square = _table("Studies by stage", "", ["called N1", "called N0"], calls, Footnotes("calls"))
    parts = {"All": patient, **(groups["patient"] or {})}
    rows: list[Row] = [
        (f"{text(name)}<small>{part['n']} studies</small>", [estimate(part[key], notes) for key in STAGING_MEASURES])
        for name, part in parts.items()
    ]
    heads = [MEASURE_NAMES[key] for key in STAGING_MEASURES]
    by_scanner = _table("Diagnosis by scanner, with 95 % intervals", "Scanner", heads, rows, notes)
    if groups["segmentation"] is None:
        return f"{square}{by_scanner}<p>No scanners are compared: {text(groups['reason'])}.</p>"
    return square + by_scanner + _segmentation_by_scanner(groups)


def measurement(content: Content) -> str:
    """Return the agreement in short axis and volume: both sides, bias, limits of agreement, correlation and test."""
    notes, rows = Footnotes("measurement"), list[Row]()
    for quantity in QUANTITIES:
        for subset in SUBSETS:
            of_all = content["measurement"][quantity.key]
            name = f"{quantity.name.capitalize()}, {quantity.unit}<small>{subset} nodes</small>"
            rows.append((name, _agreement_cells(of_all if subset == "all" else of_all[subset], notes, quantity)))
    heads = ["Prediction", "Truth", "Bias", "Limits of agreement", "R", "P"]
    caption = (
        "Measurement agreement of matched nodes: mean \u00b1 SD; bias of prediction \u2212 truth; Pearson's R, in the "
        "paper above 0.80 throughout; paired t-test"
    )
    return _table(caption, "Quantity", heads, rows, notes)


def _nodes(subset: str) -> str:
    return f"{subset.capitalize()} nodes"


def _beside_paper(segmented: Content, subset: str, notes: Footnotes) -> list[str]:
    paper = PAPER_SEGMENTATION[subset]
    return [
        mean_sd(segmented[measure], notes) + (f"<small>paper {paper[measure]}</small>" if measure in paper else "")
        for measure in MEASURES
    ]


def _all_against_suspicious(comparison: Content, notes: Footnotes) -> str:
    p = p_all_against_suspicious(comparison)
    return p_value(p, comparison["reason"] or "a subset has no value", notes)


def _detection_cells(part: Content, notes: Footnotes, paper: tuple[str, str, str] | None = None) -> list[str]:
    tp, fp, fn = part["tp"], part["fp"], part["fn"]
    detected = part.get("detected", tp)
    counts = (f"{tp} of {tp + fp}", f"{detected} of {detected + fn}", "")
    cells = []
    for column, (key, count) in enumerate(zip(("precision", "recall", "f1"), counts, strict=True)):
        if part[key] is None:
            cell = notes.dash(part["reason"])
        else:
            low = part.get(f"{key}_low")
            interval = "" if low is None else f"<small>{count}, {number(low)} to {number(part[f'{key}_high'])}</small>"
            cell = number(part[key]) + interval
        cells.append(cell + (f"<small>paper {paper[column]}</small>" if paper else ""))
    return cells


def _segmentation_by_scanner(groups: Content) -> str:
    notes = Footnotes("scanners")
    dice = {subset: groups["segmentation"][subset]["dice"] for subset in SUBSETS}
    names = list(groups["patient"])
    without_values = {"mean": None, "sd": None, "n": 0}
    rows: list[Row] = [
        (text(name), [mean_sd(dice[subset]["groups"].get(name, without_values), notes) for subset in SUBSETS])
        for name in names
    ]
    tests = [p_value(dice[subset]["p_value"], dice[subset]["reason"], notes) for subset in SUBSETS]
    rows.append(("<b>P</b>, one-way ANOVA", tests))
    heads = [_nodes(subset) for subset in SUBSETS]
    return _table("Dice by scanner: mean \u00b1 SD over studies", "Scanner", heads, rows, notes)


def _agreement_cells(part: Content, notes: Footnotes, quantity: Quantity) -> list[str]:
    reasons, per_unit, places = part["reasons"], quantity.per_unit, quantity.places
    if part["bias"] is None:
        bias = notes.dash(reasons["bias"])
    else:
        bias = f"{number(part['bias'] / per_unit, places)}<small>{part['n']} pairs</small>"
    if part["loa_low"] is None:
        limits = notes.dash(reasons["loa"])
    else:
        low, high = (number(part[edge] / per_unit, places) for edge in ("loa_low", "loa_high"))
        limits = f"{low} to {high}"
    if part["pearson_r"] is None:
        r = notes.dash(reasons["pearson_r"])
    elif part["pearson_low"] is None:
        r = f"{number(part['pearson_r'])}<small>no interval{notes.mark(reasons['pearson_interval'])}</small>"
    else:
        low, high = number(part["pearson_low"]), number(part["pearson_high"])
        r = f"{number(part['pearson_r'])}<small>{low} to {high}</small>"
    sides = [mean_sd(part[side], notes, places, per_unit) for side in ("predicted", "truth")]
    return [*sides, bias, limits, r, p_value(part["p_value"], reasons.get("p_value"), notes)]


def _table(
    caption: str, corner: str, heads: Iterable[str], rows: Iterable[Row], notes: Footnotes, below: str = ""
) -> str:
    """Return a table that scrolls by itself where the page is narrow.

    Args:
        caption, corner: plain text.
        heads: plain text, one for each column.
        rows: head and cells of each row, as HTML.
        notes: the footnotes that the cells refer to.
        below: HTML between the table and its footnotes.
    """
    head = "<td></td>" if not corner else f'<th scope="col">{text(corner)}</th>'
    head += "".join(f'<th scope="col">{text(name)}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for name, cells in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption.partition(":")[0])}"><table>'
        f"<caption><span>{text(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"{below}{notes.to_html()}"
    )
