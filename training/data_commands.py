"""``python -m training check | split | consensus``: the commands for data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnfast.errors import UsageError

if TYPE_CHECKING:
    from training.data.check import Findings
    from training.readers.agreement import ReaderAgreement

REFUSED_EXIT_CODE = 3  # as for a study that is refused

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def register(group: click.Group) -> None:
    """Add these commands to the program."""
    for command in (check, split, consensus):
        group.add_command(command)


@click.command(help="Read every case of FOLDER and list every bad one; the exit code is 3 when there is any.")
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def check(context: click.Context, folder: Path, as_json: bool) -> None:
    from training.data.check import examine
    from training.recipe.card import draft_card

    with _Bar("reading") as bar:
        findings = examine(folder, draft_card(), progress=bar)
    if as_json:
        click.echo(json.dumps(findings.to_dict(), indent=1))
    else:
        _show(findings)
    if findings.problems:
        context.exit(REFUSED_EXIT_CODE)


@click.command(help="Split the cases of FOLDER 8:1:1 by patient, and write the split to a file.")
@click.argument("folder", type=_FOLDER)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=int, default=1, show_default=True)
def split(folder: Path, out: Path, seed: int) -> None:
    from training.data.nnunet_raw import open_cases
    from training.data.split import split_cases, write_split

    if out.exists():
        raise UsageError("output-exists", f"{out} is there, and a split in use is not drawn again; give another -o")
    split = split_cases(open_cases(folder), seed)
    write_split(out, split)
    click.echo(f"{out}: {len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test")


@click.command(help="Merge the label maps of several READERS into one set (STAPLE), and compare the readers.")
@click.argument("readers", nargs=-1, required=True, type=_FOLDER)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def consensus(readers: tuple[Path, ...], out: Path) -> None:
    from training.readers.consensus import make_consensus, open_readers

    with _Bar("comparing") as bar:
        written = make_consensus(open_readers(readers), out, progress=bar)
    for code, message in written.warnings:
        click.echo(f"{code}: {message}", err=True)
    _show_readers(written.agreements)


class _Bar:
    """A progress bar on a terminal; called with each case's name and the number of cases."""

    def __init__(self, doing: str) -> None:
        from lnfast.cli.progress import ProgressDisplay

        self._doing, self._open = doing, ProgressDisplay
        self._watcher: ProgressDisplay | None = None

    def __enter__(self) -> _Bar:
        return self

    def __call__(self, name: str, cases: int) -> None:
        if self._watcher is None:
            self._watcher = self._open(cases, self._doing).__enter__()
        else:
            self._watcher.advance(name)
        self._watcher.show(name)

    def __exit__(self, *of_error: object) -> None:
        if self._watcher is not None:
            self._watcher.__exit__(None, None, None)


def _show(findings: Findings) -> None:
    from lnfast.cli.console import stdout, table

    for problem in findings.problems:
        click.echo(f"problem  {problem}")
    for note in findings.notes:
        click.echo(f"note     {note}")
    content = findings.to_dict()
    console = stdout()
    rows = table(console, "what", "found", right=("found",))
    for name in ("cases", "patients", "nodes", "suspicious", "without_nodes"):
        rows.add_row(name.replace("_", " "), str(content[name]))
    for name in ("spacing", "field"):
        rows.add_row(f"{name} x y z, mm", _range_text(content[f"{name}_zyx_mm"]))
    for protocol, count in content["protocols"].items():
        rows.add_row(protocol, str(count))
    rows.add_row("problems", str(len(findings.problems)))
    rows.add_row("notes", str(len(findings.notes)))
    console.print(rows)


def _range_text(ranges: Sequence[tuple[float, float]] | None) -> str:
    """``1.5-2 1.5-2 6-7`` of ranges along z, y and x."""
    texts = [(f"{low:.3g}", f"{high:.3g}") for low, high in reversed(ranges or ())]
    return "  ".join(low if low == high else f"{low}-{high}" for low, high in texts) or "-"


def _show_readers(rows: Sequence[ReaderAgreement]) -> None:
    from lnfast.cli.console import stdout, table
    from training.readers.agreement import summarize

    console = stdout()
    columns = table(console, "readers", "cases", "Dice", "nodes", "shared", right=("cases", "Dice", "nodes", "shared"))
    for pair in summarize(rows):
        mean = "-" if pair.dice_mean is None else f"{pair.dice_mean:.2f}"
        spread = "" if pair.dice_sd is None else f" +- {pair.dice_sd:.2f}"
        columns.add_row(
            f"{pair.first} vs. {pair.second}",
            str(pair.cases - pair.undefined),
            mean + spread,
            f"{pair.nodes_first} / {pair.nodes_second}",
            f"{pair.shared_first} / {pair.shared_second}",
        )
    console.print(columns)
