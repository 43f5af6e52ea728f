"""``lnfast doctor``: what this machine can run, what is missing, and the command that installs it."""

from __future__ import annotations

import json
import os
import platform
from typing import Any

import click

from lnfast.cli import streams
from lnfast.errors import BackendError, LnfastError


@click.command(short_help="Show what this machine can run and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Show what this machine can run, what is missing, and the command that installs it.

    Loads the shipped model as `lnfast run` does, with its self-test. Exits with 0 when a backend can run it, else
    with 5.
    """
    findings = examine()
    with streams.printing():
        if as_json:
            click.echo(json.dumps(findings, indent=1))
        else:
            from lnfast.cli.show_doctor import show_findings

            show_findings(findings)
    return 0 if findings["auto"]["error"] is None else BackendError.exit_code


def examine() -> dict[str, Any]:
    """Return everything that `doctor` prints, as plain values."""
    from dataclasses import asdict

    from lnfast._version import __version__
    from lnfast.backends import backend_status
    from lnfast.backends.machine import cpu_flags, cpu_limit
    from lnfast_ext import instruction_set

    return {
        "lnfast": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_flags": None if (flags := cpu_flags()) is None else list(flags),
        "cpu_limit": cpu_limit(),
        "kernels": instruction_set(),
        "backends": [asdict(status) for status in backend_status()],
        "dicom": _dicom(),
        "models": _models(),
        "cache": _cache(),
        "engines": _engines(),
        "auto": _auto(),
    }


def _dicom() -> dict[str, Any]:
    """Return the packages for DICOM, what can be decoded, what is missing, and the command that installs it."""
    from lnfast.study.dicom.packages import DECODERS, HIGHDICOM, PYDICOM

    needed = (PYDICOM, HIGHDICOM, *(package for packages in DECODERS.values() for package in packages))
    missing = [package for package in needed if not package.installed()]
    return {
        "pydicom": None if PYDICOM in missing else PYDICOM.version(),
        "highdicom": None if HIGHDICOM in missing else HIGHDICOM.version(),
        "decoders": {
            name: PYDICOM not in missing and not any(package in missing for package in packages)
            for name, packages in DECODERS.items()
        },
        "problem": f"without {', '.join(package.distributions[0] for package in missing)}" if missing else None,
        "mend": missing[0].install if missing else None,
    }


def _models() -> list[dict[str, Any]]:
    from lnfast.card import SHIPPED_MODELS, load_model, shipped_models

    rows = []
    for name in shipped_models():
        row: dict[str, Any] = {"name": name, "version": None, "trained_on": None, "sha256": None, "problem": None}
        try:
            model = load_model(SHIPPED_MODELS / name)
            row |= {"version": model.card.version, "trained_on": model.card.trained_on, "sha256": model.sha256}
            _ = model.onnx_bytes, model.probe  # reading checks the hashes
        except LnfastError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _cache() -> dict[str, Any]:
    """Return where engines and proofs are cached, or why nowhere."""
    from lnfast.backends.engine import cache as engine_cache

    folder = engine_cache.root()
    return {"folder": None if folder is None else str(folder), "problem": engine_cache.problem()}


def _engines() -> list[dict[str, Any]]:
    """Return the engines of the cache, and whether each can be used on this machine."""
    from lnfast.backends.choice import version_of
    from lnfast.backends.engine import cache as engine_cache
    from lnfast.backends.engine.folder import check_certified, check_here

    rows = []
    for engine in engine_cache.engines():
        manifest = engine.manifest
        row: dict[str, Any] = {
            "folder": str(engine.folder),
            "model": manifest.model["name"],
            "target": manifest.target,
            "version": manifest.version,
            "precision": manifest.precision,
            "certificate": manifest.certificate,
            "problem": None,
        }
        try:
            engine.check_files()
            check_here(engine, version_of(manifest.target))
            check_certified(engine, "cpu" if manifest.device == "cpu" else "cuda:0")
        except LnfastError as error:
            row["problem"] = str(error)
        rows.append(row)
    return rows


def _auto() -> dict[str, Any]:
    """Return the engine that `run` would use, loaded and self-tested."""
    from dataclasses import asdict

    from lnfast.engine import Engine

    try:
        with Engine() as engine:
            return asdict(engine.info) | {
                "choice": engine.choice,
                "self_test": asdict(engine.self_test),
                "error": None,
            }
    except LnfastError as error:
        return {"error": str(error)}
