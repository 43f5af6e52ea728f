"""``lnfast node``: the service beside the scanner."""

from __future__ import annotations

from pathlib import Path

import click

from lnfast.cli import streams


@click.group(short_help="Receive exams by DICOM, run them, send the results to a PACS.", invoke_without_command=True)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=Path("/etc/lnfast/node.toml"),
    show_default=True,
    help="The node.toml.",
)
@click.option("--example", is_flag=True, help="Print a commented node.toml to begin with.")
@click.option("--unit", is_flag=True, help="Print a unit of systemd.")
@click.pass_context
def node(context: click.Context, config_path: Path, example: bool, unit: bool) -> int:
    """Receive exams by DICOM, run them, and send seg.dcm and sr.dcm to a PACS.

    Without a command the node runs until SIGTERM or Ctrl-C, which let it drain; a second one ends it at once. The
    commands work beside a node that runs.
    """
    from lnfast.node.config import read_config
    from lnfast.node.files import example_text, unit_text

    context.obj = config_path
    if example or unit:
        with streams.printing():
            click.echo(example_text() if example else unit_text(), nl=False)
        return 0
    if context.invoked_subcommand is not None:
        return 0
    config = read_config(config_path)
    from lnfast.node.process import run_node

    return run_node(config)
