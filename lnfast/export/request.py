"""The request for an export, the attempts at it, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.registry import AUTO, TARGET_PRECISIONS
from lnfast.card import Model
from lnfast.export.certificate import Certificate
from lnfast.export.studies import CERTIFICATE_STUDIES, StudySet, split_folder, split_phantoms


@dataclass(frozen=True)
class Request:
    """The engine to build.

    Attributes:
        target: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        precision: ``fp32``, ``bf16``, ``fp16``, ``int8``; ``auto`` builds all that the target has and takes the fastest
            that passes.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        calibration: a folder of the user's own studies instead of phantoms.
        studies: how many phantoms the certificate rests on.
        capabilities: GPUs that tensorrt-rtx builds for; empty for its portable set.
        windows: whether to compile windows of the grid as well, so that air costs no time.
        threads: on a CPU; 0 takes one per core.
    """

    target: str
    precision: str = AUTO
    device: str = AUTO
    calibration: Path | None = None
    studies: int = CERTIFICATE_STUDIES
    capabilities: tuple[str, ...] = ()
    windows: bool = True
    threads: int = 0

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions to try, in their order."""
        return TARGET_PRECISIONS[self.target] if self.precision == AUTO else (self.precision,)

    def study_sets(self, model: Model) -> tuple[StudySet, StudySet]:
        """Return the studies that ranges are measured on, and those that certify.

        Raises:
            UsageError: ``bad-studies`` or ``bad-calibration``.
            StudyError: the first study that is refused.
        """
        if self.calibration is not None:
            return split_folder(self.calibration, model.card)
        return split_phantoms(self.studies)


@dataclass(frozen=True)
class Attempt:
    """A precision that was tried.

    Attributes:
        precision: which.
        engine: a draft that passed, or that cannot run here; None when it failed.
        certificate: None when it failed before, or cannot run here.
        infer_ms: median of a study's time in the network; None where nothing was timed.
        why: the reason of its refusal; None when it was not refused.
    """

    precision: str
    engine: EngineFolder | None
    certificate: Certificate | None
    infer_ms: float | None
    why: str | None


@dataclass(frozen=True)
class Exported:
    """An engine in its place.

    Attributes:
        engine: the folder.
        certificate: None when this machine cannot run it.
        attempts: all that were tried, the published one among them; empty for an engine from the cache.
    """

    engine: EngineFolder
    certificate: Certificate | None
    attempts: tuple[Attempt, ...]
