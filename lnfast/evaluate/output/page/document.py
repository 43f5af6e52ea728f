"""The page, from the content of metrics.json, the figures and the worst studies."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from lnfast.evaluate.evaluation import Evaluation
from lnfast.evaluate.output.names import MEASURE_NAMES
from lnfast.evaluate.output.page import tables
from lnfast.evaluate.output.page.cells import Footnotes, estimate, text
from lnfast.evaluate.output.page.drawing import draw
from lnfast.evaluate.output.page.slices import slice_of
from lnfast.evaluate.output.page.worst import RULE, StudyMistakes, describe_mistakes, worst_studies
from lnfast.evaluate.output.paper import PAPER_PATIENT
from lnfast.report.lengths import direction_text

_FIGURES = {
    "correlation": "Correlation of prediction and truth: short axis and volume of matched nodes",
    "bland_altman": "Bland-Altman plots: difference against mean of short axis and volume of matched nodes",
    "roc": "ROC curve of the largest predicted short axis for N1, and where the call lies on it",
}


def render(evaluation: Evaluation, content: Mapping[str, Any], figures: Mapping[str, bytes]) -> bytes:
    """Return the page.

    Args:
        evaluation: whose worst studies are shown; their label maps, and images where there are any, are read.
        content: of metrics.json; every number of the answer and the tables is one of these, rounded.
        figures: by file name; the PNG files are used.

    Returns:
        HTML in UTF-8; with ten slices of 240x240 about 1 MB.

    Raises:
        StudyError: of `slice_of`, where a label map has changed since it was measured.
    """
    style = _resource("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    worst = worst_studies(evaluation)
    counts, rules, patients = content["counts"], content["rules"], content["patient"]
    correct = patients["table"]["tp"] + patients["table"]["tn"]
    page = Template(_resource("page.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=style,
        disclaimer=text(content["disclaimer"]),
        studies=_counted(counts["studies"], "study", "studies"),
        nodes=f"{counts['true_nodes']} true nodes ({counts['suspicious_true_nodes']} suspicious), "
        f"{counts['predicted_nodes']} predicted ({counts['suspicious_predicted_nodes']} suspicious)",
        staged=f"{correct} of {counts['studies']}",
        n1=patients["truth_n1"],
        n0=counts["studies"] - patients["truth_n1"],
        answer=_answer(patients),
        by="".join(f"<li>{text(line)}" for line in _predicted_by(content["predictions_by"])),
        rule=text(f"short axis {rules['short_axis']} over {rules['suspicious_mm']:g} mm, {rules['measured_on']}"),
        warnings="".join(f"<li><b>{text(note['code'])}</b> {text(note['message'])}" for note in content["warnings"]),
        diagnosis=tables.diagnosis(content),
        segmentation=tables.segmentation(content),
        detection=tables.detection(content),
        measurement=tables.measurement(content),
        figures="".join(_figure(name, caption, figures[f"{name}.png"]) for name, caption in _FIGURES.items()),
        worst_rule=text(RULE),
        worst_count=_worst_count(len(worst)),
        cases="".join(_worst_study(number, case, evaluation) for number, case in enumerate(worst, 1)),
        versions=text(", ".join(f"{name} {version}" for name, version in content["versions"].items())),
    )
    return page.encode()


def _resource(name: str) -> str:
    return (files("lnfast.evaluate.output.page") / name).read_text(encoding="utf-8")


def _answer(patient: Mapping[str, Any]) -> str:
    notes = Footnotes("answer")
    tiles = "".join(
        f"<div><dt>{MEASURE_NAMES[key]}</dt><dd>{estimate(patient[key], notes)}<small>paper {paper}</small></dd></div>"
        for key, paper in PAPER_PATIENT.items()
    )
    return f"<dl>{tiles}</dl>{notes.to_html()}"


def _predicted_by(predictions_by: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> list[str]:
    entries = [predictions_by] if isinstance(predictions_by, Mapping) else predictions_by or []
    return [
        f"{_counted(entry['studies'], 'study', 'studies')} predicted by "
        f"{entry['model']['name']} {entry['model']['version']}, "
        f"{entry['engine']['backend']} {entry['engine']['precision']}"
        for entry in entries
    ]


def _counted(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}"


def _worst_count(count: int) -> str:
    if not count:
        return "No study has an error."
    return "The one study with an error." if count == 1 else f"The {count} worst studies."


def _figure(name: str, caption: str, png: bytes) -> str:
    coded = base64.b64encode(png).decode("ascii")
    label = text(caption.partition(":")[0])
    return (
        f'<figure class="plot {name}"><div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        f'<img alt="{text(caption)}; its numbers stand in the tables above" src="data:image/png;base64,{coded}"></div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def _worst_study(number: int, case: StudyMistakes, evaluation: Evaluation) -> str:
    study, drawn = case.study, slice_of(case, evaluation)
    mistakes = " ".join(describe_mistakes(case, evaluation.rules))
    stage = f"{study.truth_stage} in the truth, called {study.predicted_stage}"
    location = f"Slice {drawn.number} of {drawn.count} from the feet"
    location += f"; node at {direction_text(case.main_node[1].centroid_ras_mm)}" if case.main_node else ""
    description = f"{location}. Truth outlined in solid blue, prediction in dashed orange. {mistakes}"
    group = f" <span>{text(study.group)}</span>" if study.group else ""
    kind = "wrong" if case.stage_is_wrong else "right"
    no_image = f'<p class="noimage">Outlines only: {text(drawn.no_image)}.</p>' if drawn.no_image else ""
    return (
        f'<figure class="case"><figcaption><h3><span class="number">{number}</span> <bdi>{text(study.name)}</bdi>'
        f'{group} <em class="{kind}">{stage}</em></h3><p>{text(mistakes)}'
        f'<p class="at">{text(location)}.</p>{no_image}</figcaption><div class="pictures">'
        f"{draw(f'case-{number}', drawn, study.truth, study.predicted, description)}</div></figure>"
    )
