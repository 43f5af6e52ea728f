"""``python -m training``: training, validation, and export of a model folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnfast.errors import BackendError
from training import data_commands

if TYPE_CHECKING:
    from training.recipe.presets import NetworkName


def _seeds(context: click.Context, parameter: click.Parameter, value: str | None) -> range | None:
    if value is None:
        return None
    try:
        first, last = value.split("-")
        return range(int(first), int(last) + 1)
    except ValueError as error:
        raise click.BadParameter("wanted FIRST-LAST, such as 1000-1127") from error


@click.group(help="Train the network on phantoms or your own studies, validate it, and export it as a model folder.")
def main() -> None:
    pass


data_commands.register(main)


_PATH = click.Path(path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_CACHE = click.option(
    "--cache", type=_FOLDER, help="Folder of phantoms that were made before.  [default: phantoms, beside RUN]"
)


_REAL = click.option(
    "--real",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of real scans with visible.json: count which of the visible nodes are marked.",
)


@main.command("cohort", help="Make the phantoms of some seeds that are missing in CACHE.")
@click.argument("cache", type=_FOLDER)
@click.option("--seeds", callback=_seeds, default="1000-1191", show_default=True, help="FIRST-LAST.")
def make_cohort(cache: Path, seeds: range) -> None:
    from training.data.phantom_cache import cache_folder, make_phantoms

    for seed in make_phantoms(cache_folder(cache), seeds):
        click.echo(f"phantom {seed}", err=True)


@main.command(help="Train until the budget is used; resumes an interrupted RUN.  [default of RUN: runs/PRESET]")
@click.argument("run", type=_FOLDER, required=False)
@click.option(
    "--preset",
    "name",
    type=click.Choice(["edge", "paper"]),
    default="edge",
    show_default=True,
    help="Network, loss, augmentation and schedule.",
)
@click.option(
    "--network",
    type=click.Choice(["edgenet", "unet", "enet"]),
    help="Another network in the place of the preset's, to compare the two.",
)
@click.option("--quick", is_flag=True, help="Run every step once with a tiny network, in less than a minute.")
@click.option(
    "--phantoms", callback=_seeds, metavar="FIRST-LAST", help="Train on phantoms of these seeds, such as 1000-1511."
)
@click.option("--data", type=_FOLDER, help="Train on studies in nnU-Net's raw layout instead.")
@click.option(
    "--validation",
    callback=_seeds,
    metavar="FIRST-LAST",
    help="Validate on phantoms of these seeds.  [default: 9000-9011]",
)
@_CACHE
@click.option("--start", type=_PATH, metavar="NAME|RUN|FILE", help="Weights to start from, such as pelvic-ln-edge.")
@click.option(
    "--decoder-only",
    type=click.IntRange(0, 3),
    metavar="LEVELS",
    help="With --start: train only the head and so many of the decoder's finest levels; all else stays as it is.",
)
@click.option("--teacher", type=_FOLDER, help="Run whose probabilities are a second truth.")
@_REAL
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Budget in minutes.")
@click.option("--steps", type=click.IntRange(1), help="Budget in optimizer steps.")
@click.option("--epochs", type=click.IntRange(1), help="Budget in epochs.  [default: the preset's]")
@click.option("--exact", is_flag=True, help="FP32 on one CPU thread, so that the run is reproducible to the bit.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Decides initial weights and batches."
)
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Device to train on.",
)
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, help="Number of devices.")
@click.option(
    "--precision", type=click.Choice(["32", "bf16", "16"]), help="Bits of floating point.  [default: the preset's]"
)
def fit(
    run: Path | None,
    name: str,
    network: NetworkName | None,
    quick: bool,
    phantoms: range | None,
    data: Path | None,
    validation: range | None,
    cache: Path | None,
    precision: str | None,
    **options: Any,
) -> None:
    from training.fit.run import RunConfig
    from training.fit.run import fit as fit_run
    from training.fit.sources import SourceOptions, source_of
    from training.recipe.presets import Precision, preset

    precisions: dict[str | None, Precision | None] = {
        None: None,
        "32": "32-true",
        "bf16": "bf16-mixed",
        "16": "16-mixed",
    }
    run = run or Path("runs") / (f"{name}-quick" if quick else name)
    config = RunConfig(preset(name, quick=quick, network=network), precision=precisions[precision], **options)
    complete = config.minutes is None or config.preset.epoch_steps is None or config.devices > 1
    cases = SourceOptions(phantoms, data, validation, cache, config.seed, quick, complete)
    fit_run(run, config, source_of(run, cases))
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of several devices the first prints
        click.echo(f"{run}: done; `python -m training export {run} -o MODEL` makes the model folder", err=True)


@main.command(help="Validate the weights of RUN at a threshold and a peak, which `export` then uses.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--data",
    type=_FOLDER,
    help="Folder of the run's own studies: use the validation part of RUN/split.json.",
)
@click.option(
    "--validation", callback=_seeds, metavar="FIRST-LAST", help="Use phantoms of these seeds.  [default: 9000-9011]"
)
@_CACHE
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Probability from which a voxel is node.",
)
@click.option(
    "--peak",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Probability that a node must exceed somewhere, or it is dropped.  [default: the threshold]",
)
@_REAL
def validate(
    run: Path,
    data: Path | None,
    cache: Path | None,
    validation: range | None,
    threshold: float,
    peak: float | None,
    real: Path | None,
) -> None:
    import json

    from training.release.revalidate import validate_run

    summary = validate_run(run, threshold, peak=peak, data=data, seeds=validation, cache=cache, real=real)
    click.echo(json.dumps(summary))


@main.command(help="Write a run OUT whose weights are the mean of others', and measure its batch statistics anew.")
@click.argument("out", type=_FOLDER)
@click.argument("weights", type=_PATH, nargs=-1, required=True, metavar="NAME|RUN|FILE...")
@click.option("--shares", help="Relative share of each, such as 1,2.  [default: equal shares]")
@click.option(
    "--phantoms",
    callback=_seeds,
    default="1000-1255",
    show_default=True,
    help="Seeds of the phantoms that batch statistics are measured on.",
)
@click.option(
    "--batches",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="How many batches to measure them on; of 0 they are the mean as well.",
)
@_CACHE
def average(
    out: Path, weights: tuple[Path, ...], shares: str | None, phantoms: range, batches: int, cache: Path | None
) -> None:
    from training.release.average import average as average_runs

    try:
        counts = [float(share) for share in shares.split(",")] if shares else [1.0] * len(weights)
    except ValueError as error:
        raise click.BadParameter("wanted numbers, such as 1,2", param_hint="--shares") from error
    average_runs(out, weights, counts, seeds=phantoms, cache=cache or out.parent / "phantoms", batches=batches)


@main.command(help="Write a model folder from the weights of RUN; fails unless ONNX Runtime agrees with torch.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
@click.option("--name", default="pelvic-ln-edge", show_default=True)
@click.option("--version", default="0.1.0", show_default=True)
def export(run: Path, out: Path, name: str, version: str) -> None:
    from training.release.export import ExportConfig, export_folder

    export_folder(run, out, ExportConfig(name, version))


@main.command(help="Write the weights of RUN as a file of half the size, for `fit --start`.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def weights(run: Path, out: Path) -> None:
    from training.release.export import export_weights

    export_weights(run, out)


@main.command(help="Evaluate a model on the 77 hold-out phantoms, and print every measure beside the paper's.")
@click.argument("out", type=_FOLDER)
@click.option("--model", default="pelvic-ln-edge", show_default=True, metavar="NAME|DIR")
@click.option("--realistic", is_flag=True, help="Take the realistic phantom, which is nearer to people.")
@click.option("--record", is_flag=True, help="Write the figures into the model's card; --model must be a folder.")
def holdout(out: Path, model: str, realistic: bool, record: bool) -> None:
    from lnfast.cli.show_evaluation import show_metrics
    from training.release.holdout import evaluation_folder, run_holdout

    metrics = run_holdout(out, model, lambda line: click.echo(line, err=True), record=record, realistic=realistic)
    show_metrics(metrics, evaluation_folder(out, realistic=realistic))


def run() -> int:
    """Run the program, print an error as one line as `lnfast.cli` does, and return the exit code."""
    from lnfast.cli.exit_status import exit_status
    from training.fit.interrupt import StoppedError

    # PyTorch reads it while it is loaded. A thread that spins while it waits takes the core from the one
    # that makes the next batch; if it sleeps, two cores make 1.3 times the steps.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of several devices the first prints
    try:
        code: int | None = main(standalone_mode=False)
    except StoppedError as stopped:
        if first:
            click.echo("stopped and saved: the same command goes on from here", err=True)
        return 128 + stopped.signal
    except BaseException as error:
        if os.environ.get("LNFAST_DEBUG"):
            import traceback

            traceback.print_exc()
        code, line = exit_status(_out_of_memory(error) or error)
        if line:
            click.echo(line, err=True)
    return code or 0


def _out_of_memory(error: BaseException) -> BackendError | None:
    """Return the error for CUDA's lack of memory; None for any other error."""
    if type(error).__name__ != "OutOfMemoryError":
        return None
    return BackendError(
        "out-of-memory", "the device has too little memory for this preset; free it, or take more --devices"
    )


if __name__ == "__main__":
    sys.exit(run())
