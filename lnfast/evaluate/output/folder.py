"""DIR: evaluation.html, metrics.json, cases.csv, nodes.csv and the figures; the folder is whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lnfast.atomic import replacing_folder
from lnfast.errors import UsageError
from lnfast.evaluate.evaluation import Evaluation
from lnfast.evaluate.output.csv_tables import cases_csv, nodes_csv
from lnfast.evaluate.output.figures import FORMATS, draw_figures
from lnfast.evaluate.output.metrics import SCHEMA, json_text, metrics
from lnfast.evaluate.output.page import render

FIGURES = ("correlation", "bland_altman", "roc")
# Nothing else is ever deleted: a folder that holds more than these is somebody's.
PAGE = "evaluation.html"
OWN_FILES = frozenset(
    {PAGE, "metrics.json", "cases.csv", "nodes.csv", *(f"{name}.{kind}" for name in FIGURES for kind in FORMATS)}
)


def check_output(out: Path) -> None:
    """Say no before any work is done.

    Raises:
        UsageError: ``output-exists`` when something is there that is neither an empty folder nor one that holds
            metrics.json of an evaluation and no file that an evaluation does not write; some of those may be missing.
    """
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UsageError("output-exists", f"{out} is there and is not a folder; move it or give another -o")
    present = {entry.name for entry in os.scandir(out)}
    strange = sorted(present - OWN_FILES)
    if strange:
        raise UsageError(
            "output-exists", f"{out} holds {strange[0]!r}, which an evaluation does not write; give another -o"
        )
    if present and not _is_evaluation(out):
        raise UsageError("output-exists", f"{out} holds no metrics.json of {SCHEMA}; move it or give another -o")


def write_evaluation(evaluation: Evaluation, out: Path) -> dict[str, Any]:
    """Write the folder, in place of an earlier evaluation.

    Returns:
        What stands in metrics.json.

    Raises:
        UsageError: ``output-exists``.
        StudyError: a label map has changed since it was measured.
        OSError: what the disk said. Nothing is left behind, and what was there before is still there.
    """
    told, figures = metrics(evaluation), draw_figures(evaluation)
    files = {
        **figures,
        PAGE: render(evaluation, told, figures),
        "cases.csv": cases_csv(evaluation.studies).encode(),
        "nodes.csv": nodes_csv(evaluation.studies).encode(),
        "metrics.json": json_text(told).encode(),
    }
    check_output(out)
    # An absolute path: "." and "results/.." have no name to put a temporary one beside.
    with replacing_folder(Path(os.path.abspath(out)), OWN_FILES, check_output) as work:
        for name, content in files.items():
            (work / name).write_bytes(content)
    return told


def _is_evaluation(folder: Path) -> bool:
    try:
        found = json.loads((folder / "metrics.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA
