"""lnfast: pelvic lymph nodes on diffusion-weighted MR, found, outlined, measured and staged at the scanner's side.

    with lnfast.Engine() as engine:
        result = engine.run("dwi.nii.gz")
        print(result.n_stage, [node.short_axis_mm for node in result.nodes])
        result.write("out/")

For research use only. Importing this package is instant: a name brings its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lnfast._version import __version__ as __version__
    from lnfast.admission import Admission
    from lnfast.backends import BackendInfo
    from lnfast.card import Model, ModelCard
    from lnfast.engine import Engine
    from lnfast.errors import BackendError, EngineError, LnfastError, ModelError, StudyError, UsageError
    from lnfast.geometry import Grid, Volume
    from lnfast.measure import LymphNode, Rules
    from lnfast.report import DicomFacts, EngineFacts, ModelFacts, Notice, Report, StudyFacts
    from lnfast.result import Result, StudyFailure
    from lnfast.selftest import SelfTest
    from lnfast.study import DicomChoice, DicomSource, Provenance, Study, read_study

__all__ = [
    "Admission",
    "BackendError",
    "BackendInfo",
    "DicomChoice",
    "DicomFacts",
    "DicomSource",
    "Engine",
    "EngineError",
    "EngineFacts",
    "Grid",
    "LnfastError",
    "LymphNode",
    "Model",
    "ModelCard",
    "ModelError",
    "ModelFacts",
    "Notice",
    "Provenance",
    "Report",
    "Result",
    "Rules",
    "SelfTest",
    "Study",
    "StudyError",
    "StudyFacts",
    "StudyFailure",
    "UsageError",
    "Volume",
    "read_study",
]

_HOMES = {
    "_version": ("__version__",),
    "admission": ("Admission",),
    "backends": ("BackendInfo",),
    "card": ("Model", "ModelCard"),
    "engine": ("Engine",),
    "errors": ("BackendError", "EngineError", "LnfastError", "ModelError", "StudyError", "UsageError"),
    "geometry": ("Grid", "Volume"),
    "measure": ("LymphNode", "Rules"),
    "report": ("DicomFacts", "EngineFacts", "ModelFacts", "Notice", "Report", "StudyFacts"),
    "result": ("Result", "StudyFailure"),
    "selftest": ("SelfTest",),
    "study": ("DicomChoice", "DicomSource", "Provenance", "Study", "read_study"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"lnfast.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'lnfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
