"""``python -m benchmarks [GROUP...] [--quick] [--json FILE] [--plot DIR]``, and for such files ``compare OLD NEW`` and
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
from benchmarks.harness.rows import Row, read_json, write_json, wrong_rows
from benchmarks.report import compare
from lnfast.errors import LnfastError
from lnfast.optional import Package

# The default groups, and a group that runs only when it is named.
SPEED = ("network", "pipeline", "latency", "throughput", "coldstart", "memory", "scaling", "kernels")
MEASUREMENT = "measurement"
# Runs only when it is named too: it takes a quarter of an hour, and DCMTK.
NODE, COHORT = "node", "cohort"
# Groups that are packages of their own.
MODULES = {"kernels": "kernels", MEASUREMENT: MEASUREMENT, NODE: NODE}
# Groups that start no process that imports torch and that compare with peers.
QUICK = ("network", "pipeline", "kernels")
# Groups that start from `benchmarks.peers.setup.PeerSetup`.
WITH_SETUP = frozenset(("network", "pipeline"))
REPEATS, QUICK_REPEATS = 7, 1
KERNEL_REPEATS, QUICK_KERNEL_REPEATS = 30, 3


class _DefaultRunGroup(click.Group):
    """A group of commands whose default command is ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert ``run`` where the first argument names no command."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])

    def invoke(self, ctx: click.Context) -> Any:
        """Turn errors into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except LnfastError as error:
            _print_progress(str(error))
            sys.exit(error.exit_code)
        except WrongAnswerError as error:
            _print_progress(f"wrong answer: {error}")
            sys.exit(1)


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=_DefaultRunGroup)
def main() -> None:
    """Compare lnfast with named peers."""


@main.command("run")
@click.argument("groups", nargs=-1, type=click.Choice((*SPEED, NODE, COHORT, MEASUREMENT)), metavar="[GROUP]...")
@click.option("--quick", is_flag=True, help="One study and the fewest runs: checks answers, does not measure.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the rows to this file."
)
@click.option("--plot", type=_FOLDER, help="Also draw PNGs into this folder.")
@click.option(
    "--repeat", type=click.IntRange(min=1), help=f"Measured runs; {REPEATS}, of kernels {KERNEL_REPEATS}, by default."
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the first phantom.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of lnfast and of every peer; one per core by default."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Device of the group network.",
)
@click.option(
    "--model", default="pelvic-ln-edge", show_default=True, help="Name of a shipped model, or a model folder."
)
def run_groups(groups: tuple[str, ...], quick: bool, json_path: Path | None, plot: Path | None, **options: Any) -> None:
    """Compare lnfast with named peers on the same weights, studies and threads. The groups are network, pipeline,
    latency, throughput, coldstart, memory, scaling and kernels; all of them by default.

    Answers are compared before anything is timed; a wrong one makes the exit code 1. Two groups run only when they are
    named: measurement, which times nothing, compares each short-axis rule with nodes that are exactly known; node
    sends 1000 exams through `lnfast node` with DCMTK; cohort measures what the schedule of `lnfast cohort` costs.

    `python -m benchmarks compare OLD NEW` compares what two runs wrote with --json, and `table FILE...` prints such
    files as Markdown.
    """
    on_gpu = options["device"] == "cuda"
    if on_gpu and set(groups) - {"network"}:
        raise click.UsageError("--device cuda is for the group network")
    chosen = groups or (("network",) if on_gpu else QUICK if quick else SPEED)
    sys.exit(measure(chosen, make_settings(quick, **options), json_path, plot))


@main.command("compare")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option(
    "--threshold",
    type=click.FloatRange(min=1, min_open=True),
    default=compare.THRESHOLD,
    show_default=True,
    help="Factor by which a ratio may fall.",
)
def compare_files(old: Path, new: Path, threshold: float) -> None:
    """Compare two files of --json: did lnfast lose ground against its peers from OLD to NEW?

    Ratios are compared, so that another machine does not look like a slowdown. The exit code is 1 when a ratio fell by
    more than the threshold and by more than its runs spread, or an answer has become wrong.
    """
    comparison = compare.compare_files(read_json(old), read_json(new), threshold)
    _load("report.console").print_comparison(comparison, threshold)
    sys.exit(1 if comparison.regressions else 0)


@main.command("table")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--plot", type=_FOLDER, help="Also draw PNGs into this folder.")
def show_files(files: tuple[Path, ...], plot: Path | None) -> None:
    """Print the most important rows of FILEs of --json as Markdown."""
    contents = [read_json(file) for file in files]
    markdown, plots = _load("report.markdown"), _load("report.plots") if plot else None
    click.echo(markdown.render_markdown(contents), nl=False)
    if plots:
        rows = [row for content in contents for row in content.rows]
        tables = {name: table for content in contents for name, table in content.tables.items()}
        plots.draw(rows, tables, plot)


def make_settings(
    quick: bool,
    *,
    repeat: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    device: str = "cpu",
    model: str = "pelvic-ln-edge",
) -> Any:
    """Return the `benchmarks.harness.settings.Settings` of the options.

    Raises:
        BackendError: ``device-missing`` for a GPU that no backend sees.
    """
    from lnfast.backends import candidates
    from lnfast.card import load_model

    if device == "cuda":
        candidates(device="cuda:0")  # fails before anything takes minutes
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
        progress=_print_progress,
    )


def measure(groups: tuple[str, ...], settings: Any, json_path: Path | None, plot: Path | None = None) -> int:
    """Measure the groups, print and write the rows; return the exit code."""
    environment = _load("harness.environment").describe_environment(settings.threads)
    if environment["busy"]:
        _print_progress(f"this machine is busy (load {environment['load_average'][0]}): no number here is final")
    # A missing package of any group is an error before anything takes minutes.
    modules = {group: _load(MODULES.get(group, f"groups.{group}")) for group in groups}
    plots = _load("report.plots") if plot else None
    setup = _load("peers.setup").prepare_peers(settings) if modules.keys() & WITH_SETUP else None
    measurement = modules.pop(MEASUREMENT, None)
    rows: list[Row] = []
    tables: dict[str, Any] = {}
    for group, module in modules.items():
        result = module.run(settings, setup) if group in WITH_SETUP else module.run(settings)
        parts = result if isinstance(result, tuple) else (result,)  # a group has rows, tables, or both
        for part in parts:
            if isinstance(part, dict):
                tables.update(part)
            else:
                rows.extend(part)
    accuracy = measurement.run(settings) if measurement else None
    if json_path is not None:
        accuracy_tables = accuracy.to_tables() if accuracy else {}
        write_json(json_path, {**environment, **settings.to_dict()}, rows, tables | accuracy_tables)
    console = _load("report.console")
    console.print_rows(environment, rows)
    console.print_tables(tables)
    if plots:
        plots.draw(rows, tables, plot)
    if accuracy:
        _load("measurement.console").show(accuracy, plot)
    wrong = wrong_rows(rows)
    for row in wrong:
        name = f"{row.bench} {row.study} {row.stage}: {row.subject} against {row.peer}"
        _print_progress(f"wrong answer: {name}: {row.agreement}")
    return 1 if wrong else 0


def _load(name: str) -> Any:
    """Import a module of this package.

    Raises:
        BackendError: ``backend-missing`` for a package of the extra ``bench``.
    """
    try:
        return import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        Package("python -m benchmarks", package, (package,), "bench").check_installed()
        raise


def _print_progress(message: str) -> None:
    click.echo(message, err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
