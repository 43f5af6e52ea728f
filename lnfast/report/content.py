"""The content of a report: every fact that is stated about a study, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lnfast.admission import Admission
from lnfast.measure import LymphNode, NStage, Rules, ShortAxis, largest, n_stage, n_stage_by_rule
from lnfast.report.notices import Notice

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
    """Facts of the images of a study that was read from DICOM.

    Attributes:
        series_number: of the scanner; None where the images have none.
        computed_b: whether the image was computed for its b-value and not acquired.
    """

    series_number: int | None
    computed_b: bool


@dataclass(frozen=True)
class StudyFacts:
    """Facts of the study; only its file's name may identify a patient."""

    name: str
    format: str
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    b_value: float | None
    sha256: str | None
    dicom: DicomFacts | None = None


@dataclass(frozen=True)
class ModelFacts:
    """Facts of the model, from its card."""

    name: str
    version: str
    sha256: str
    trained_on: str
    threshold: float
    peak: float | None
    outline: str


@dataclass(frozen=True)
class EngineFacts:
    """Facts of the engine that ran the model.

    Attributes:
        backend, backend_version, device, precision: as the runtime reports them.
        engine_sha256: of the files that the runtime loaded; None where nothing is on disk.
        certificate: from the engine's manifest; None where the model itself was run.
        self_test: always passed: an engine that fails is not used.
        choice: one line on why this engine was selected; None when it was requested by name.
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
class ReportContent:
    """Everything that the report of a study states.

    Attributes:
        created: ISO 8601, UTC.
        admission: why the study may be staged at all.
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
        """The N stage by the report's rule."""
        return n_stage(self.nodes, self.rules)

    @property
    def n_stage_by_rule(self) -> dict[ShortAxis, NStage | None]:
        """The N stage by every rule; None by a rule that could not be applied."""
        return n_stage_by_rule(self.nodes, self.rules)

    @property
    def largest(self) -> LymphNode | None:
        """The node with the greatest short axis; None without nodes."""
        return largest(self.nodes)

    @property
    def suspicious(self) -> tuple[LymphNode, ...]:
        """The nodes whose short axis is above the limit."""
        return tuple(node for node in self.nodes if node.suspicious)
