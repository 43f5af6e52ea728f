"""The command line: each command parses, calls one function and prints.

stdout is for results; logs, progress and errors go to stderr. The exit codes are those of the tree in `lnfast.errors`
(0 for success), 130 after Ctrl-C and 141 when the reader of stdout went away, as a shell reports it. In a batch the
exit code is the highest of all studies. Commands import what they need when they run, so that ``--help`` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from lnfast.cli import streams
from lnfast.cli.cohort import cohort
from lnfast.cli.demo import demo
from lnfast.cli.doctor import doctor
from lnfast.cli.echo import echo
from lnfast.cli.evaluate import evaluate
from lnfast.cli.exit_status import READER_GONE, exit_status
from lnfast.cli.export import export
from lnfast.cli.node import node
from lnfast.cli.phantom import phantom
from lnfast.cli.run import run
from lnfast.cli.send import send

__all__ = ["main"]


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="lnfast", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar="LNFAST_DEBUG", help="Show the traceback of an error.")
@click.pass_context
def lnfast(context: click.Context, debug: bool) -> None:
    """Find, outline and measure pelvic lymph nodes on diffusion-weighted MR, and stage them N0 or N1.

    For research use only. Not a medical device.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (run, cohort, export, evaluate, node, send, echo, demo, phantom, doctor):
    lnfast.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: without the program's name; those of the process when None.
    """
    streams.open_closed()
    if "numpy" not in sys.modules:
        # Nothing here multiplies large matrices, and where memory or processes are short OpenBLAS writes a line to
        # stderr for each thread that it could not start.
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
        code, line = exit_status(error)
        if line:
            streams.log(line)
    streams.settle()
    sys.exit(code or 0)
