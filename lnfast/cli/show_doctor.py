"""The tables that ``lnfast doctor`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from lnfast.cli.console import stdout, table


def show_findings(findings: dict[str, Any]) -> None:
    """Print the findings of `lnfast.cli.doctor.examine`."""
    console = stdout()
    flags = findings["cpu_flags"]
    known = "not told by this system" if flags is None else " ".join(flags) or "none of those that speed a network up"
    if findings["cpu_limit"]:
        known += f", limited to {findings['cpu_limit']}"
    console.print(
        f"lnfast {findings['lnfast']}, Python {findings['python']}, {findings['platform']}, "
        f"{findings['cores']} cores ({known}); kernels: {findings['kernels']}",
        markup=False,
    )
    _show_backends(console, findings["backends"])
    _show_dicom(console, findings["dicom"])
    if findings["models"]:
        _show_models(console, findings["models"])
    if findings["engines"]:
        _show_engines(console, findings["engines"])
    if findings["cache"]["problem"]:
        console.print(Text(f"no cache: {findings['cache']['problem']}", style="yellow"))
    selected = findings["auto"]
    if selected["error"]:
        console.print(Text(f"nothing can run: {selected['error']}", style="red"))
        return
    console.print(
        f"auto takes {selected['name']} {selected['version']}, {selected['precision']} on {selected['device']} "
        f"({selected['choice']}); self-test passed, Dice {selected['self_test']['dice']:.4f} with FP32",
        markup=False,
    )


def _show_backends(console: Console, backends: list[dict[str, Any]]) -> None:
    rows = table(console, "backend", "version", "devices", "precisions", "state")
    for status in backends:
        rows.add_row(
            status["name"],
            status["version"] or "-",
            " ".join(status["devices"]) or "-",
            " ".join(status["precisions"]) or "-",
            Text(_state(status), style="" if status["devices"] else "yellow"),
        )
    console.print("", rows, "")


def _show_dicom(console: Console, status: dict[str, Any]) -> None:
    """Print what can be read and written, and what is missing."""
    decoded = ", ".join(name for name, usable in status["decoders"].items() if usable)
    reading = f"any file (pydicom {status['pydicom']}; decodes {decoded})" if status["pydicom"] else "plain files only"
    writing = f"seg.dcm and sr.dcm (highdicom {status['highdicom']})" if status["highdicom"] else "nothing"
    console.print(f"DICOM: reads {reading}, writes {writing}", markup=False)
    if status["problem"]:
        console.print(Text(f"DICOM: {status['problem']}; mend: {status['mend']}", style="yellow"))
    console.print()


def _show_models(console: Console, models: list[dict[str, Any]]) -> None:
    rows = table(console, "model", "version", "trained on", "state")
    for model in models:
        rows.add_row(
            model["name"],
            model["version"] or "-",
            Text(model["trained_on"] or "-"),
            Text(model["problem"] or "files match the card", style="red" if model["problem"] else ""),
        )
    console.print(rows, "")


def _show_engines(console: Console, engines: list[dict[str, Any]]) -> None:
    rows = table(console, "engine", "of model", "state")
    for engine in engines:
        proof = engine["certificate"] or {"studies": 0}
        certified = f"certified on {proof['studies']} {'study' if proof['studies'] == 1 else 'studies'}"
        rows.add_row(
            f"{engine['target']} {engine['version']} {engine['precision']}",
            engine["model"],
            Text(engine["problem"] or certified, style="red" if engine["problem"] else ""),
        )
    console.print(rows, "")


def _state(status: dict[str, Any]) -> str:
    if not status["problem"]:
        return "ready"
    return f"{status['problem']}; mend: {status['mend']}" if status["mend"] else str(status["problem"])
