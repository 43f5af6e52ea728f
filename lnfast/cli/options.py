"""Option types and checks that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from lnfast.backends.registry import AUTO, BACKENDS, PRECISIONS
from lnfast.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

_ENGINE = (
    click.option(
        "--model",
        default="pelvic-ln-edge",
        show_default=True,
        metavar="NAME|DIR",
        help="Name of a shipped model, or a model or engine folder.",
    ),
    click.option(
        "--backend",
        type=click.Choice((AUTO, *BACKENDS)),
        default="auto",
        show_default=True,
        help="Runtime of the network. A named runtime is never replaced by another: it is used or refused.",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda:N",
        help="Device that the network runs on.",
    ),
    click.option(
        "--precision",
        type=click.Choice((AUTO, *PRECISIONS)),
        default="auto",
        show_default=True,
        help="Precision of the network. A named precision is never replaced by another.",
    ),
)
_RULES = (
    click.option(
        "--short-axis",
        type=click.Choice(["box", "axial", "ellipsoid"]),
        default="box",
        show_default=True,
        help="Rule for the short axis: shortest edge of the minimum-volume box, short diameter on an axial slice, or "
        "short axis of the ellipsoid that spreads as the network's probability does.",
    ),
    click.option(
        "--suspicious-mm",
        type=float,
        default=8.0,
        show_default=True,
        metavar="MM",
        help="A node with a longer short axis is suspicious.",
    ),
)


def engine_options(command: Command) -> Command:
    """Add ``--model``, ``--backend``, ``--device`` and ``--precision`` to a command."""
    return with_options(command, _ENGINE)


def rule_options(command: Command) -> Command:
    """Add ``--short-axis`` and ``--suspicious-mm`` to a command."""
    return with_options(command, _RULES)


def with_options(command: Command, options: Sequence[Callable[[Any], Any]]) -> Command:
    """Add options to a command, in the order in which its help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


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
