"""What `evaluate` prints: the measures beside the paper's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lnfast.cli.tables import stdout, table
from lnfast.evaluate.measures.values import SUBSETS
from lnfast.evaluate.output.definitions import NAMES
from lnfast.evaluate.output.paper import PAPER_DETECTION, PAPER_PATIENT, PAPER_SEGMENTATION, PAPER_SUBSETS


def show_metrics(told: dict[str, Any], out: Path) -> None:
    """Four tables, and where the rest is.

    Args:
        told: as in metrics.json.
        out: the folder that was written.
    """
    console = stdout()
    counts = told["counts"]
    console.print(
        f"{counts['studies']} studies, {counts['true_nodes']} true nodes "
        f"({counts['suspicious_true_nodes']} suspicious), "
        f"{counts['predicted_nodes']} predicted ({counts['suspicious_predicted_nodes']} suspicious)",
        *_predicted_by(told["predictions_by"]),
        "",
        sep="\n",
        markup=False,
    )
    heads = [head for subset in SUBSETS for head in (f"{subset} nodes", "paper")]
    rows = table(console, "segmentation", *heads, right=tuple(heads))
    for measure in PAPER_SEGMENTATION["largest"]:
        rows.add_row(NAMES[measure], *_segmentation_cells(told["segmentation"], measure))
    for measure in ("dice", "hd_mm", "avd_mm"):
        cells = _segmentation_cells(told["segmentation_of_matched_nodes"], measure)
        rows.add_row(f"{NAMES[measure]} of a matched node", *cells)
    compared = ", ".join(
        f"{NAMES[measure]} p {_all_against_suspicious(told['subset_comparison'][measure])} (paper {paper})"
        for measure, paper in PAPER_SUBSETS.items()
    )
    console.print(rows, f"all against suspicious nodes: {compared}", "", sep="\n", markup=False)
    rows = table(console, "detection", "precision", "paper", "recall", "paper", "F1", "paper")
    for subset in ("suspicious", "largest"):
        for line in _detection_lines(told["detection"][subset], subset):
            rows.add_row(*line)
    console.print(rows, "")
    rows = table(console, "patients", "value (95 % interval)", "paper")
    for measure in ("sensitivity", "specificity", "auc", "auc_short_axis", "kappa"):
        rows.add_row(NAMES[measure], _estimate(told["patient"][measure]), PAPER_PATIENT.get(measure, "-"))
    console.print(rows, "")
    heads = ["bias", "limits of agreement", "R", "p", "pairs"]
    rows = table(console, "measurement", *heads, right=tuple(heads))
    for line in _measurement_lines(told["measurement"]):
        rows.add_row(*line)
    console.print(rows, "", "The paper has R > 0.80 for each.", f"results     {out}", "", sep="\n", markup=False)
    console.print("For research use only.", markup=False)


def _predicted_by(told: dict[str, Any] | list[dict[str, Any]] | None) -> Iterator[str]:
    """A line for each model and engine that the reports name."""
    for one in told if isinstance(told, list) else [told] if told else []:
        model, engine = one["model"], one["engine"]
        yield (
            f"{one['studies']} predicted by {model['name']} {model['version']}, "
            f"{engine['backend']} {engine['precision']}"
        )


def _segmentation_cells(segmentation: dict[str, Any], measure: str) -> Iterator[str]:
    for subset in SUBSETS:
        score = segmentation[subset][measure]
        sd = "" if score["sd"] is None else f" +- {score['sd']:.2f}"
        yield "-" if score["mean"] is None else f"{score['mean']:.2f}{sd}"
        yield PAPER_SEGMENTATION[subset].get(measure, "-")


def _detection_lines(told: dict[str, Any], subset: str) -> Iterator[tuple[str, ...]]:
    precision, recall, f1 = PAPER_DETECTION[subset]
    yield (
        subset,
        _share(told["tp"], told["tp"] + told["fp"]),
        precision,
        _share(told["tp"], told["tp"] + told["fn"]),
        recall,
        _number(told["f1"]),
        f1,
    )
    for key, name in (("iou_0.1", "  at IoU 0.1"), ("iou_0.5", "  at IoU 0.5")):
        part = told[key]
        found, whole = part["tp"], (part["tp"] + part["fp"], part["tp"] + part["fn"])
        yield name, _share(found, whole[0]), "-", _share(found, whole[1]), "-", _number(part["f1"]), "-"


def _measurement_lines(told: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, name, unit, places in (("short_axis_mm", "short axis, mm", 1.0, 2), ("volume_mm3", "volume, cm3", 1e3, 3)):
        for subset in SUBSETS:
            part = told[key] if subset == "all" else told[key][subset]
            bias, low, high = (
                "-" if part[edge] is None else f"{round(part[edge] / unit, places) + 0.0:.{places}f}"
                for edge in ("bias", "loa_low", "loa_high")
            )
            limits = "-" if low == "-" else f"{low} to {high}"
            p = _p_value(part["p_value"])
            yield f"{name}, {subset}", bias, limits, _number(part["pearson_r"]), p, str(part["n"])


def _estimate(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return f"- ({told['reason']})"
    interval = "" if told["low"] is None else f" ({told['low']:.3f}-{told['high']:.3f})"
    count = f", {told['count']}/{told['of']}" if "count" in told else ""
    return f"{told['value']:.3f}{interval}{count}"


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} {part / whole:.3f}" if whole else "-"


def _all_against_suspicious(compared: dict[str, Any]) -> str:
    found = (pair["p_value"] for pair in compared["lsd"] if set(pair["groups"]) == {"all", "suspicious"})
    return _p_value(next(found, None))


def _p_value(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
