"""stdin, stdout and stderr in every state: closed by the parent process, on a full disk, or without a reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click


def open_closed() -> None:
    """Open each standard stream that is closed on the null device.

    A daemon, ``pythonw`` or ``>&-`` starts a program without them. The next file that is opened would get the number of
    the stream, and whatever a library prints there would go into that file, labels.nii.gz for example.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115  # stays open
            setattr(sys, name, stream)


def log(line: str) -> None:
    """Write a line to stderr. Where that fails it is ignored: no study is given up for a log line."""
    with suppress(OSError, ValueError):
        click.echo(f"lnfast: {line}", err=True)


@contextmanager
def printing() -> Iterator[None]:
    """Name stdout in an OSError that printing raises, for example when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output"
        raise


def settle() -> None:
    """Discard what a stream does not accept: Python would try again at exit, print a warning and exit with 120."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
                stream.flush()
