"""The paper's figures as PNG and SVG: correlation, Bland-Altman, ROC. The same input gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnfast.evaluate.evaluation import Evaluation
from lnfast.evaluate.extra import load
from lnfast.evaluate.measures.agreement import Matched, agreement, matched
from lnfast.evaluate.measures.patient import auc_of_score, table_of
from lnfast.evaluate.measures.values import SUBSETS, Subset

BLUE, RED, GREY = "#1f5a96", "#b3261e", "#767676"
_SUBSET_NAMES = {"all": "all nodes", "suspicious": "suspicious nodes", "largest": "largest nodes"}
_STYLE = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 150}
# Without these the SVG holds random ids, and both hold the hour and the version.
_FIXED = {"svg.hashsalt": "lnfast"}
_METADATA: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
FORMATS = tuple(_METADATA)


@dataclass(frozen=True)
class _Quantity:
    key: str
    name: str
    unit: str
    per_unit: float
    places: int

    def text(self, value: float) -> str:
        """A value of metrics.json in this unit, without the sign of a zero."""
        return f"{round(value / self.per_unit, self.places) + 0.0:.{self.places}f}"


_QUANTITIES = (
    _Quantity("short_axis_mm", "short axis", "mm", 1.0, 2),
    _Quantity("volume_mm3", "volume", "cm³", 1e3, 3),
)


def draw_figures(evaluation: Evaluation) -> dict[str, bytes]:
    """Every figure in every format, by file name."""
    drawings: Mapping[str, Callable[[Any, Evaluation], None]] = {
        "correlation": _correlation,
        "bland_altman": _bland_altman,
        "roc": _roc,
    }
    files = {}
    with _our_style():
        for name, draw in drawings.items():
            figure = load("matplotlib.figure").Figure(layout="constrained")
            draw(figure, evaluation)
            figure.draw_without_rendering()  # lays it out, once for both formats
            figure.set_layout_engine("none")
            for kind in FORMATS:
                stream = io.BytesIO()
                figure.savefig(stream, format=kind, metadata=_METADATA[kind])
                files[f"{name}.{kind}"] = stream.getvalue()
    return files


@contextmanager
def _our_style() -> Iterator[None]:
    """Not the user's matplotlibrc, and theirs again afterwards."""
    matplotlib = load("matplotlib")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | _FIXED)
        yield


def _correlation(figure: Any, evaluation: Evaluation) -> None:
    for axes, quantity, subset, values in _panels(figure, evaluation):
        told = agreement(values)
        x, y = values.truth / quantity.per_unit, values.predicted / quantity.per_unit
        most = 1.05 * max(float(x.max()), float(y.max()))
        axes.plot([0, most], [0, most], color=GREY, linewidth=0.8, zorder=1)
        if quantity.key == "short_axis_mm":
            _mark_limit(axes, evaluation.rules.suspicious_mm, most)
        _points(axes, x, y)
        axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
        _round_ticks(axes)
        axes.set_xlabel(f"truth, {quantity.unit}")
        axes.set_ylabel(f"prediction, {quantity.unit}")
        r, low, high = told["pearson_r"], told["pearson_low"], told["pearson_high"]
        line = "R undefined" if r is None else f"R = {r:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")
        axes.set_title(f"{quantity.name}, {_SUBSET_NAMES[subset]} (n = {told['n']})\n{line}")


def _bland_altman(figure: Any, evaluation: Evaluation) -> None:
    for axes, quantity, subset, values in _panels(figure, evaluation):
        told, unit = agreement(values), quantity.per_unit
        _points(axes, (values.truth + values.predicted) / 2 / unit, (values.predicted - values.truth) / unit)
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.axhline(told["bias"] / unit, color=RED, linewidth=1.2)
        line = f"bias {quantity.text(told['bias'])}"
        if told["loa_low"] is not None:
            for edge in (told["loa_low"], told["loa_high"]):
                axes.axhline(edge / unit, color=RED, linewidth=1.0, linestyle="--")
            line += f", limits {quantity.text(told['loa_low'])} to {quantity.text(told['loa_high'])} {quantity.unit}"
        axes.margins(0.08)
        _round_ticks(axes)
        axes.set_xlabel(f"mean of truth and prediction, {quantity.unit}")
        axes.set_ylabel(f"prediction - truth, {quantity.unit}")
        axes.set_title(f"{quantity.name}, {_SUBSET_NAMES[subset]} (n = {told['n']})\n{line}")


def _panels(figure: Any, evaluation: Evaluation) -> Iterator[tuple[Any, _Quantity, Subset, Matched]]:
    """Quantities down, subsets across; a panel without pairs says so and is not handed out."""
    figure.set_size_inches(10.5, 7.0)
    grid = figure.subplots(len(_QUANTITIES), len(SUBSETS))
    pairs = [study.pairs for study in evaluation.studies]
    for row, quantity in zip(grid, _QUANTITIES, strict=True):
        for axes, subset in zip(row, SUBSETS, strict=True):
            values = matched(pairs, quantity.key, subset)
            if len(values.truth):
                yield axes, quantity, subset, values
            else:
                axes.set_title(f"{quantity.name}, {_SUBSET_NAMES[subset]}")
                _say(axes, "no matched pair")
    figure.align_ylabels(grid)


def _roc(figure: Any, evaluation: Evaluation) -> None:
    figure.set_size_inches(4.6, 4.8)
    axes = figure.subplots()
    patients = [study.patient for study in evaluation.studies]
    table, told = table_of(patients), auc_of_score(patients)
    axes.set_title(f"N1 against N0, {len(patients)} patients")
    if told["value"] is None:
        _say(axes, str(told["reason"]).replace(", ", "\n"))
        return
    truth, scores = [patient.truth for patient in patients], [patient.score for patient in patients]
    wrong, right, _ = load("sklearn.metrics").roc_curve(truth, scores, drop_intermediate=False)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    curve = f"largest predicted short axis: AUC {told['value']:.3f}"
    axes.plot(wrong, right, color=BLUE, linewidth=1.4, label=curve, clip_on=False)
    sensitivity, specificity = table.tp / (table.tp + table.fn), table.tn / (table.tn + table.fp)
    call = f"called N1: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"
    axes.plot([1 - specificity], [sensitivity], "o", color=RED, label=call, clip_on=False, zorder=5)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right", frameon=False, fontsize=8)


def _points(axes: Any, x: Any, y: Any) -> None:
    """Many points stay small and see-through, so that their density shows."""
    crowd = min(1.0, 150 / len(np.atleast_1d(x)))
    axes.scatter(x, y, s=6 + 10 * crowd, alpha=0.35 + 0.35 * crowd, color=BLUE, linewidths=0, zorder=3)


def _round_ticks(axes: Any) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(load("matplotlib.ticker").MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))


def _mark_limit(axes: Any, limit_mm: float, most: float) -> None:
    if limit_mm < most:
        axes.axvline(limit_mm, color=GREY, linewidth=0.8, linestyle=":")
        axes.axhline(limit_mm, color=GREY, linewidth=0.8, linestyle=":")


def _say(axes: Any, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set(xticks=[], yticks=[])
