"""The one place that turns an error into an exit code and a line on stderr."""

from __future__ import annotations

import os

import click

from lnfast.errors import LnfastError, UsageError

INTERRUPTED, READER_GONE = 130, 141


def exit_status(error: BaseException) -> tuple[int, str | None]:
    """Return the exit code of an error and its line, without the program's name; None where nothing is printed.

    Raises:
        BaseException: the error itself, where it is neither an `Exception` nor an interrupt.
    """
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code, None
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED, "interrupted"
    if isinstance(error, LnfastError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else "lnfast"
        message = " ".join(error.format_message().split()).rstrip(".")
        return UsageError.exit_code, f"usage: {message}; see {path} --help"
    if isinstance(error, OSError):
        return LnfastError.exit_code, f"os-error: {_location(error)}{error.strerror or error}"
    if isinstance(error, Exception):
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return LnfastError.exit_code, f"internal: {text}; set LNFAST_DEBUG=1 for the traceback, and please report it"
    raise error


def _location(error: OSError) -> str:
    """Return the file that an error of the system names, or the working folder where that is what no longer works."""
    if error.filename:
        return f"{error.filename}: "
    try:
        os.getcwd()
    except OSError:
        return "the working folder was deleted or may not be looked at; go into another: "
    return ""
