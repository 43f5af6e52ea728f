"""The output folder: evaluation.html, metrics.json, cases.csv, nodes.csv and the figures; it is whole or absent."""

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
# No other file is ever deleted: a folder that holds any other file is not an evaluation's.
PAGE = "evaluation.html"
OWN_FILES = frozenset(
    {PAGE, "metrics.json", "cases.csv", "nodes.csv", *(f"{name}.{kind}" for name in FIGURES for kind in FORMATS)}
)


def check_output(out: Path) -> None:
    """Refuse an output folder before any work is done.

    Raises:
        UsageError: ``output-exists`` when something is there that is neither an empty folder nor one that holds
            metrics.json of an evaluation and only files that an evaluation writes; some of those may be missing.
    """
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UsageError("output-exists", f"{out} is there and is not a folder; move it or give another -o")
    present = {entry.name for entry in os.scandir(out)}
    foreign = sorted(present - OWN_FILES)
    if foreign:
        raise UsageError(
            "output-exists", f"{out} holds {foreign[0]!r}, which an evaluation does not write; give another -o"
        )
    if present and not _is_evaluation(out):
        raise UsageError("output-exists", f"{out} holds no metrics.json of {SCHEMA}; move it or give another -o")


def write_evaluation(evaluation: Evaluation, out: Path) -> dict[str, Any]:
    """Write the folder, in place of an earlier evaluation.

    Returns:
        The content of metrics.json.

    Raises:
        UsageError: ``output-exists``.
        StudyError: a label map has changed since it was measured.
        OSError: of the disk. Nothing is left behind, and an earlier evaluation is still there.
    """
    content, figures = metrics(evaluation), draw_figures(evaluation)
    files = {
        **figures,
        PAGE: render(evaluation, content, figures),
        "cases.csv": cases_csv(evaluation.studies).encode(),
        "nodes.csv": nodes_csv(evaluation.studies).encode(),
        "metrics.json": json_text(content).encode(),
    }
    check_output(out)
    # An absolute path: "." and "results/.." have no name beside which a temporary name could be made.
    with replacing_folder(Path(os.path.abspath(out)), OWN_FILES, check_output) as work:
        for name, data in files.items():
            (work / name).write_bytes(data)
    return content


def _is_evaluation(folder: Path) -> bool:
    try:
        content = json.loads((folder / "metrics.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("schema") == SCHEMA
