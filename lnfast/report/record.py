"""The report of a study, and its forms: JSON of schema ``lnfast.report/1`` and text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from lnfast.admission import Admission
from lnfast.card import Model
from lnfast.measure import LymphNode, Rules
from lnfast.report.content import (
    DISCLAIMER,
    ELLIPSOID_MEASURED_ON,
    MEASURED_ON,
    SCHEMA,
    STAGES,
    DicomFacts,
    EngineFacts,
    ModelFacts,
    ReportContent,
    StudyFacts,
)
from lnfast.report.notices import notices
from lnfast.report.text import render
from lnfast.study import Study


@dataclass(frozen=True)
class Report(ReportContent):
    """The report of a study: its content, with the forms in which it is written."""

    def written_in(self, write_ms: float) -> Report:
        """Return the report with the time that writing took.

        Args:
            write_ms: in milliseconds.
        """
        return replace(self, timings_ms=_timings({**self.timings_ms, "write": write_ms}))

    def to_dict(self) -> dict[str, Any]:
        """Return the report in schema ``lnfast.report/1``: plain dicts, lists, unrounded numbers."""
        node = self.largest
        measured_on = ELLIPSOID_MEASURED_ON if self.rules.short_axis == "ellipsoid" else MEASURED_ON
        plain = {
            "schema": SCHEMA,
            "created": self.created,
            "disclaimer": DISCLAIMER,
            "study": asdict(self.study),
            "admission": self.admission.facts(),
            "model": asdict(self.model),
            "engine": asdict(self.engine),
            "rules": {**asdict(self.rules), "measured_on": measured_on},
            "nodes": [vars(node) for node in self.nodes],  # flat: `asdict` would copy for a millisecond
            "summary": {
                "nodes": len(self.nodes),
                "suspicious": len(self.suspicious),
                "largest": node and {"id": node.id, "short_axis_mm": node.short_axis_mm, "volume_mm3": node.volume_mm3},
                "n_stage": self.n_stage,
                "n_stage_by_rule": self.n_stage_by_rule,
            },
            "timings_ms": dict(self.timings_ms),
            "warnings": [asdict(notice) for notice in self.warnings],
        }
        result: dict[str, Any] = _without_tuples(plain)
        return result

    def json(self) -> str:
        """Return `to_dict` as JSON text.

        Raises:
            ValueError: a number is not finite; JSON has no NaN, and a report must not have one.
        """
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def text(self) -> str:
        """Return the structured report for a radiologist: ASCII, at most 100 columns."""
        return render(self)


def make_report(
    study: Study,
    model: Model,
    engine: EngineFacts,
    rules: Rules,
    nodes: Sequence[LymphNode],
    timings_ms: Mapping[str, float],
    *,
    admission: Admission,
    faint: Sequence[LymphNode] = (),
) -> Report:
    """Make the report of a study.

    Args:
        study: only its facts are kept, no voxels.
        model: the model that was run.
        engine: the engine that ran it.
        rules: by which the nodes were measured.
        nodes: of `lnfast.measure.measure_nodes`.
        timings_ms: read, preprocess, infer, postprocess, measure; ``total`` is their sum.
        admission: of the study.
        faint: what the model's peak dropped; of those above the limit a warning tells.
    """
    card, grid, source = model.card, study.volume.grid, study.provenance.dicom
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        study=StudyFacts(
            name=study.name,
            format=study.provenance.format,
            shape_zyx=grid.shape,
            spacing_zyx_mm=grid.spacing_zyx_mm,
            b_value=study.b_value,
            sha256=study.provenance.sha256,
            dicom=DicomFacts(source.series_number, source.computed_b) if source else None,
        ),
        admission=admission,
        model=ModelFacts(
            card.name, card.version, model.sha256, card.trained_on, card.threshold, card.peak, card.outline
        ),
        engine=engine,
        rules=rules,
        nodes=tuple(nodes),
        timings_ms=_timings(timings_ms),
        warnings=notices(study, card, rules, nodes, admission=admission, faint=faint),
    )


def _timings(timings_ms: Mapping[str, float]) -> dict[str, float]:
    stages = {stage: float(timings_ms.get(stage, 0.0)) for stage in STAGES}
    return {**stages, "total": sum(stages.values())}


def _without_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_tuples(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tuples(inner) for inner in value]
    return value
