"""``lnfast node``: start the node, check its configuration, and what a person at the box asks of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lnfast.cli import streams
from lnfast.cli.dicom import choice_options
from lnfast.errors import BackendError, UsageError

if TYPE_CHECKING:
    from lnfast.node.config.settings import NodeConfig
    from lnfast.node.ledger import Exam, Ledger

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_CONFIG = Path("/etc/lnfast/node.toml")


def _config_option(default: Path | None, text: str) -> Callable[[Command], Command]:
    return click.option(
        "--config",
        "config_path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        default=default,
        envvar="LNFAST_NODE_CONFIG",
        show_default=True,
        help=text,
    )


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[status|retry|purge]",
    short_help="Receive exams by DICOM, run them, and send the results to a PACS.",
)
@_config_option(DEFAULT_CONFIG, "The configuration; lnfast node --example prints one.")
@click.option(
    "--check", "only_check", is_flag=True, help="Check configuration, disk, engine and targets; start nothing."
)
@click.option("--example", is_flag=True, help="Print a configuration with every key explained.")
@click.option("--unit", is_flag=True, help="Print a unit of systemd.")
@click.pass_context
def node(context: click.Context, config_path: Path, only_check: bool, example: bool, unit: bool) -> int | None:
    """Run a node beside the scanner: it receives exams by DICOM, runs them, and sends SEG and SR to a PACS.

    Without a command the node runs until SIGTERM or Ctrl-C, which let it end what it is at; a second one ends it at
    once. The commands may be used while it runs, and while it does not.
    """
    context.obj = config_path
    if context.invoked_subcommand is not None:
        if only_check or example or unit:
            raise click.UsageError(f"--check, --example and --unit do not go with {context.invoked_subcommand}")
        return None
    if example or unit:
        from lnfast.node.config.templates import example_text, unit_text

        with streams.printing():
            click.echo(example_text() if example else unit_text(), nl=False)
        return 0
    if only_check:
        return _check(config_path)
    config = _config(config_path)
    if config is None:
        return UsageError.exit_code
    from lnfast.node.process import run_node

    return run_node(config)


@node.command(short_help="Show what the node is at and what waits for a person.")
@_config_option(None, "The configuration.")
@click.argument("exam", metavar="[EXAM]", required=False)
@click.option("--study", metavar="UID", help="Show the exam of this StudyInstanceUID.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def status(group_config: Path, /, config_path: Path | None, exam: str | None, study: str | None, as_json: bool) -> int:
    """Show exams, outbox, dead letters with their reasons, and the disk; or what happened to one EXAM.

    EXAM is its id or the beginning of it.
    """
    if exam and study:
        raise click.UsageError("give EXAM or --study, not both")
    config = _config(config_path or group_config)
    if config is None:
        return UsageError.exit_code
    from lnfast.node.status import exam_status, find_exams, find_study, open_reader
    from lnfast.node.status import status as status_of

    with open_reader(config) as ledger:
        if exam or study:
            row = find_study(config, ledger, study) if study else find_exams(ledger, [exam or ""])[0]
            found = exam_status(ledger, row)
        else:
            found = status_of(config, ledger)
    with streams.printing():
        if as_json:
            click.echo(json.dumps(found, indent=1))
        else:
            from lnfast.cli.show_node import show_exam, show_status

            (show_exam if exam or study else show_status)(found, time.time())
    return 0


@node.command(short_help="Take up again exams that are dead or refused.")
@_config_option(None, "The configuration.")
@click.argument("exams", metavar="[EXAM]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every exam that is dead.")
@choice_options
@click.option("--whole", is_flag=True, help="Every image has come, although the transfer broke off: you made sure.")
@click.option("--send-again", is_flag=True, help="Send the result once more, as it is, to every enabled target.")
@click.pass_obj
def retry(
    group_config: Path,
    /,
    config_path: Path | None,
    exams: tuple[str, ...],
    every: bool,
    send_again: bool,
    whole: bool,
    **choice: Any,
) -> int:
    """Take up again each EXAM (its id, or the beginning of it) that is dead or refused.

    What could not be sent is sent, what could not be run is run. An exam whose transfer broke off must be sent again:
    a part of it could be called N0. A choice of the series is kept with the exam. A node that runs begins within
    seconds, another when it starts.
    """
    choice = {key: value for key, value in choice.items() if value}
    if bool(exams) == every:
        raise click.UsageError("give the ids of exams, or --all" + (" without ids" if every else ""))
    if choice and (every or len(exams) > 1):
        raise click.UsageError("--series, --b-value and --synthetic are said of one exam")
    if whole and (every or send_again):
        raise click.UsageError("--whole is said of exams by their ids, and of those that are to be run")
    if send_again and (choice or every):
        raise click.UsageError("--send-again sends the results of exams as they are: give ids, and no choice of series")
    config = _config(config_path or group_config)
    if config is None:
        return UsageError.exit_code
    with _ledger(config) as ledger:
        from lnfast.node.spool import is_running
        from lnfast.node.status import find_exams

        chosen = ledger.exams("dead") if every else find_exams(ledger, exams)
        when = "" if is_running(config.spool) else " when the node starts"
        targets = [target.name for target in config.enabled_targets]
        for exam in chosen:
            try:
                done = _sent_again(ledger, exam, targets) if send_again else _revived(ledger, exam, choice, whole)
            except UsageError as error:
                if not every or error.code != "exam-not-whole":
                    raise
                click.echo(f"{exam.id}: {error.message}")
                continue
            click.echo(f"{exam.id}: {done}{when}")
        if not chosen:
            click.echo("no exam is dead")
    return 0


@node.command(short_help="Delete what is older than [keep] says.")
@_config_option(None, "The configuration.")
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@click.pass_obj
def purge(group_config: Path, /, config_path: Path | None, dry_run: bool) -> int:
    """Delete exams that were sent, refused or given up longer ago than [keep] says; the node does so each hour.

    What waits to be sent is never deleted.
    """
    config = _config(config_path or group_config)
    if config is None:
        return UsageError.exit_code
    from lnfast.node.spool import Spool, retention

    with _ledger(config) as ledger:
        now = time.time()
        items = retention.expired(ledger, config.keep, now)
        for item in items:
            days = (now - item.since) / retention.DAY_S
            click.echo(f"{item.exam.id}: {item.exam.state} for {days:.1f} days, {item.exam.instances} instances")
        if dry_run:
            click.echo(f"{len(items)} exams would be deleted")
            return 0
        deleted = retention.purge(Spool(config.spool), ledger, items)
        click.echo(f"{deleted} exams are deleted")
    return 0


def _config(path: Path) -> NodeConfig | None:
    """Return the configuration, or print all its problems."""
    from lnfast.node.config import examine_config

    config, problems = examine_config(path)
    for problem in problems:
        streams.log(str(problem))
    return config


def _ledger(config: NodeConfig) -> Ledger:
    from lnfast.node.ledger import Ledger
    from lnfast.node.status import open_reader

    open_reader(config).close()  # makes nothing where there is none
    return Ledger(config.spool / "ledger.sqlite")


def _sent_again(ledger: Ledger, exam: Exam, targets: list[str]) -> str:
    """Queue a result once more, and say so."""
    if not targets:
        raise UsageError("nothing-to-retry", "node.toml has no enabled target")
    ledger.send_again(exam.id, targets)
    return f"is sent again to {', '.join(targets)}"


def _revived(ledger: Ledger, exam: Exam, choice: dict[str, Any], whole: bool) -> str:
    """Take up one exam, and say what will be done with it."""
    ledger.revive(exam.id, choice or None, whole=whole)
    row = ledger.exam(exam.id)
    return "is sent" if row is not None and row.state == "done" else "is run"


def _check(config_path: Path) -> int:
    """Print a line for each thing that was looked at; return 2 for a wrong configuration, 5 for a wrong machine."""
    from lnfast.node.check import check

    codes = set()
    for item in check(config_path):
        with streams.printing():
            click.echo(item.line())
        if item.error is not None and not item.is_warning:
            codes.add(item.error.exit_code)
    if UsageError.exit_code in codes:
        return UsageError.exit_code
    return BackendError.exit_code if codes else 0
