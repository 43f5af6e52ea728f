"""The paper's figures as PNG and SVG: correlation, Bland-Altman, ROC. Equal input gives equal bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from lnfast.evaluate.evaluation import Evaluation
from lnfast.evaluate.measures.agreement import MatchedValues, agreement, matched
from lnfast.evaluate.measures.patient import auc_of_score, confusion_table
from lnfast.evaluate.measures.subsets import SUBSETS, Subset
from lnfast.evaluate.output.names import QUANTITIES, Quantity
from lnfast.evaluate.packages import load

BLUE, RED, GREY = "#1f5a96", "#b3261e", "#767676"
_SUBSET_NAMES = {"all": "all nodes", "suspicious": "suspicious nodes", "largest": "largest nodes"}
_STYLE = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 150}
# Without these the SVG holds random ids, and both formats hold the time and the version.
_FIXED = {"svg.hashsalt": "lnfast"}
_METADATA: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
FORMATS = tuple(_METADATA)


def draw_figures(evaluation: Evaluation) -> dict[str, bytes]:
    """Draw every figure in every format; return their bytes by file name."""
    drawings: Mapping[str, Callable[[Any, Evaluation], None]] = {
        "correlation": _correlation,
        "bland_altman": _bland_altman,
        "roc": _roc,
    }
    files = {}
    with _fixed_style():
        for name, draw in drawings.items():
            figure = load("matplotlib.figure").Figure(layout="constrained")
            draw(figure, evaluation)
            figure.draw_without_rendering()  # computes the layout once for both formats
            figure.set_layout_engine("none")
            for kind in FORMATS:
                stream = io.BytesIO()
                figure.savefig(stream, format=kind, metadata=_METADATA[kind])
                files[f"{name}.{kind}"] = stream.getvalue()
    return files


@contextmanager
def _fixed_style() -> Iterator[None]:
    """Replace the user's matplotlib settings inside the block."""
    matplotlib = load("matplotlib")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | _FIXED)
        yield


def _correlation(figure: Any, evaluation: Evaluation) -> None:
    for axes, quantity, subset, values in _panels(figure, evaluation):
        result = agreement(values)
        x, y = values.truth / quantity.per_unit, values.predicted / quantity.per_unit
        limit = 1.05 * max(float(x.max()), float(y.max()))
        axes.plot([0, limit], [0, limit], color=GREY, linewidth=0.8, zorder=1)
        if quantity.key == "short_axis_mm":
            _mark_suspicious(axes, evaluation.rules.suspicious_mm, limit)
        _points(axes, x, y)
        axes.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
        _round_ticks(axes)
        axes.set_xlabel(f"truth, {quantity.unit}")
        axes.set_ylabel(f"prediction, {quantity.unit}")
        r, low, high = result["pearson_r"], result["pearson_low"], result["pearson_high"]
        line = "R undefined" if r is None else f"R = {r:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
        axes.set_title(f"{quantity.name}, {_SUBSET_NAMES[subset]} (n = {result['n']})\n{line}")


def _bland_altman(figure: Any, evaluation: Evaluation) -> None:
    for axes, quantity, subset, values in _panels(figure, evaluation):
        result, unit = agreement(values), quantity.per_unit
        _points(axes, (values.truth + values.predicted) / 2 / unit, (values.predicted - values.truth) / unit)
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.axhline(result["bias"] / unit, color=RED, linewidth=1.2)
        line = f"bias {quantity.text(result['bias'])}"
        if result["loa_low"] is not None:
            for edge in (result["loa_low"], result["loa_high"]):
                axes.axhline(edge / unit, color=RED, linewidth=1.0, linestyle="--")
            limits = f"{quantity.text(result['loa_low'])} to {quantity.text(result['loa_high'])}"
            line += f", limits {limits} {quantity.unit}"
        axes.margins(0.08)
        _round_ticks(axes)
        axes.set_xlabel(f"mean of truth and prediction, {quantity.unit}")
        axes.set_ylabel(f"prediction - truth, {quantity.unit}")
        axes.set_title(f"{quantity.name}, {_SUBSET_NAMES[subset]} (n = {result['n']})\n{line}")


def _panels(figure: Any, evaluation: Evaluation) -> Iterator[tuple[Any, Quantity, Subset, MatchedValues]]:
    """Yield the panels, quantities down and subsets across; a panel without pairs says so and is not yielded."""
    figure.set_size_inches(10.5, 7.0)
    grid = figure.subplots(len(QUANTITIES), len(SUBSETS))
    matches = [study.matches for study in evaluation.studies]
    for row, quantity in zip(grid, QUANTITIES, strict=True):
        for axes, subset in zip(row, SUBSETS, strict=True):
            values = matched(matches, quantity.key, subset)
            if len(values.truth):
                yield axes, quantity, subset, values
            else:
                axes.set_title(f"{quantity.name}, {_SUBSET_NAMES[subset]}")
                _write_message(axes, "no matched pair")
    figure.align_ylabels(grid)


def _roc(figure: Any, evaluation: Evaluation) -> None:
    figure.set_size_inches(4.6, 4.8)
    axes = figure.subplots()
    patients = [study.staging for study in evaluation.studies]
    table, auc = confusion_table(patients), auc_of_score(patients)
    axes.set_title(f"N1 against N0, {len(patients)} patients")
    if auc["value"] is None:
        _write_message(axes, str(auc["reason"]).replace(", ", "\n"))
        return
    truth, scores = [patient.truth for patient in patients], [patient.score for patient in patients]
    roc_curve = load("sklearn.metrics").roc_curve
    false_positive_rate, true_positive_rate, _ = roc_curve(truth, scores, drop_intermediate=False)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    curve = f"largest predicted short axis: AUC {auc['value']:.3f}"
    axes.plot(false_positive_rate, true_positive_rate, color=BLUE, linewidth=1.4, label=curve, clip_on=False)
    sensitivity, specificity = table.tp / (table.tp + table.fn), table.tn / (table.tn + table.fp)
    call = f"called N1: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"
    axes.plot([1 - specificity], [sensitivity], "o", color=RED, label=call, clip_on=False, zorder=5)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right", frameon=False, fontsize=8)


def _points(axes: Any, x: Any, y: Any) -> None:
    """Draw points; many are drawn small and transparent, so that their density shows."""
    sparsity = min(1.0, 150 / len(np.atleast_1d(x)))
    axes.scatter(x, y, s=6 + 10 * sparsity, alpha=0.35 + 0.35 * sparsity, color=BLUE, linewidths=0, zorder=3)


def _round_ticks(axes: Any) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(load("matplotlib.ticker").MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))


def _mark_suspicious(axes: Any, limit_mm: float, axis_end: float) -> None:
    if limit_mm < axis_end:
        axes.axvline(limit_mm, color=GREY, linewidth=0.8, linestyle=":")
        axes.axhline(limit_mm, color=GREY, linewidth=0.8, linestyle=":")


def _write_message(axes: Any, message: str) -> None:
    axes.text(0.5, 0.5, message, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set(xticks=[], yticks=[])
