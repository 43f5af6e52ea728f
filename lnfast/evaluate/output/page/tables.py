"""The paper's tables, of the numbers in metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.values import SUBSETS
from lnfast.evaluate.output.definitions import NAMES
from lnfast.evaluate.output.page.cells import Footnotes, estimate, mean_sd, number, p_value, text
from lnfast.evaluate.output.paper import PAPER_DETECTION, PAPER_SEGMENTATION, PAPER_SUBSETS

Told = Mapping[str, Any]
Row = tuple[str, Sequence[str]]
_READINGS = {
    "by_prediction": "counted by prediction",
    "one_to_one": "each node in one pair",
    "iou_0.1": "one pair, IoU at least 0.1",
    "iou_0.5": "one pair, IoU at least 0.5",
    "touching_any_size": "a node of any size touches",
}
_QUANTITIES = (("short_axis_mm", "Short axis, mm", 1.0, 2), ("volume_mm3", "Volume, cm\u00b3", 1e3, 3))


def segmentation(told: Told) -> str:
    """Each measure of the three subsets, of studies and of single nodes, beside the paper's."""
    notes, whole, single = Footnotes("segmentation"), told["segmentation"], told["segmentation_of_matched_nodes"]
    rows: list[Row] = [
        (f"{_nodes(subset)}<small>as one mask of a study</small>", _beside_paper(whole[subset], subset, notes))
        for subset in SUBSETS
    ]
    rows += [
        (
            f"{_nodes(subset)}<small>each and its match</small>",
            [mean_sd(single[subset][key], notes) for key in MEASURES],
        )
        for subset in SUBSETS
    ]
    compared = ", ".join(
        f"{NAMES[measure]} P {_all_against_suspicious(told['subset_comparison'][measure], notes)} (paper {paper})"
        for measure, paper in PAPER_SUBSETS.items()
    )
    caption = "Segmentation: mean \u00b1 SD over studies; below, over true nodes that a prediction touches"
    return _table(
        caption,
        "Nodes",
        [NAMES[measure] for measure in MEASURES],
        rows,
        notes,
        f"<p>All against suspicious nodes, LSD: {compared}.</p>",
    )


def detection(told: Told) -> str:
    """Suspicious and largest nodes, by the paper's reading of "found" and by the others."""
    notes, rows = Footnotes("detection"), list[Row]()
    for subset in ("suspicious", "largest"):
        found, paper = told["detection"][subset], PAPER_DETECTION[subset]
        rows.append((f"<b>{_nodes(subset)}</b>", _detected(found, notes, paper)))
        for key, words in _READINGS.items():
            part = found[key]
            if key == "by_prediction":
                # It counts predictions on both sides of its precision, and has the recall of the row above.
                shared = {name: found[name] for name in ("fn", "recall", "recall_low", "recall_high")}
                part = {**part, **shared, "tp": part["right"], "fp": part["wrong"], "found": found["tp"]}
            rows.append((words, _detected(part, notes)))
    caption = (
        "Detection: a node is found where a prediction of its subset shares a voxel with it; below, other readings"
    )
    return _table(caption, "Nodes", ["Precision", "Recall", "F1"], rows, notes)


def diagnosis(told: Told) -> str:
    """N0 or N1 by truth and call, and by scanner where groups are known."""
    notes, patient, groups = Footnotes("diagnosis"), told["patient"], told["groups"]
    counts = patient["table"]
    calls: list[Row] = [
        ("<b>N1</b> in the truth", [str(counts["tp"]), str(counts["fn"])]),
        ("<b>N0</b> in the truth", [str(counts["fp"]), str(counts["tn"])]),
    ]
    square = _table("Studies by stage", "", ["called N1", "called N0"], calls, Footnotes("calls"))
    measures = ("sensitivity", "specificity", "auc", "auc_short_axis", "kappa")
    parts = {"All": patient, **(groups["patient"] or {})}
    rows: list[Row] = [
        (f"{text(name)}<small>{part['n']} studies</small>", [estimate(part[key], notes) for key in measures])
        for name, part in parts.items()
    ]
    heads = [NAMES[key] for key in measures]
    by_scanner = _table("Diagnosis by scanner, with 95 % intervals", "Scanner", heads, rows, notes)
    if groups["segmentation"] is None:
        return f"{square}{by_scanner}<p>No scanners are compared: {text(groups['reason'])}.</p>"
    return square + by_scanner + _segmentation_by_scanner(groups)


def measurement(told: Told) -> str:
    """Short axis and volume of matched nodes: both sides, bias, limits of agreement, correlation and test."""
    notes, rows = Footnotes("measurement"), list[Row]()
    for key, name, per_unit, places in _QUANTITIES:
        for subset in SUBSETS:
            part = told["measurement"][key] if subset == "all" else told["measurement"][key][subset]
            rows.append((f"{name}<small>{subset} nodes</small>", _agreement(part, notes, per_unit, places)))
    heads = ["Prediction", "Truth", "Bias", "Limits of agreement", "R", "P"]
    caption = (
        "Measurement agreement of matched nodes: mean \u00b1 SD; bias of prediction \u2212 truth; Pearson's R, in the "
        "paper above 0.80 throughout; paired t-test"
    )
    return _table(caption, "Quantity", heads, rows, notes)


def _nodes(subset: str) -> str:
    return f"{subset.capitalize()} nodes"


def _beside_paper(segmented: Told, subset: str, notes: Footnotes) -> list[str]:
    paper = PAPER_SEGMENTATION[subset]
    return [
        mean_sd(segmented[measure], notes) + (f"<small>paper {paper[measure]}</small>" if measure in paper else "")
        for measure in MEASURES
    ]


def _all_against_suspicious(compared: Told, notes: Footnotes) -> str:
    found = (pair["p_value"] for pair in compared["lsd"] if set(pair["groups"]) == {"all", "suspicious"})
    return p_value(next(found, None), compared["reason"] or "a subset has no value", notes)


def _detected(part: Told, notes: Footnotes, paper: tuple[str, str, str] | None = None) -> list[str]:
    tp, fp, fn = part["tp"], part["fp"], part["fn"]
    found = part.get("found", tp)
    counts = (f"{tp} of {tp + fp}", f"{found} of {found + fn}", "")
    cells = []
    for place, (key, count) in enumerate(zip(("precision", "recall", "f1"), counts, strict=True)):
        if part[key] is None:
            cell = notes.dash(part["reason"])
        else:
            low = part.get(f"{key}_low")
            interval = "" if low is None else f"<small>{count}, {number(low)} to {number(part[f'{key}_high'])}</small>"
            cell = number(part[key]) + interval
        cells.append(cell + (f"<small>paper {paper[place]}</small>" if paper else ""))
    return cells


def _segmentation_by_scanner(groups: Told) -> str:
    notes = Footnotes("scanners")
    compared = {subset: groups["segmentation"][subset]["dice"] for subset in SUBSETS}
    names = list(groups["patient"])
    nobody = {"mean": None, "sd": None, "n": 0}
    rows: list[Row] = [
        (text(name), [mean_sd(compared[subset]["groups"].get(name, nobody), notes) for subset in SUBSETS])
        for name in names
    ]
    tests = [p_value(compared[subset]["p_value"], compared[subset]["reason"], notes) for subset in SUBSETS]
    rows.append(("<b>P</b>, one-way ANOVA", tests))
    heads = [_nodes(subset) for subset in SUBSETS]
    return _table("Dice by scanner: mean \u00b1 SD over studies", "Scanner", heads, rows, notes)


def _agreement(part: Told, notes: Footnotes, per_unit: float, places: int) -> list[str]:
    reasons = part["reasons"]
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
    """A table that scrolls by itself where the page is narrow.

    Args:
        caption, corner: plain text.
        heads: plain text, one a column.
        rows: head and cells, as HTML.
        notes: that the cells have marked.
        below: HTML.
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
