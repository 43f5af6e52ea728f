"""The tables that ``lnfast evaluate`` prints: the measures beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lnfast.cli.console import stdout, table
from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.subsets import SUBSETS
from lnfast.evaluate.output.names import MEASURE_NAMES, QUANTITIES, STAGING_MEASURES, p_all_against_suspicious
from lnfast.evaluate.output.paper import PAPER_DETECTION, PAPER_PATIENT, PAPER_SEGMENTATION, PAPER_SUBSETS

CUBED = "\u00b3"  # not ASCII, which the terminal's tables are


def show_metrics(content: Mapping[str, Any], out: Path) -> None:
    """Print four tables, and the folder that holds the rest.

    Args:
        content: of metrics.json.
        out: the folder that was written.
    """
    console = stdout()
    counts = content["counts"]
    console.print(
        f"{counts['studies']} studies, {counts['true_nodes']} true nodes "
        f"({counts['suspicious_true_nodes']} suspicious), "
        f"{counts['predicted_nodes']} predicted ({counts['suspicious_predicted_nodes']} suspicious)",
        *_predicted_by(content["predictions_by"]),
        "",
        sep="\n",
        markup=False,
    )
    _show_segmentation(console, content)
    rows = table(console, "detection", "precision", "paper", "recall", "paper", "F1", "paper")
    for subset in ("suspicious", "largest"):
        for row in _detection_rows(content["detection"][subset], subset):
            rows.add_row(*row)
    console.print(rows, "")
    rows = table(console, "patients", "value (95 % interval)", "paper")
    for measure in STAGING_MEASURES:
        paper = PAPER_PATIENT.get(measure, "-")
        rows.add_row(MEASURE_NAMES[measure], _estimate(content["patient"][measure]), paper)
    console.print(rows, "")
    heads = ["bias", "limits of agreement", "R", "p", "pairs"]
    rows = table(console, "measurement", *heads, right=tuple(heads))
    for row in _measurement_rows(content["measurement"]):
        rows.add_row(*row)
    console.print(rows, "", "The paper has R > 0.80 for each.", f"results     {out}", "", sep="\n", markup=False)
    console.print("For research use only.", markup=False)


def _show_segmentation(console: Console, content: Mapping[str, Any]) -> None:
    heads = [head for subset in SUBSETS for head in (f"{subset} nodes", "paper")]
    rows = table(console, "segmentation", *heads, right=tuple(heads))
    for measure in MEASURES:
        rows.add_row(MEASURE_NAMES[measure], *_segmentation_cells(content["segmentation"], measure))
    for measure in ("dice", "hd_mm", "avd_mm"):
        cells = _segmentation_cells(content["segmentation_of_matched_nodes"], measure)
        rows.add_row(f"{MEASURE_NAMES[measure]} of a matched node", *cells)
    comparisons = content["subset_comparison"]
    tests = ", ".join(
        f"{MEASURE_NAMES[measure]} p {_p_value(p_all_against_suspicious(comparisons[measure]))} (paper {paper})"
        for measure, paper in PAPER_SUBSETS.items()
    )
    console.print(rows, f"all against suspicious nodes: {tests}", "", sep="\n", markup=False)


def _predicted_by(predictions_by: dict[str, Any] | list[dict[str, Any]] | None) -> Iterator[str]:
    """Yield a line for each model and engine of the reports."""
    for entry in predictions_by if isinstance(predictions_by, list) else [predictions_by] if predictions_by else []:
        model, engine = entry["model"], entry["engine"]
        yield (
            f"{entry['studies']} predicted by {model['name']} {model['version']}, "
            f"{engine['backend']} {engine['precision']}"
        )


def _segmentation_cells(segmentation: dict[str, Any], measure: str) -> Iterator[str]:
    for subset in SUBSETS:
        summary = segmentation[subset][measure]
        sd = "" if summary["sd"] is None else f" +- {summary['sd']:.2f}"
        yield "-" if summary["mean"] is None else f"{summary['mean']:.2f}{sd}"
        yield PAPER_SEGMENTATION[subset].get(measure, "-")


def _detection_rows(counts: dict[str, Any], subset: str) -> Iterator[tuple[str, ...]]:
    papers = (PAPER_DETECTION[subset], ("-", "-", "-"), ("-", "-", "-"))
    parts = ((subset, counts), ("  at IoU 0.1", counts["iou_0.1"]), ("  at IoU 0.5", counts["iou_0.5"]))
    for (name, part), (precision, recall, f1) in zip(parts, papers, strict=True):
        tp = part["tp"]
        yield (
            name,
            _proportion(tp, tp + part["fp"]),
            precision,
            _proportion(tp, tp + part["fn"]),
            recall,
            _number(part["f1"]),
            f1,
        )


def _measurement_rows(measurement: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for quantity in QUANTITIES:
        name = f"{quantity.name}, {quantity.unit.replace(CUBED, '3')}"
        for subset in SUBSETS:
            of_all = measurement[quantity.key]
            part = of_all if subset == "all" else of_all[subset]
            bias, low, high = (
                "-" if part[key] is None else quantity.text(part[key]) for key in ("bias", "loa_low", "loa_high")
            )
            limits = "-" if low == "-" else f"{low} to {high}"
            p = _p_value(part["p_value"])
            yield f"{name}, {subset}", bias, limits, _number(part["pearson_r"]), p, str(part["n"])


def _estimate(measure: dict[str, Any]) -> str:
    if measure["value"] is None:
        return f"- ({measure['reason']})"
    interval = "" if measure["low"] is None else f" ({measure['low']:.3f}-{measure['high']:.3f})"
    count = f", {measure['count']}/{measure['of']}" if "count" in measure else ""
    return f"{measure['value']:.3f}{interval}{count}"


def _proportion(part: int, whole: int) -> str:
    return f"{part}/{whole} {part / whole:.3f}" if whole else "-"


def _p_value(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
