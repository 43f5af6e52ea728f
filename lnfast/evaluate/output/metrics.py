"""metrics.json, schema ``lnfast.metrics/1``: unrounded numbers in a fixed order, never NaN."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from lnfast._version import __version__
from lnfast.evaluate.evaluation import EvaluatedStudy, Evaluation
from lnfast.evaluate.measures.agreement import QUANTITIES, agreement, in_subset, matched
from lnfast.evaluate.measures.detection import DetectionCounts, detect
from lnfast.evaluate.measures.groups import compare_groups
from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.patient import patient_level
from lnfast.evaluate.measures.subsets import SUBSETS, Subset
from lnfast.evaluate.measures.values import summary
from lnfast.evaluate.output.definitions import DEFINITIONS
from lnfast.evaluate.packages import versions
from lnfast.measure import largest
from lnfast.report.content import DISCLAIMER, MEASURED_ON

SCHEMA = "lnfast.metrics/1"


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return the measures of all studies together, as plain values for JSON."""
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
            "truth_read_as": _counts_of(study.truth_read_as for study in studies),
            "predicted_read_as": _counts_of(study.predicted_read_as for study in studies),
        },
        "predictions_by": evaluation.predictions_by,
        "segmentation": {subset: _segmentation(studies, subset) for subset in SUBSETS},
        "segmentation_of_matched_nodes": {subset: _segmentation_of_matched(studies, subset) for subset in SUBSETS},
        "subset_comparison": {measure: _subset_comparison(studies, measure) for measure in MEASURES},
        "detection": {subset: detection(studies, subset).to_dict() for subset in SUBSETS},
        "patient": patient_level([study.staging for study in studies]),
        "measurement": {quantity: _measurement(studies, quantity) for quantity in QUANTITIES},
        "groups": _groups(evaluation),
        "warnings": [{"code": code, "message": message} for code, message in evaluation.notes],
        "definitions": DEFINITIONS,
    }


def json_text(content: dict[str, Any]) -> str:
    """Return the content of metrics.json as text.

    Raises:
        ValueError: a number is not finite, which is a fault of lnfast.
    """
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def detection(studies: Sequence[EvaluatedStudy], subset: Subset) -> DetectionCounts:
    """Count the detected nodes of all studies together."""
    counts = (detect(study.shared, study.truth, study.predicted, subset) for study in studies)
    return sum(counts, DetectionCounts())


def _counts_of(readings: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(readings).items()))


def _segmentation(studies: Sequence[EvaluatedStudy], subset: Subset) -> dict[str, Any]:
    return {measure: summary([study.overlap[subset].value_of(measure) for study in studies]) for measure in MEASURES}


def _subset_comparison(studies: Sequence[EvaluatedStudy], measure: str) -> dict[str, Any]:
    """Run ANOVA and LSD across the subsets, with one value for each study and subset where it is defined."""
    values_of = {subset: [study.overlap[subset].value_of(measure).value for study in studies] for subset in SUBSETS}
    return compare_groups(
        {subset: [value for value in values if value is not None] for subset, values in values_of.items()}
    )


def _segmentation_of_matched(studies: Sequence[EvaluatedStudy], subset: Subset) -> dict[str, Any]:
    """Summarize over the true nodes that a prediction touches, of all studies; the subset is the true node's."""
    overlaps = []
    for study in studies:
        ids = {match.truth.id for match in in_subset(study.matches, subset)}
        measured = zip(study.matches, study.match_overlap, strict=True)
        overlaps += [overlap for match, overlap in measured if overlap is not None and match.truth.id in ids]
    return {measure: summary([overlap.value_of(measure) for overlap in overlaps]) for measure in MEASURES}


def _measurement(studies: Sequence[EvaluatedStudy], quantity: str) -> dict[str, Any]:
    """Return the agreement of all matched nodes, with that of the other subsets as entries of it."""
    by_subset = {
        subset: agreement(matched([study.matches for study in studies], quantity, subset)) for subset in SUBSETS
    }
    return {**by_subset["all"], "suspicious": by_subset["suspicious"], "largest": by_subset["largest"]}


def _groups(evaluation: Evaluation) -> dict[str, Any]:
    """Run ANOVA and LSD across scanners, with one value for each study; every entry is None without groups."""
    grouped = [study for study in evaluation.studies if study.group is not None]
    source = {"from": evaluation.groups_from, "studies": len(grouped)}
    if not grouped:
        empty = dict.fromkeys(("patient", "segmentation", "error", "largest_true"))
        return {**source, "reason": "no groups", **empty}
    names = sorted({str(study.group) for study in grouped})
    return {
        **source,
        "reason": None,
        "patient": {name: patient_level([study.staging for study in grouped if study.group == name]) for name in names},
        "segmentation": {
            subset: {
                measure: _compare_by_group(
                    grouped, [study.overlap[subset].value_of(measure).value for study in grouped]
                )
                for measure in MEASURES
            }
            for subset in SUBSETS
        },
        "error": {
            quantity: _compare_by_group(grouped, [_error(study, quantity) for study in grouped])
            for quantity in QUANTITIES
        },
        "largest_true": {
            quantity: _compare_by_group(grouped, [getattr(largest(study.truth), quantity, None) for study in grouped])
            for quantity in QUANTITIES
        },
    }


def _compare_by_group(studies: Sequence[EvaluatedStudy], values: Sequence[float | None]) -> dict[str, Any]:
    by_group: dict[str, list[float]] = {str(study.group): [] for study in studies}
    for study, value in zip(studies, values, strict=True):
        if value is not None:
            by_group[str(study.group)].append(value)
    return compare_groups(by_group)


def _error(study: EvaluatedStudy, quantity: str) -> float | None:
    values = matched([study.matches], quantity, "all")
    return float((values.predicted - values.truth).mean()) if len(values.truth) else None
