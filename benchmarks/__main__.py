"""``python -m benchmarks [GROUP...] [--quick] [--json FILE] [--plot DIR]``; of such files ``compare OLD NEW`` and
``table FILE...``.

Exit codes: 0 done, 1 a wrong answer or a regression, 2 usage, 4 model refused, 5 a package or backend is missing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.rows import Row, read_json, write_json, wrong
from benchmarks.report import compare
from lnfast.errors import BackendError, LnfastError

# Speed, and what runs only when it is named.
SPEED = ("network", "pipeline", "latency", "throughput", "coldstart", "memory", "scaling", "kernels")
MEASUREMENT = "measurement"
# Groups that are packages of their own.
MODULES = {"kernels": "kernels", MEASUREMENT: MEASUREMENT}
# What starts no process that imports torch and times nobody alone.
QUICK = ("network", "pipeline", "kernels")
# These start from one reference inference.
REFERENCED = ("network", "pipeline")
REPEATS, QUICK_REPEATS = 7, 1
KERNEL_REPEATS, QUICK_KERNEL_REPEATS = 30, 3


class _Program(click.Group):
    """Runs benchmarks unless another command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What is asked of `run_groups` needs no name before it."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])

    def invoke(self, ctx: click.Context) -> Any:
        """Errors as one line and an exit code."""
        try:
            return super().invoke(ctx)
        except LnfastError as error:
            _log(str(error))
            sys.exit(error.exit_code)
        except WrongAnswerError as error:
            _log(f"wrong answer: {error}")
            sys.exit(1)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=_Program)
def main() -> None:
    """Compare lnfast with named peers."""


@main.command("run")
@click.argument("groups", nargs=-1, type=click.Choice((*SPEED, MEASUREMENT)), metavar="[GROUP]...")
@click.option("--quick", is_flag=True, help="One study, fewest runs: for checking answers, not for numbers.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write rows here.")
@click.option("--plot", type=_FOLDER, help="Also draw PNGs into this folder.")
@click.option("--repeat", type=click.IntRange(min=1), help=f"Runs that count: {REPEATS}, of kernels {KERNEL_REPEATS}.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the first phantom.")
@click.option("--threads", type=click.IntRange(min=1), help="For everyone alike; one per core.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Of network.")
@click.option("--model", default="pelvic-ln-edge", show_default=True, help="Shipped name or model folder.")
def run_groups(groups: tuple[str, ...], quick: bool, json_path: Path | None, plot: Path | None, **options: Any) -> None:
    """Compare lnfast with named peers, with the same weights, studies and threads: network, pipeline, latency,
    throughput, coldstart, memory, scaling, kernels (all).

    Answers are compared before anything is timed; a wrong one makes the exit code 1. The group measurement, which runs
    only when it is named, times nothing: it compares each short-axis rule with nodes that are exactly known.

    `python -m benchmarks compare OLD NEW` compares what two runs wrote with --json, and `table FILE...` prints such
    files as Markdown.
    """
    on_gpu = options["device"] == "cuda"
    if on_gpu and set(groups) - {"network"}:
        raise click.UsageError("--device cuda is for the group network")
    chosen = groups or (("network",) if on_gpu else QUICK if quick else SPEED)
    sys.exit(run(chosen, settle(quick, **options), json_path, plot))


@main.command("compare")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option(
    "--threshold",
    type=click.FloatRange(min=1, min_open=True),
    default=compare.THRESHOLD,
    show_default=True,
    help="By how much a ratio may fall.",
)
def compare_files(old: Path, new: Path, threshold: float) -> None:
    """Did lnfast lose ground against its peers from OLD to NEW, two files of --json?

    Ratios are compared, so that another machine does not look like a slowdown. The exit code is 1 when a ratio fell by
    more than the threshold and by more than its runs spread, or an answer has become wrong.
    """
    found = compare.compare_files(read_json(old), read_json(new), threshold)
    _load("report.console").print_comparison(found, threshold)
    sys.exit(1 if found.regressions else 0)


@main.command("table")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--plot", type=_FOLDER, help="Also draw PNGs into this folder.")
def show_files(files: tuple[Path, ...], plot: Path | None) -> None:
    """Print FILEs of --json as Markdown: the rows that a reader wants first."""
    kept = [read_json(file) for file in files]
    table, plots = _load("report.markdown"), _load("report.plots") if plot else None
    click.echo(table.markdown(kept), nl=False)
    if plots:
        rows, tables = [row for one in kept for row in one.rows], {k: v for one in kept for k, v in one.tables.items()}
        plots.draw(rows, tables, plot)


def settle(
    quick: bool,
    *,
    repeat: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    model: str = "pelvic-ln-edge",
) -> Any:
    """The `benchmarks.harness.settings.Settings` that the options ask for.

    Raises:
        BackendError: ``device-missing`` for a GPU that no backend sees.
    """
    from lnfast.backends import candidates
    from lnfast.card import load_model

    if device == "cuda":
        candidates(device="cuda:0")  # asked for before anybody takes minutes
    settings = _load("harness.settings")
    return settings.Settings(
        model=load_model(model),
        threads=threads or _load("harness.environment").usable_cores(),
        repeats=repeat or (QUICK_REPEATS if quick else REPEATS),
        kernel_repeats=repeat or (QUICK_KERNEL_REPEATS if quick else KERNEL_REPEATS),
        warmups=0 if quick else 1,
        seed=settings.DEFAULT_SEED if seed is None else seed,
        device=device,
        quick=quick,
        log=_log,
    )


def run(groups: tuple[str, ...], settings: Any, json_path: Path | None, plot: Path | None = None) -> int:
    """Run the groups, print and keep the rows; the exit code."""
    environment = _load("harness.environment").describe(settings.threads)
    if environment["busy"]:
        _log(f"this machine is busy (load {environment['load_average'][0]}): no number here is final")
    # Everybody's packages are asked for before anybody takes minutes.
    modules = {group: _load(MODULES.get(group, f"groups.{group}")) for group in groups}
    plots = _load("report.plots") if plot else None
    reference = _load("peers.setup").prepare(settings) if modules.keys() & REFERENCED else None
    truth = modules.pop(MEASUREMENT, None)
    found: list[Row] = []
    tables: dict[str, Any] = {}
    for group, module in modules.items():
        made = module.run(settings, reference) if group in REFERENCED else module.run(settings)
        (tables.update if isinstance(made, dict) else found.extend)(made)
    answers = truth.run(settings) if truth else None
    if json_path is not None:
        of_truth = answers.to_tables() if answers else {}
        write_json(json_path, {**environment, **settings.to_dict()}, found, tables | of_truth)
    shown = _load("report.console")
    shown.print_rows(environment, found)
    shown.print_tables(tables)
    if plots:
        plots.draw(found, tables, plot)
    if answers:
        _load("measurement.console").show(answers, plot)
    contradictions = wrong(found)
    for row in contradictions:
        _log(f"wrong answer: {row.bench} {row.study} {row.stage}: {row.subject} against {row.peer}: {row.agreement}")
    return 1 if contradictions else 0


def _load(name: str) -> Any:
    """A module of this package; what it stands on is told when it is missing."""
    try:
        return import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise BackendError(
            "missing-package", f"the benchmarks need {error.name}: pip install 'lnfast[bench]'"
        ) from error


def _log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
