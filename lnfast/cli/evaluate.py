"""``lnfast evaluate``: predictions beside truths, every measure of the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnfast.cli import streams
from lnfast.cli.options import Place, check_way
from lnfast.cli.watch import Watcher

if TYPE_CHECKING:
    from lnfast.evaluate.inputs.labelmap import Meaning


@click.command(short_help="Compare predictions with truths: every measure of the paper.")
@click.argument("predictions", metavar="PREDICTIONS", type=click.Path(path_type=Path))
@click.argument("truths", metavar="TRUTHS", type=click.Path(path_type=Path))
@click.option("-o", "--out", metavar="DIR", required=True, type=Place(), help="Folder of results.")
@click.option(
    "--short-axis",
    type=click.Choice(["box", "axial"]),
    default="box",
    show_default=True,
    help="Short axis that decides: of the minimum-volume box, or as drawn on an axial slice.",
)
@click.option(
    "--suspicious-mm",
    type=float,
    default=8.0,
    show_default=True,
    metavar="MM",
    help="A longer short axis is suspicious.",
)
@click.option(
    "--groups",
    metavar="FILE.csv",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Scanner of each study (columns name,group); else as TRUTHS/truth/<name>.json says.",
)
@click.option(
    "--read-as",
    type=click.Choice(["auto", "ids", "mask"]),
    default="auto",
    show_default=True,
    help="What label maps hold, on both sides: ids of nodes, or a mask; auto: a mask where a file has one value.",
)
@click.option(
    "--images",
    metavar="FOLDER",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The studies themselves, for the pictures of the worst; else TRUTHS/imagesTr and imagesTs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what stands in metrics.json, as one line.")
def evaluate(
    predictions: Path,
    truths: Path,
    out: Path,
    short_axis: str,
    suspicious_mm: float,
    groups: Path | None,
    read_as: Meaning,
    images: Path | None,
    as_json: bool,
) -> int:
    """Compare the label maps of PREDICTIONS with those of TRUTHS, by study name.

    Each is a folder of <name>.nii.gz (node ids, or a mask whose connected components are the nodes), of
    what `lnfast run` wrote, or in nnU-Net's raw layout (labelsTr). Writes into DIR evaluation.html, a page
    with the paper's tables and figures and pictures of the ten worst studies; and metrics.json, cases.csv,
    nodes.csv and the figures. Needs the extra: pip install 'lnfast[evaluate]'.
    """
    from lnfast.evaluate.evaluation import evaluate as evaluated
    from lnfast.evaluate.extra import check_all_installed
    from lnfast.evaluate.inputs.pairing import pair_up
    from lnfast.evaluate.output.folder import check_output, write_evaluation
    from lnfast.measure import Rules

    rules = Rules(short_axis=short_axis, suspicious_mm=suspicious_mm)  # type: ignore[arg-type]  # Rules checks it
    check_all_installed()
    check_way(out)
    check_output(out)
    pairing = pair_up(predictions, truths)
    with Watcher(len(pairing.pairs), "reading label maps") as watcher:
        evaluation = evaluated(
            pairing, rules, groups=groups, read_as=read_as, images=images, done_with_one=watcher.done_with_one
        )
        watcher.working_on("statistics, figures and pictures")
        told = write_evaluation(evaluation, out)
        for code, message in evaluation.notes:
            watcher.log(f"{code}: {message}")
    with streams.printing():
        if as_json:
            click.echo(json.dumps(told))
        else:
            from lnfast.cli.scores import show_metrics

            show_metrics(told, out)
    return 0
