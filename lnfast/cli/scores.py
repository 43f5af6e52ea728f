"""What `evaluate` prints: the measures beside the paper's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lnfast.cli.tables import stdout, table

# The paper's testing set (n = 41), and for patients its hold-out set (n = 77). What it does not print is not here.
PAPER_SEGMENTATION: Mapping[str, Mapping[str, str]] = {
    "all": {"dice": "0.76", "vs": "0.82"},
    "suspicious": {
        "dice": "0.85",
        "ppv": "0.80",
        "tpr": "0.82",
        "vs": "0.86",
        "hd_mm": "2.02",
        "avd_mm": "2.01",
        "mhd": "1.54",
    },
    "largest": {
        "dice": "0.88",
        "ppv": "0.83",
        "tpr": "0.89",
        "vs": "0.88",
        "hd_mm": "2.02",
        "avd_mm": "2.01",
        "mhd": "1.54",
    },
}
PAPER_DETECTION = {"suspicious": ("226/231 0.978", "226/230 0.983", "0.980"), "largest": ("41/41", "41/41", "1.000")}
PAPER_PATIENT = {
    "sensitivity": "1.000 (0.905-1.000)",
    "specificity": "0.925 (0.796-0.984)",
    "auc": "0.963 (0.892-0.993)",
    "kappa": "0.922",
}
_NAMES = {
    "dice": "Dice",
    "ppv": "PPV",
    "tpr": "TPR",
    "vs": "VS",
    "hd_mm": "HD, mm",
    "avd_mm": "AVD, mm",
    "mhd": "MHD",
    "auc": "AUC of the call",
    "auc_short_axis": "AUC of the short axis",
}
_SUBSETS = ("all", "suspicious", "largest")


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
        f"{counts['predicted_nodes']} predicted ({counts['suspicious_predicted_nodes']} suspicious)\n",
        markup=False,
    )
    heads = [head for subset in _SUBSETS for head in (f"{subset} nodes", "paper")]
    rows = table(console, "segmentation", *heads, right=tuple(heads))
    for measure in PAPER_SEGMENTATION["largest"]:
        rows.add_row(_NAMES[measure], *_segmentation_cells(told["segmentation"], measure))
    for measure in ("dice", "hd_mm", "avd_mm"):
        cells = _segmentation_cells(told["segmentation_of_matched_nodes"], measure)
        rows.add_row(f"{_NAMES[measure]} of a matched node", *cells)
    console.print(rows, "")
    rows = table(console, "detection", "precision", "paper", "recall", "paper", "F1", "paper")
    for subset in ("suspicious", "largest"):
        for line in _detection_lines(told["detection"][subset], subset):
            rows.add_row(*line)
    console.print(rows, "")
    rows = table(console, "patients", "value (95 % interval)", "paper")
    for measure in ("sensitivity", "specificity", "auc", "auc_short_axis", "kappa"):
        rows.add_row(_NAMES.get(measure, measure), _estimate(told["patient"][measure]), PAPER_PATIENT.get(measure, "-"))
    console.print(rows, "")
    heads = ["bias", "limits of agreement", "R", "p", "pairs"]
    rows = table(console, "measurement", *heads, right=tuple(heads))
    for line in _measurement_lines(told["measurement"]):
        rows.add_row(*line)
    console.print(rows, "", "The paper has R > 0.80 for each.", f"results     {out}", "", sep="\n", markup=False)
    console.print("For research use only.", markup=False)


def _segmentation_cells(segmentation: dict[str, Any], measure: str) -> Iterator[str]:
    for subset in _SUBSETS:
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
        for subset in _SUBSETS:
            part = told[key] if subset == "all" else told[key][subset]
            bias, low, high = (
                "-" if part[edge] is None else f"{round(part[edge] / unit, places) + 0.0:.{places}f}"
                for edge in ("bias", "loa_low", "loa_high")
            )
            limits = "-" if low == "-" else f"{low} to {high}"
            p = part["p_value"]
            small = "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
            yield f"{name}, {subset}", bias, limits, _number(part["pearson_r"]), small, str(part["n"])


def _estimate(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return f"- ({told['reason']})"
    interval = "" if told["low"] is None else f" ({told['low']:.3f}-{told['high']:.3f})"
    count = f", {told['count']}/{told['of']}" if "count" in told else ""
    return f"{told['value']:.3f}{interval}{count}"


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} {part / whole:.3f}" if whole else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
