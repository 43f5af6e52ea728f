"""The report as data: everything that is said of a study, frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from lnfast.admission import Admission
from lnfast.card import Model
from lnfast.measure import LymphNode, NStage, Rules, ShortAxis, largest, n_stage, n_stage_by_rule
from lnfast.report.notices import Notice, notices
from lnfast.report.text import render
from lnfast.study import Study

SCHEMA = "lnfast.report/1"
DISCLAIMER = (
    "For research use only. Not a medical device. The models that ship with lnfast were trained on synthetic data "
    "(digital phantoms) only and have not been validated on patients."
)
MEASURED_ON = "native grid, voxel corners"
ELLIPSOID_MEASURED_ON = "short axis: network's grid, probability; all else: native grid, voxel corners"
STAGES = ("read", "preprocess", "infer", "postprocess", "measure", "write")


@dataclass(frozen=True)
class DicomFacts:
    """Which images a study that was read from DICOM is made of.

    Attributes:
        series_number: as the scanner counted; None where the images have none.
        computed_b: the image was computed for its b-value and not acquired.
    """

    series_number: int | None
    computed_b: bool


@dataclass(frozen=True)
class StudyFacts:
    """The study, without anything that names a patient beyond its file's name."""

    name: str
    format: str
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    b_value: float | None
    sha256: str | None
    dicom: DicomFacts | None = None


@dataclass(frozen=True)
class ModelFacts:
    """The model, as its card says."""

    name: str
    version: str
    sha256: str
    trained_on: str
    threshold: float


@dataclass(frozen=True)
class EngineFacts:
    """What ran the model.

    Attributes:
        backend, backend_version, device, precision: as the runtime itself says.
        engine_sha256: of what the runtime loaded; None where nothing is on disk.
        certificate: what the export proved; None where the model itself was run.
        self_test: there is no engine that did not pass.
        choice: one line on why this engine was taken; None when it was asked for by name.
    """

    backend: str
    backend_version: str
    device: str
    precision: str
    engine_sha256: str | None
    certificate: Mapping[str, Any] | None = None
    self_test: str = "passed"
    choice: str | None = None


@dataclass(frozen=True)
class Report:
    """What is written of a study.

    Attributes:
        created: ISO 8601, UTC.
        admission: why the study was staged at all.
        nodes: in the order of their ids.
        timings_ms: by stage; ``write`` is 0 until the report is written.
        warnings: most important first.
    """

    created: str
    study: StudyFacts
    admission: Admission
    model: ModelFacts
    engine: EngineFacts
    rules: Rules
    nodes: tuple[LymphNode, ...]
    timings_ms: Mapping[str, float]
    warnings: tuple[Notice, ...]

    @property
    def n_stage(self) -> NStage:
        """By the chosen rule."""
        return n_stage(self.nodes, self.rules)

    @property
    def n_stage_by_rule(self) -> dict[ShortAxis, NStage | None]:
        """By every rule."""
        return n_stage_by_rule(self.nodes, self.rules)

    @property
    def largest(self) -> LymphNode | None:
        """The node with the greatest short axis."""
        return largest(self.nodes)

    @property
    def suspicious(self) -> tuple[LymphNode, ...]:
        """The nodes over the limit."""
        return tuple(node for node in self.nodes if node.suspicious)

    def written_in(self, write_ms: float) -> Report:
        """The same report with the time that writing took."""
        return replace(self, timings_ms=_timings({**self.timings_ms, "write": write_ms}))

    def to_dict(self) -> dict[str, Any]:
        """The report of schema ``lnfast.report/1``: plain dicts, lists, unrounded numbers."""
        first = self.largest
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
            "nodes": [asdict(node) for node in self.nodes],
            "summary": {
                "nodes": len(self.nodes),
                "suspicious": len(self.suspicious),
                "largest": first
                and {"id": first.id, "short_axis_mm": first.short_axis_mm, "volume_mm3": first.volume_mm3},
                "n_stage": self.n_stage,
                "n_stage_by_rule": self.n_stage_by_rule,
            },
            "timings_ms": dict(self.timings_ms),
            "warnings": [asdict(notice) for notice in self.warnings],
        }
        made: dict[str, Any] = _without_tuples(plain)
        return made

    def json(self) -> str:
        """`to_dict` as JSON text.

        Raises:
            ValueError: a number is not finite; there is no NaN in JSON and none in a report.
        """
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def text(self) -> str:
        """The structured report for a radiologist: ASCII, at most 100 columns."""
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
) -> Report:
    """Bring together what is said of a study.

    Args:
        study: what was read; only facts of it are kept, no voxels.
        model: what was run.
        engine: what ran it.
        rules: by which the nodes were measured.
        nodes: as `lnfast.measure.measure_nodes` gives them.
        timings_ms: read, preprocess, infer, postprocess, measure; ``total`` is their sum.
        admission: of that study.
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
        model=ModelFacts(card.name, card.version, model.sha256, card.trained_on, card.threshold),
        engine=engine,
        rules=rules,
        nodes=tuple(nodes),
        timings_ms=_timings(timings_ms),
        warnings=notices(study, card, rules, nodes, admission=admission),
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
