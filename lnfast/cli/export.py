"""``lnfast export``: make a certified engine of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnfast.backends.registry import AUTO, PRECISIONS, TARGETS
from lnfast.cli.options import OutputFolder, check_output_path
from lnfast.cli.progress import ProgressDisplay
from lnfast.errors import UsageError

if TYPE_CHECKING:
    from lnfast.card import Model
    from lnfast.export import Attempt, Exported, Request


@click.command(short_help="Make a certified engine of a model.")
@click.argument("model", metavar="MODEL")
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    type=OutputFolder(),
    help="Folder for the engine, for `lnfast run --model` here or elsewhere. Default: the cache of `lnfast run`.",
)
@click.option(
    "--target", type=click.Choice(tuple(TARGETS)), default="openvino", show_default=True, help="Runtime to build for."
)
@click.option(
    "--precision",
    type=click.Choice((AUTO, *PRECISIONS)),
    default="auto",
    show_default=True,
    help="Precision of the network. auto builds each precision that the target runs here, and keeps the fastest that "
    "passes its certificate.",
)
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Device that the engine will run on."
)
@click.option(
    "--calibration",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of your own studies (.nii, .nii.gz) to calibrate and certify on. Default: digital patients.",
)
@click.option(
    "--studies", default=24, show_default=True, help="Number of digital patients that the certificate is measured on."
)
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    metavar="8.6",
    help="Compute capability of a GPU to build for (tensorrt-rtx). May be given several times.",
)
@click.option(
    "--windows/--no-windows",
    default=True,
    show_default=True,
    help="On a CPU, run the network only where the patient is.",
)
@click.option(
    "--card", type=click.Path(path_type=Path), help="card.json of a bare .onnx file. Default: the one beside it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(model: str, out: Path | None, card: Path | None, as_json: bool, **options: Any) -> int:
    """Make a fast engine of MODEL (a shipped model's name, a model or engine folder, or a bare .onnx) and certify it.

    The engine and the network in FP32 are run on the same studies. The engine is written only if no stage
    flips and no suspicious node is lost or added. Its manifest.json holds certificate and hashes. An export
    takes minutes.
    """
    from lnfast.export import Request, export_to_cache, plan_export
    from lnfast.export import export as export_to_folder
    from lnfast.export.forecast import Forecast
    from lnfast.export.source import open_source

    request = Request(**options)
    if out is None and card is not None:
        raise UsageError("no-output", "a bare .onnx has no name to keep its engine under; give -o DIR")
    if out is not None:
        check_output_path(out)
    with ProgressDisplay(1, "looking at the model") as display, open_source(model, card, display.log) as source:
        progress = display.forecasting(Forecast(plan_export(source, request)), _announcement(source, request))
        exported = (
            export_to_cache(source, request, progress)
            if out is None
            else export_to_folder(source, out, request, progress)
        )
    for attempt in exported.attempts:
        display.log(_line(attempt, exported))
    manifest = exported.engine.manifest
    if as_json:
        display.result(json.dumps({"folder": str(exported.engine.folder), "manifest": json.loads(manifest.to_json())}))
        return 0
    if not exported.attempts:
        display.log("this machine has that engine already" + ("" if out is None else ", and this is a copy of it"))
    display.result(
        f"{manifest.target} {manifest.precision} in {exported.engine.folder}: {_certificate_text(manifest.certificate)}"
    )
    return 0


def _announcement(model: Model, request: Request) -> str:
    engine = "the fastest engine" if request.precision == "auto" else f"an engine in {request.precision}"
    studies = f"{request.studies} digital patients" if request.calibration is None else "your own studies"
    return (
        f"making {engine} of {model.card.name} for {request.target} and comparing it with FP32 on {studies}: "
        "that takes minutes, once; how many is said when the first steps have been timed"
    )


def _line(attempt: Attempt, exported: Exported) -> str:
    outcome = "kept" if attempt.precision == exported.engine.manifest.precision else "not kept"
    if attempt.why is not None:
        return f"{attempt.precision}: refused, {attempt.why}"
    time = "" if attempt.infer_ms is None else f", {attempt.infer_ms:.0f} ms a study"
    proof = "not certified here" if attempt.certificate is None else attempt.certificate.text()
    return f"{attempt.precision}: {outcome}{time}; {proof}"


def _certificate_text(certificate: Any) -> str:
    if certificate is None:
        return "NOT certified, for no device here runs it; the first machine that does must export it again"
    flips, suspicious = sum(certificate["stage_flips"].values()), certificate["suspicious"]
    return (
        f"certified on {certificate['studies']} {'study' if certificate['studies'] == 1 else 'studies'} "
        f"({certificate['source']}), {flips} stage flips, {suspicious['lost']} suspicious nodes lost, "
        f"{suspicious['added']} added, worst short axis off by {certificate['short_axis_mm']['max_difference']:.2f} mm"
    )
