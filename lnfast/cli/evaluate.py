"""``lnfast evaluate``: predictions against truths, with every measure of the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnfast.cli import streams
from lnfast.cli.options import OutputFolder, check_output_path
from lnfast.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from lnfast.evaluate.inputs.labelmap import Meaning


@click.command(short_help="Compare predictions with truths by every measure of the paper.")
@click.argument("predictions", metavar="PREDICTIONS", type=click.Path(path_type=Path))
@click.argument("truths", metavar="TRUTHS", type=click.Path(path_type=Path))
@click.option("-o", "--out", metavar="DIR", required=True, type=OutputFolder(), help="Folder to write the results to.")
@click.option(
    "--short-axis",
    type=click.Choice(["box", "axial"]),
    default="box",
    show_default=True,
    help="Rule for the short axis: shortest edge of the minimum-volume box, or short diameter on an axial slice.",
)
@click.option(
    "--suspicious-mm",
    type=float,
    default=8.0,
    show_default=True,
    metavar="MM",
    help="A node with a longer short axis is suspicious.",
)
@click.option(
    "--groups",
    metavar="FILE.csv",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Scanner of each study, in the columns name and group. Default: from TRUTHS/truth/<name>.json.",
)
@click.option(
    "--read-as",
    type=click.Choice(["auto", "ids", "mask"]),
    default="auto",
    show_default=True,
    help="Content of the label maps on both sides: node ids, or a mask. auto: a mask where a file has a single value.",
)
@click.option(
    "--images",
    metavar="FOLDER",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the studies' images, for pictures of the worst studies. Default: TRUTHS/imagesTr and imagesTs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the content of metrics.json on one line.")
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

    Each is a folder of label maps <name>.nii.gz (node ids, or a mask whose connected components are the
    nodes), the output folder of `lnfast run`, or a folder in nnU-Net's raw layout (labelsTr); or it holds
    DICOM Segmentations (BINARY, each segment a node), whose study is the one that `lnfast run` gives to the
    series they were drawn on. DIR gets evaluation.html, a page with the paper's tables and figures and
    pictures of the ten worst studies, and metrics.json, cases.csv, nodes.csv and the figures. Needs the
    extra: pip install 'lnfast[evaluate]', and for Segmentations 'lnfast[dicom]'.
    """
    from lnfast.evaluate.evaluation import evaluate as evaluate_pairing
    from lnfast.evaluate.inputs.pairing import pair_up
    from lnfast.evaluate.output.folder import check_output, write_evaluation
    from lnfast.evaluate.packages import check_all_installed
    from lnfast.measure import Rules

    rules = Rules(short_axis=short_axis, suspicious_mm=suspicious_mm)  # type: ignore[arg-type]  # Rules checks it
    check_all_installed()
    check_output_path(out)
    check_output(out)
    pairing = pair_up(predictions, truths)
    with ProgressDisplay(len(pairing.pairs), "reading label maps") as display:
        evaluation = evaluate_pairing(
            pairing, rules, groups=groups, read_as=read_as, images=images, progress=display.advance
        )
        display.show("statistics, figures and pictures")
        content = write_evaluation(evaluation, out)
        for code, message in evaluation.notes:
            display.log(f"{code}: {message}")
    with streams.printing():
        if as_json:
            click.echo(json.dumps(content))
        else:
            from lnfast.cli.show_evaluation import show_metrics

            show_metrics(content, out)
    return 0
