"""``lnfast demo``: the nodes of a digital patient, predicted and measured, beside the truth."""

from __future__ import annotations

from pathlib import Path

import click

from lnfast.cli import streams
from lnfast.cli.options import OutputFolder, check_output_folder
from lnfast.cli.progress import ProgressDisplay


@click.command(short_help="Try lnfast on a digital patient and compare the result with the truth.")
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    default="lnfast-demo",
    show_default=True,
    type=OutputFolder(),
    help="Folder for the study and the results.",
)
def demo(out: Path) -> int:
    """Make a digital patient that no model was trained on, find and measure its nodes, and compare with the truth."""
    from lnfast.cli.demonstration import demonstrate

    check_output_folder(out)
    with ProgressDisplay(1, "making a digital patient") as display:
        demonstration = demonstrate(out, display.show)
        display.log_cache()
    from lnfast.cli.show_demo import show_demonstration

    with streams.printing():
        show_demonstration(demonstration)
    return 0
