"""The page's text, from what stands in metrics.json, the figures and the worst studies."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from lnfast.evaluate.evaluation import Evaluation
from lnfast.evaluate.output.definitions import NAMES
from lnfast.evaluate.output.page import tables
from lnfast.evaluate.output.page.cells import Footnotes, estimate, text
from lnfast.evaluate.output.page.drawing import draw
from lnfast.evaluate.output.page.slices import slice_of
from lnfast.evaluate.output.page.worst import RULE, Case, in_words, worst
from lnfast.evaluate.output.paper import PAPER_PATIENT
from lnfast.report.page.scene import direction_text

_FIGURES = {
    "correlation": "Correlation of prediction and truth: short axis and volume of matched nodes",
    "bland_altman": "Bland-Altman plots: difference against mean of short axis and volume of matched nodes",
    "roc": "ROC curve of the largest predicted short axis for N1, and where the call lies on it",
}


def render(evaluation: Evaluation, told: Mapping[str, Any], figures: Mapping[str, bytes]) -> bytes:
    """The page.

    Args:
        evaluation: whose worst studies are shown; their label maps, and images where there are any, are read.
        told: as in metrics.json; every number of the answer and the tables is one of these, rounded.
        figures: by file name; the PNG files are taken.

    Returns:
        UTF-8, with ten slices of 240x240 about 1 MB.

    Raises:
        StudyError: of `slice_of`: a label map has changed since it was measured.
    """
    style = _resource("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    cases = worst(evaluation)
    counts, rules, stages = told["counts"], told["rules"], told["patient"]["table"]
    right = stages["tp"] + stages["tn"]
    page = Template(_resource("page.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=style,
        disclaimer=text(told["disclaimer"]),
        studies=_many(counts["studies"], "study", "studies"),
        nodes=f"{counts['true_nodes']} true nodes ({counts['suspicious_true_nodes']} suspicious), "
        f"{counts['predicted_nodes']} predicted ({counts['suspicious_predicted_nodes']} suspicious)",
        staged=f"{right} of {counts['studies']}",
        n1=told["patient"]["truth_n1"],
        n0=counts["studies"] - told["patient"]["truth_n1"],
        answer=_answer(told["patient"]),
        by="".join(f"<li>{text(line)}" for line in _predicted_by(told["predictions_by"])),
        rule=text(f"short axis {rules['short_axis']} over {rules['suspicious_mm']:g} mm, {rules['measured_on']}"),
        warnings="".join(f"<li><b>{text(one['code'])}</b> {text(one['message'])}" for one in told["warnings"]),
        diagnosis=tables.diagnosis(told),
        segmentation=tables.segmentation(told),
        detection=tables.detection(told),
        measurement=tables.measurement(told),
        figures="".join(_figure(name, words, figures[f"{name}.png"]) for name, words in _FIGURES.items()),
        worst_rule=text(RULE),
        worst_count=_worst_count(len(cases)),
        cases="".join(_case(number, case, evaluation) for number, case in enumerate(cases, 1)),
        versions=text(", ".join(f"{name} {version}" for name, version in told["versions"].items())),
    )
    return page.encode()


def _resource(name: str) -> str:
    return (files("lnfast.evaluate.output.page") / name).read_text(encoding="utf-8")


def _answer(patient: Mapping[str, Any]) -> str:
    notes = Footnotes("answer")
    tiles = "".join(
        f"<div><dt>{NAMES[key]}</dt><dd>{estimate(patient[key], notes)}<small>paper {paper}</small></dd></div>"
        for key, paper in PAPER_PATIENT.items()
    )
    return f"<dl>{tiles}</dl>{notes.to_html()}"


def _predicted_by(told: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> list[str]:
    every = [told] if isinstance(told, Mapping) else told or []
    return [
        f"{_many(one['studies'], 'study', 'studies')} predicted by {one['model']['name']} {one['model']['version']}, "
        f"{one['engine']['backend']} {one['engine']['precision']}"
        for one in every
    ]


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _worst_count(count: int) -> str:
    if not count:
        return "No study has an error."
    return "The one study with an error." if count == 1 else f"The {count} worst studies."


def _figure(name: str, words: str, png: bytes) -> str:
    coded = base64.b64encode(png).decode("ascii")
    label = text(words.partition(":")[0])
    return (
        f'<figure class="plot {name}"><div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        f'<img alt="{text(words)}; its numbers stand in the tables above" src="data:image/png;base64,{coded}"></div>'
        f"<figcaption>{text(words)}</figcaption></figure>"
    )


def _case(number: int, case: Case, evaluation: Evaluation) -> str:
    study, shown = case.study, slice_of(case, evaluation)
    words = list(in_words(case, evaluation.rules))
    stage = f"{study.truth_stage} in the truth, called {study.predicted_stage}"
    at = f"Slice {shown.number} of {shown.count} from the feet"
    at += f"; node at {direction_text(case.culprit[1].centroid_ras_mm)}" if case.culprit else ""
    says = f"{at}. Truth outlined in solid blue, prediction in dashed orange. {' '.join(words)}"
    group = f" <span>{text(study.group)}</span>" if study.group else ""
    kind = "wrong" if case.stage_is_wrong else "right"
    no_image = f'<p class="noimage">Outlines only: {text(shown.no_image)}.</p>' if shown.no_image else ""
    return (
        f'<figure class="case"><figcaption><h3><span class="number">{number}</span> <bdi>{text(study.name)}</bdi>'
        f'{group} <em class="{kind}">{stage}</em></h3><p>{text(" ".join(words))}'
        f'<p class="at">{text(at)}.</p>{no_image}</figcaption><div class="pictures">'
        f"{draw(f'case-{number}', shown, study.truth, study.predicted, says)}</div></figure>"
    )
