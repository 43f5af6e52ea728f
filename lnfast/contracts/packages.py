"""The folders of an application package, as MONAI Deploy and Holoscan name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lnfast.errors import UsageError

INPUT, OUTPUT = "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"


def folder_named(environment: Mapping[str, str], variable: str) -> Path:
    """Return the folder that a variable of the environment names.

    Raises:
        UsageError: ``no-folder`` when the variable is not set, is empty, or names no folder.
    """
    name = environment.get(variable, "").strip()
    if not name:
        raise UsageError("no-folder", f"the variable {variable} is not set; the caller must name the folder in it")
    if not Path(name).is_dir():
        raise UsageError("no-folder", f"the variable {variable} names no folder; mount it into the container")
    return Path(name)
