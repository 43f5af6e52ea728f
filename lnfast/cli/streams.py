"""stdin, stdout and stderr as they may be: closed by who started the program, full, or left by their reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click


def open_closed() -> None:
    """Give each standard stream that is closed something that takes everything.

    A daemon, ``pythonw`` or ``>&-`` starts a program without. The next file that is opened would get the number of the
    stream, and whatever a library prints there would go into it: into labels.nii.gz perhaps.
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
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115  # stays
            setattr(sys, name, stream)


def log(line: str) -> None:
    """A line on stderr; where it cannot be written nobody can be told, and no study is given up for that."""
    with suppress(OSError, ValueError):
        click.echo(f"lnfast: {line}", err=True)


@contextmanager
def printing() -> Iterator[None]:
    """Names stdout in an error of the disk that comes of printing: it is full, say."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output"
        raise


def settle() -> None:
    """Let go of what a stream does not take: Python would try again at the end, complain, and exit with 120."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
                stream.flush()
