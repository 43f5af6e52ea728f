"""What the options of several commands have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from lnfast.errors import UsageError


class Place(click.Path):
    """A folder to write into. An empty name (``-o "$UNSET"``) is not the working folder but a mistake."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The path, refused when it is blank."""
        if not str(os.fspath(value)).strip() or value == Path(""):
            self.fail("got an empty name, wanted a folder (the working folder is .)", parameter, context)
        return super().convert(value, parameter, context)


def check_place(out: Path) -> None:
    """Say no before any work is done where no folder can be.

    Raises:
        UsageError: ``bad-output`` for a file, and as `check_way`.
    """
    check_way(out)
    if out.exists() and not out.is_dir():
        raise UsageError("bad-output", f"got -o {out}, which is a file; wanted a folder")


def check_way(out: Path) -> None:
    """Refuse a path that leads nowhere.

    Raises:
        UsageError: ``bad-output`` for a link to nothing, at the end of the path or on its way, and for a working folder
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
    for place in (out, *out.parents):
        if place.is_symlink() and not place.exists():
            nothing = os.readlink(place)
            raise UsageError(
                "bad-output",
                f"got -o {out}: {place} is a link to {nothing}, which is not there; make it, or give another",
            )
