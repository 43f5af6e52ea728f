"""The command line: each command parses, calls one function and prints.

stdout is for results; logs, progress and errors go to stderr. The exit codes are those of the tree in `lnfast.errors`
(0 where all went well), 130 after Ctrl-C and 141 when the reader of stdout went away, as a shell says it. In a batch
the exit code is the worst seen. Commands import what they need when they run, so that ``--help`` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from lnfast.cli import streams
from lnfast.cli.demo import demo
from lnfast.cli.doctor import doctor
from lnfast.cli.evaluate import evaluate
from lnfast.cli.export import export
from lnfast.cli.phantom import phantom
from lnfast.cli.run import run
from lnfast.errors import LnfastError, UsageError

__all__ = ["main"]

INTERRUPTED, READER_GONE = 130, 141


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="lnfast", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar="LNFAST_DEBUG", help="Show the traceback of an error.")
@click.pass_context
def lnfast(context: click.Context, debug: bool) -> None:
    """Pelvic lymph nodes on diffusion-weighted MR: found, outlined, measured, staged N0 or N1.

    For research use only. Not a medical device.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (run, export, evaluate, demo, phantom, doctor):
    lnfast.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: without the program's name; those of the process when None.
    """
    streams.open_closed()
    if "numpy" not in sys.modules:
        # Nothing here multiplies large matrices, and where memory or processes are short OpenBLAS complains on stderr
        # of each thread that it could not start.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    root: click.Context | None = None
    try:
        with lnfast.make_context("lnfast", list(sys.argv[1:] if arguments is None else arguments)) as root:
            code = lnfast.invoke(root)
            with streams.printing():
                sys.stdout.flush()
    except BrokenPipeError:
        code = READER_GONE
    except BaseException as error:
        if root is not None and root.params.get("debug"):
            import traceback

            traceback.print_exc()
        code, line = _say(error)
        if line:
            streams.log(line)
    streams.settle()
    sys.exit(code or 0)


def _say(error: BaseException) -> tuple[int, str | None]:
    """The one place that turns an error into an exit code and a line."""
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
        return LnfastError.exit_code, f"os-error: {_where(error)}{error.strerror or error}"
    if isinstance(error, Exception):
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return LnfastError.exit_code, f"internal: {what}; set LNFAST_DEBUG=1 for the traceback, and please report it"
    raise error


def _where(error: OSError) -> str:
    """What an error of the disk is about, as it names it or as can be told from what no longer works."""
    if error.filename:
        return f"{error.filename}: "
    try:
        os.getcwd()
    except OSError:
        return "the working folder was deleted or may not be looked at; go into another: "
    return ""
