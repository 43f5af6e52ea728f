"""``lnfast doctor``: what this machine can run, what is missing, and the line that mends it."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import click

from lnfast import __version__
from lnfast.errors import BackendError, LnfastError

# What decides how fast a network runs on a CPU, as Linux names it.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


@click.command(short_help="Say what this machine can run and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Say what this machine can run, what is missing, and the line that mends it.

    Loads the shipped model as `run` does and lets it prove itself. Exits 0 when something can run, else 5.
    """
    findings = examine()
    if as_json:
        click.echo(json.dumps(findings, indent=1))
    else:
        from lnfast.cli.tables import show_findings

        show_findings(findings)
    return 0 if findings["auto"]["error"] is None else BackendError.exit_code


def examine() -> dict[str, Any]:
    """Everything that `doctor` says, as plain values."""
    from dataclasses import asdict

    from lnfast.backends import backend_status
    from lnfast_ext import instruction_set

    return {
        "lnfast": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_flags": _cpu_flags(),
        "kernels": instruction_set(),
        "backends": [asdict(status) for status in backend_status()],
        "models": _models(),
        "auto": _auto(),
    }


def _cpu_flags() -> list[str] | None:
    """The flags that matter here, None where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = (line.partition(":") for line in text.splitlines())
    flags = next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())
    return [flag for flag in _CPU_FLAGS if flag in flags]


def _models() -> list[dict[str, Any]]:
    from lnfast.card import SHIPPED_MODELS, load_model, shipped_models

    found = []
    for name in shipped_models():
        row: dict[str, Any] = {"name": name, "version": None, "trained_on": None, "sha256": None, "problem": None}
        try:
            model = load_model(SHIPPED_MODELS / name)
            row |= {"version": model.card.version, "trained_on": model.card.trained_on, "sha256": model.sha256}
            _ = model.onnx_bytes, model.probe  # reading proves the hashes
        except LnfastError as error:
            row["problem"] = str(error)
        found.append(row)
    return found


def _auto() -> dict[str, Any]:
    """What `run` would use, loaded and proven."""
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
