"""``python -m training``: cohort, fit, export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lnfast.errors import LnfastError
from training import commands_data


def _seeds(context: click.Context, parameter: click.Parameter, value: str) -> range:
    try:
        first, last = value.split("-")
        return range(int(first), int(last) + 1)
    except ValueError as error:
        raise click.BadParameter("wanted FIRST-LAST, such as 1000-1127") from error


@click.group(help="Train the network on digital phantoms and export it as a model folder.")
def main() -> None:
    pass


commands_data.register(main)


@main.command("cohort", help="Make the phantoms that FOLDER lacks.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seeds", callback=_seeds, default="1000-1191", show_default=True)
def make_cohort(folder: Path, seeds: range) -> None:
    from training.cohort import generate

    for seed in generate(folder, seeds):
        click.echo(f"phantom {seed}", err=True)


@main.command(help="Train to the end of the budget; goes on where RUN stopped.")
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cohort", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--seeds", callback=_seeds, default="1000-1191", show_default=True)
@click.option("--validation", callback=_seeds, default="9000-9011", show_default=True)
@click.option("--start", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Run to go on from.")
@click.option(
    "--mine", type=int, default=96, show_default=True, help="With --start: cases searched for its false nodes."
)
@click.option("--minutes", type=float, help="Wall clock; or give --steps.")
@click.option("--steps", type=int)
@click.option("--snapshot-minutes", type=float, default=8.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--learning-rate", type=float, default=2e-3, show_default=True, help="The highest; less with --start.")
@click.option("--width", type=int, default=8, show_default=True, help="First width of the U-Net; 32 is the paper's.")
@click.option("--bf16/--fp32", default=True, show_default=True, help="FP32 is slower and repeats to the bit.")
def fit(
    run: Path,
    cohort: Path,
    seeds: range,
    validation: range,
    start: Path | None,
    mine: int,
    minutes: float | None,
    steps: int | None,
    snapshot_minutes: float,
    seed: int,
    learning_rate: float,
    width: int,
    bf16: bool,
) -> None:
    from training.fit import FitConfig
    from training.session import Session

    config = FitConfig(seed=seed, width=width, learning_rate=learning_rate, minutes=minutes, steps=steps, bf16=bf16)
    Session(run, cohort, seeds, validation, snapshot_minutes, start=start, mine=mine).fit(config)


@main.command(help="Validate RUN's snapshot at a threshold, which `export` then takes.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--cohort", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--validation", callback=_seeds, default="9000-9011", show_default=True)
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5, show_default=True)
def validate(run: Path, cohort: Path, validation: range, threshold: float) -> None:
    import json

    from training.session import validate_again

    click.echo(json.dumps(validate_again(run, cohort, validation, threshold)))


@main.command(help="Write a model folder from RUN's snapshot; fails unless ONNX Runtime agrees with torch.")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True)
@click.option("--name", default="pelvic-ln-edge", show_default=True)
@click.option("--version", default="0.1.0", show_default=True)
def export(run: Path, out: Path, name: str, version: str) -> None:
    from training.export import ExportConfig, export_folder

    export_folder(run, out, ExportConfig(name, version))


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except LnfastError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
