"""metrics.json, schema ``lnfast.metrics/1``: unrounded, in one order, never NaN."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lnfast._version import __version__
from lnfast.evaluate.evaluation import Evaluation, Study
from lnfast.evaluate.extra import versions
from lnfast.evaluate.measures.agreement import QUANTITIES, agreement, in_subset, matched
from lnfast.evaluate.measures.detection import Detected, detect
from lnfast.evaluate.measures.groups import compare_groups
from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.patient import patient_level
from lnfast.evaluate.measures.values import SUBSETS, Subset, summary
from lnfast.evaluate.output.definitions import DEFINITIONS
from lnfast.measure import largest
from lnfast.report.record import DISCLAIMER, MEASURED_ON

SCHEMA = "lnfast.metrics/1"


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that is said of all studies together, as JSON takes it."""
    studies, rules = evaluation.studies, evaluation.rules
    return {
        "schema": SCHEMA,
        "disclaimer": DISCLAIMER,
        "versions": {"lnfast": __version__, **versions()},
        "rules": {
            "short_axis": rules.short_axis,
            "suspicious_mm": rules.suspicious_mm,
            "connectivity": rules.connectivity,
            "measured_on": MEASURED_ON,
            "read_as": evaluation.read_as,
        },
        "counts": {
            "studies": len(studies),
            "true_nodes": sum(len(study.truth) for study in studies),
            "predicted_nodes": sum(len(study.predicted) for study in studies),
            "suspicious_true_nodes": sum(node.suspicious for study in studies for node in study.truth),
            "suspicious_predicted_nodes": sum(node.suspicious for study in studies for node in study.predicted),
            "predictions_without_truth": len(evaluation.without_truth),
            "truth_read_as": _counted(study.truth_read_as for study in studies),
            "predicted_read_as": _counted(study.predicted_read_as for study in studies),
        },
        "predictions_by": evaluation.predictions_by,
        "segmentation": {subset: _segmentation(studies, subset) for subset in SUBSETS},
        "segmentation_of_matched_nodes": {subset: _of_matched(studies, subset) for subset in SUBSETS},
        "subset_comparison": {measure: _subsets(studies, measure) for measure in MEASURES},
        "detection": {subset: detection(studies, subset).to_dict() for subset in SUBSETS},
        "patient": patient_level([study.patient for study in studies]),
        "measurement": {quantity: _measurement(studies, quantity) for quantity in QUANTITIES},
        "groups": _groups(evaluation),
        "warnings": [{"code": code, "message": message} for code, message in evaluation.notes],
        "definitions": DEFINITIONS,
    }


def json_text(content: dict[str, Any]) -> str:
    """For a file; a NaN would be our own fault."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def detection(studies: Sequence[Study], subset: Subset) -> Detected:
    """All studies together."""
    found = (detect(study.shared, study.truth, study.predicted, subset) for study in studies)
    return sum(found, Detected())


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _segmentation(studies: Sequence[Study], subset: Subset) -> dict[str, Any]:
    return {measure: summary([study.overlap[subset].score(measure) for study in studies]) for measure in MEASURES}


def _subsets(studies: Sequence[Study], measure: str) -> dict[str, Any]:
    """ANOVA and LSD across the subsets, one value a study and subset where it is defined."""
    found = {subset: [study.overlap[subset].score(measure).value for study in studies] for subset in SUBSETS}
    return compare_groups({subset: [one for one in values if one is not None] for subset, values in found.items()})


def _of_matched(studies: Sequence[Study], subset: Subset) -> dict[str, Any]:
    """Over true nodes that a prediction touches, whatever study they are of; the subset is the true node's."""
    found = []
    for study in studies:
        wanted = {pair.truth.id for pair in in_subset(study.pairs, subset)}
        matches = zip(study.pairs, study.matched, strict=True)
        found += [match for pair, match in matches if match is not None and pair.truth.id in wanted]
    return {measure: summary([overlap.score(measure) for overlap in found]) for measure in MEASURES}


def _measurement(studies: Sequence[Study], quantity: str) -> dict[str, Any]:
    """Of all matched nodes, and below it of the others."""
    by_subset = {subset: agreement(matched([study.pairs for study in studies], quantity, subset)) for subset in SUBSETS}
    return {**by_subset["all"], "suspicious": by_subset["suspicious"], "largest": by_subset["largest"]}


def _groups(evaluation: Evaluation) -> dict[str, Any]:
    """ANOVA and LSD across scanners, one value a study; None of it without groups."""
    grouped = [study for study in evaluation.studies if study.group is not None]
    told = {"from": evaluation.groups_from, "studies": len(grouped)}
    if not grouped:
        nothing = dict.fromkeys(("patient", "segmentation", "error", "largest_true"))
        return {**told, "reason": "no groups", **nothing}
    names = sorted({str(study.group) for study in grouped})
    return {
        **told,
        "reason": None,
        "patient": {name: patient_level([one.patient for one in grouped if one.group == name]) for name in names},
        "segmentation": {
            subset: {
                measure: _compared(grouped, [study.overlap[subset].score(measure).value for study in grouped])
                for measure in MEASURES
            }
            for subset in SUBSETS
        },
        "error": {
            quantity: _compared(grouped, [_error(study, quantity) for study in grouped]) for quantity in QUANTITIES
        },
        "largest_true": {
            quantity: _compared(grouped, [getattr(largest(study.truth), quantity, None) for study in grouped])
            for quantity in QUANTITIES
        },
    }


def _compared(studies: Sequence[Study], values: Sequence[float | None]) -> dict[str, Any]:
    by_group: dict[str, list[float]] = {str(study.group): [] for study in studies}
    for study, value in zip(studies, values, strict=True):
        if value is not None:
            by_group[str(study.group)].append(value)
    return compare_groups(by_group)


def _error(study: Study, quantity: str) -> float | None:
    values = matched([study.pairs], quantity, "all")
    return float((values.predicted - values.truth).mean()) if len(values.truth) else None
