"""A processing module of mercure: images and settings in one folder, objects and ``result.json`` in another.

``MERCURE_IN_DIR`` holds the images of a series or a study, ``<series UID>#<instance UID>.dcm``, a ``.tags`` file beside
each, and ``task.json``, whose ``process.settings`` are the module's settings merged with the rule's. mercure sends what
lies as ``*.dcm`` in ``MERCURE_OUT_DIR``, keeps ``result.json`` in its database, and takes an exit code other than 0 for
a failure: then nothing is sent, and the log of the container is shown.

Source: docs/modules.rst and app/process/process_series.py of github.com/mercure-imaging/mercure.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lnfast._version import __version__
from lnfast.atomic import flush, write_file
from lnfast.contracts.packages import folder_named
from lnfast.engine import Engine
from lnfast.errors import LnfastError, UsageError
from lnfast.measure import Rules
from lnfast.report import Report
from lnfast.report.lengths import length_text
from lnfast.result import Parts, SegFrames, write_result
from lnfast.study import DicomChoice

INPUT, OUTPUT = "MERCURE_IN_DIR", "MERCURE_OUT_DIR"
RESULT, OBJECTS = "result.json", ("seg.dcm", "sr.dcm")
_TASK = "task.json"


@dataclass(frozen=True)
class Settings:
    """What ``process.settings`` of a task may hold; the names are those of the options of ``lnfast run``.

    ``prefer``, as `lnfast.DicomChoice` has it, is for a study of which several series could be taken.
    """

    model: str = "pelvic-ln-edge"
    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    short_axis: str = "box"
    suspicious_mm: float = 8.0
    series: str | None = None
    prefer: tuple[str, ...] = ()
    b_value: float | None = None
    synthetic: bool = False
    seg_frames: SegFrames = "sparse"


_TEXT, _NUMBER = (str,), (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "model": _TEXT,
    "backend": _TEXT,
    "device": _TEXT,
    "precision": _TEXT,
    "short_axis": _TEXT,
    "suspicious_mm": _NUMBER,
    "series": (str, int),
    "prefer": (list,),
    "b_value": _NUMBER,
    "synthetic": (bool,),
    "seg_frames": _TEXT,
}
_WANTED: dict[tuple[type, ...], str] = {_NUMBER: "a number", (bool,): "true or false", (list,): "a list"}


def run_module(environment: Mapping[str, str], defaults: Settings) -> Report:
    """Run the task in ``MERCURE_IN_DIR``; write seg.dcm (where there are nodes), sr.dcm and result.json.

    Whatever goes wrong once ``MERCURE_OUT_DIR`` is known stands in its result.json too, beside which there are then no
    objects.

    Args:
        environment: has the names of both folders.
        defaults: hold where the task has no setting of that name.

    Returns:
        The report.

    Raises:
        UsageError: ``no-folder``; ``bad-task`` for a task.json or settings that cannot be understood.
        LnfastError: as `Engine` and `Engine.run`; ``dicom-not-written``, ``os-error``, ``internal``.
    """
    target = folder_named(environment, OUTPUT)
    _remove_results(target)
    try:
        source = folder_named(environment, INPUT)
        report = _run(source, target, read_settings(source / _TASK, defaults))
    except LnfastError as error:
        _write_failure(target, error)
        raise
    except Exception as error:
        # Neither its text, which may quote a header, nor the name of a file, which mercure makes of UIDs: mercure shows
        # the log of the container.
        if isinstance(error, OSError):
            failure = LnfastError("os-error", f"the system refused: {os.strerror(error.errno or 0)}")
        else:
            failure = LnfastError("internal", f"the module stopped: {type(error).__name__}")
        _write_failure(target, failure)
        raise failure from error
    return report


def read_settings(path: Path, defaults: Settings) -> Settings:
    """Read ``process.settings`` of a task.json. A setting that is not known is refused: it may be a typing error.

    Raises:
        UsageError: ``bad-task``.
    """
    try:
        task = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is no JSON"
        raise UsageError("bad-task", f"task.json cannot be read: {reason}") from error
    steps = task.get("process") if isinstance(task, dict) else None
    if isinstance(steps, list) and len(steps) == 1:
        steps = steps[0]
    if not isinstance(steps, dict):
        raise UsageError("bad-task", "task.json has no entry 'process' with one processing step")
    settings = steps.get("settings") or {}
    if not isinstance(settings, dict):
        raise UsageError("bad-task", "the settings in task.json are no JSON object")
    return replace(defaults, **{str(name): _checked(str(name), value) for name, value in settings.items()})


def _checked(name: str, value: Any) -> Any:
    if name not in _TYPES:
        raise UsageError("bad-task", f"no setting is called {name!r}; there are {', '.join(sorted(_TYPES))}")
    types = _TYPES[name]
    fits: bool = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    if not fits:
        wanted = _WANTED.get(types, "text")
        raise UsageError("bad-task", f"the setting {name!r} is of another type, wanted {wanted}")
    if name == "seg_frames" and value not in ("sparse", "all"):
        raise UsageError("bad-task", 'the setting \'seg_frames\' has another value, wanted "sparse" or "all"')
    if name == "prefer":
        if not all(isinstance(pattern, str) for pattern in value):
            raise UsageError("bad-task", "the setting 'prefer' is no list of texts")
        return tuple(value)
    return str(value) if types == (str, int) else value


def _run(source: Path, target: Path, settings: Settings) -> Report:
    rules = Rules(short_axis=settings.short_axis, suspicious_mm=settings.suspicious_mm)  # type: ignore[arg-type]
    choice = DicomChoice(settings.series, settings.b_value, settings.synthetic, settings.prefer)
    with (
        tempfile.TemporaryDirectory(dir=target, prefix=".lnfast-") as work,
        Engine(settings.model, settings.backend, settings.device, settings.precision, rules=rules) as engine,
    ):
        result = engine.run(_images(source, Path(work) / "images"), choice=choice)
        parts = Parts(html=False, dicom=True, seg_frames=settings.seg_frames)
        written = write_result(result, Path(work), result.study.name, parts)
        if written.dicom_problem is not None:
            raise LnfastError("dicom-not-written", written.dicom_problem.message)
        assert written.folder is not None
        for name in OBJECTS:
            if (written.folder / name).exists():
                os.replace(written.folder / name, target / name)
    flush(target)
    _write(target, _content(written.report))
    return written.report


def _images(source: Path, folder: Path) -> Path:
    """Link the images of a task, and not the ``.tags`` files, which would count as files of the study."""
    folder.mkdir()
    images = sorted(path for path in source.iterdir() if path.suffix.lower() == ".dcm")
    for number, path in enumerate(images):
        (folder / f"{number}.dcm").symlink_to(path.absolute())
    return folder


def _content(report: Report) -> dict[str, Any]:
    """What result.json holds of a report; of suspicious nodes also a notification, which a rule may send on request."""
    content: dict[str, Any] = {"status": "done", "n_stage": report.n_stage, "report": report.to_dict()}
    largest = report.largest
    if report.suspicious and largest is not None:
        length = length_text(largest.short_axis_mm, report.rules)
        nodes = f"{len(report.suspicious)} of {len(report.nodes)} nodes suspicious, largest short axis {length} mm"
        text = f"lnfast: {report.n_stage}, {nodes}. Research use only."
        content["__mercure_notification"] = {"text": text, "requested": True}
    return content


def _remove_results(target: Path) -> None:
    """Remove what an earlier attempt left, or this one wrote before it failed: mercure would send the objects."""
    for name in (*OBJECTS, RESULT):
        (target / name).unlink(missing_ok=True)


def _write_failure(target: Path, error: LnfastError) -> None:
    _remove_results(target)
    failure = {"code": error.code, "message": error.message, "exit_code": error.exit_code}
    _write(target, {"status": "failed", "error": failure})


def _write(target: Path, content: dict[str, Any]) -> None:
    write_file(target / RESULT, (json.dumps({"lnfast": __version__, **content}, indent=1) + "\n").encode())
