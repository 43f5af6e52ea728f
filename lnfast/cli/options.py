"""Option types and checks that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from lnfast.errors import UsageError


class OutputFolder(click.Path):
    """A folder to write into. An empty name (``-o "$UNSET"``) is a mistake and not the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the path; an empty one is a usage error."""
        if not str(os.fspath(value)).strip() or value == Path(""):
            self.fail("got an empty name, wanted a folder (the working folder is .)", parameter, context)
        return super().convert(value, parameter, context)


def check_output_folder(out: Path) -> None:
    """Refuse, before any work is done, a path at which no folder can be made.

    Raises:
        UsageError: ``bad-output`` for a file, and those of `check_output_path`.
    """
    check_output_path(out)
    if out.exists() and not out.is_dir():
        raise UsageError("bad-output", f"got -o {out}, which is a file; wanted a folder")


def check_output_path(out: Path) -> None:
    """Refuse a path that leads nowhere.

    Raises:
        UsageError: ``bad-output`` for a dangling link, at the end of the path or within it, and for a working folder
            that was deleted.
    """
    if not out.is_absolute():
        try:
            os.getcwd()
        except FileNotFoundError:
            raise UsageError(
                "bad-output",
                f"got -o {out} in a working folder that was deleted; go into another, or give an absolute path",
            ) from None
    for path in (out, *out.parents):
        if path.is_symlink() and not path.exists():
            target = os.readlink(path)
            raise UsageError(
                "bad-output",
                f"got -o {out}: {path} is a link to {target}, which is not there; make it, or give another",
            )
