"""From a model to an engine: fast, and proven to find the same nodes, the same millimetres and the same stage.

    source.py        a model folder, a bare .onnx with a card, or an engine folder to be exported again
    request.py       the request, the attempts and the result
    target.py        a target on this machine
    studies.py       the calibration studies
    pipeline.py      for each precision: graph variants -> build -> certify; the fastest is chosen
    variants.py      the graphs to try; graph.py is the network, which half.py and quantize.py change
    draft.py         build: an engine in a temporary folder
    certifier.py     certify: FP32 beside the engine, study by study; certificate.py has the proof
    publishing.py    an engine in its place, whole or not at all
    forecast.py      how long it will take

Needs the package onnx for fp16, bf16 on TensorRT and int8 (extra ``export``), and ONNX Runtime for the FP32 answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lnfast.backends import Candidate
from lnfast.backends.engine import cache as engine_cache
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.machine import device_kind
from lnfast.backends.protocol import Progress
from lnfast.card import Model
from lnfast.errors import EngineError, UsageError
from lnfast.export.forecast import Phase, planned
from lnfast.export.pipeline import Pipeline, best
from lnfast.export.publishing import check_replaceable, publish
from lnfast.export.request import Attempt, Exported, Request
from lnfast.export.target import InstalledTarget, open_target

__all__ = ["Attempt", "Exported", "Progress", "Request", "export", "export_to_cache", "plan_export"]


def export(model: Model, out: Path, request: Request, progress: Progress = lambda step, done, total: None) -> Exported:
    """Build an engine of a model in a folder of its own, with the model's files.

    Args:
        model: the model of which it is built.
        out: the folder, complete or absent; an older engine folder is replaced. Where the cache of this machine holds
            the requested engine, the folder gets a copy of that with its certificate, and ``attempts`` is empty.
        request: the engine to build.
        progress: told of each step, ``(step, done, total)``.

    Raises:
        UsageError: ``output-exists``, ``unknown-target``, ``unknown-precision``, ``bad-studies`` or ``proves-nothing``.
        EngineError: ``not-certified`` when no candidate passed; nothing is written then.
        ModelError, BackendError, StudyError: from the target, from ONNX Runtime or for a study of the user's.
        OSError: from the disk.
    """
    check_replaceable(out)
    # A certificate does not say on which studies of the user's own it rests: those of today may be others.
    cached = _cached(model, request) if request.calibration is None else None
    if cached is not None:
        return Exported(publish(cached, cached.manifest, model, out, with_model=True), None, ())
    return _export(model, request, progress, lambda precision: out, with_model=True)


def export_to_cache(model: Model, request: Request, progress: Progress = lambda step, done, total: None) -> Exported:
    """Build an engine where `lnfast.Engine` looks for one; an engine that is there already stays.

    Two processes that request the same engine build it once: the second waits.

    Raises:
        As `export`; UsageError ``bad-device`` where nothing here can run it, for a cache serves one machine, and
            ``no-cache`` for a user without a home folder.
    """
    target = open_target(request)
    candidates = target.candidates(request.precisions)
    if not candidates:
        raise UsageError("bad-device", f"no device here runs {request.target} in {request.precision}; give -o DIR")

    def folder(precision: str) -> Path:
        return engine_cache.folder_of(_key(model, target, candidates[0], precision))

    with engine_cache.building(_key(model, target, candidates[0], request.precision)):
        cached = _cached(model, request)
        if cached is not None:
            return Exported(cached, None, ())
        return _export(model, request, progress, folder, with_model=False)


def plan_export(model: Model, request: Request) -> list[Phase]:
    """Return what an export will do, as far as that is known before; for `lnfast.export.forecast.Forecast`.

    Raises:
        UsageError, BackendError, StudyError: as `export`.
    """
    target = open_target(request)
    range_studies, certificate_studies = request.study_sets(model)
    windows = target.windows(model.card.shape_zyx) if request.windows else ()
    precisions = tuple(candidate.precision for candidate in target.candidates(request.precisions))
    return planned(request.target, precisions, len(certificate_studies), len(range_studies), len(windows))


def _export(
    model: Model, request: Request, progress: Progress, folder_for: Callable[[str], Path], *, with_model: bool
) -> Exported:
    """Run the pipeline and publish the best engine in the folder for its precision."""
    target = open_target(request)
    with tempfile.TemporaryDirectory(prefix="lnfast-export-") as work:
        pipeline = Pipeline(model, request, target, Path(work), progress)
        try:
            attempts = pipeline.run()
        finally:
            pipeline.close()
        chosen = best(attempts, request.target)
        assert chosen.engine is not None
        certificate = None if chosen.certificate is None else chosen.certificate.to_dict()
        manifest = replace(chosen.engine.manifest, certificate=certificate)
        engine = publish(chosen.engine, manifest, model, folder_for(chosen.precision), with_model=with_model)
    return Exported(engine, chosen.certificate, attempts)


def _cached(model: Model, request: Request) -> EngineFolder | None:
    """Return the requested engine from the cache: the same windows, and a certificate on the same studies.

    A damaged engine counts as none, so that it is built again.
    """
    target = open_target(request)
    candidates = target.candidates(request.precisions)
    if not candidates or request.capabilities:  # the key does not say which GPUs an engine serves
        return None
    try:
        engine = engine_cache.find(
            model, _key(model, target, candidates[0], candidates[0].precision), candidates[0].device
        )
    except EngineError:
        return None
    if engine is None or engine.manifest.certificate is None:
        return None
    windows = target.windows(model.card.shape_zyx) if request.windows else ()
    studies = request.study_sets(model)[1]
    certificate = engine.manifest.certificate
    same_studies = certificate.get("studies") == len(studies) and certificate.get("source") == studies.source
    return engine if engine.manifest.shapes == windows and same_studies else None


def _key(model: Model, target: InstalledTarget, candidate: Candidate, precision: str) -> str:
    return engine_cache.key_of(model, target.name, target.version, (device_kind(candidate.device),), precision)
