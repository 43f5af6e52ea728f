"""``lnfast export``: a model in, a certified engine out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnfast.backends.registry import AUTO, PRECISIONS, TARGETS
from lnfast.cli.options import Place, check_way
from lnfast.cli.watch import Watcher
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
    type=Place(),
    help="Folder of the engine, to be carried and given to run --model; without it the engine is kept where run looks.",
)
@click.option("--target", type=click.Choice(tuple(TARGETS)), default="openvino", show_default=True, help="Runtime.")
@click.option(
    "--precision",
    type=click.Choice((AUTO, *PRECISIONS)),
    default="auto",
    show_default=True,
    help="Of the network; auto makes all that the target runs here and keeps the fastest that is as good as FP32.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where it shall run.")
@click.option(
    "--calibration",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Your own studies (.nii, .nii.gz) to calibrate and certify on; digital patients without it.",
)
@click.option("--studies", default=24, show_default=True, help="Digital patients that the certificate rests on.")
@click.option(
    "--capability", "capabilities", multiple=True, metavar="8.6", help="GPU to build for (tensorrt-rtx); repeatable."
)
@click.option("--windows/--no-windows", default=True, show_default=True, help="Leave air out where a CPU runs it.")
@click.option("--card", type=click.Path(path_type=Path), help="card.json of a bare .onnx; the one beside it without.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(model: str, out: Path | None, card: Path | None, as_json: bool, **wanted: Any) -> int:
    """Make a fast engine of MODEL (a shipped name, a model or engine folder, or a bare .onnx) and prove it.

    The engine and FP32 find the nodes of the same studies. It is written only where no stage flips and no
    suspicious node is lost or added; certificate and hashes stand in its manifest.json. Takes minutes, once.
    """
    from lnfast.export import Request, export_to_cache, plan_export
    from lnfast.export import export as make
    from lnfast.export.forecast import Forecast
    from lnfast.export.source import open_source

    request = Request(**wanted)
    if out is None and card is not None:
        raise UsageError("no-output", "a bare .onnx has no name to keep its engine under; give -o DIR")
    if out is not None:
        check_way(out)
    with Watcher(1, "looking at the model") as watcher, open_source(model, card, watcher.log) as source:
        say = watcher.steps(Forecast(plan_export(source, request)), _announced(source, request))
        exported = export_to_cache(source, request, say) if out is None else make(source, out, request, say)
    for attempt in exported.attempts:
        watcher.log(_line(attempt, exported))
    told = exported.engine.manifest
    if as_json:
        watcher.result(json.dumps({"folder": str(exported.engine.folder), "manifest": json.loads(told.to_json())}))
        return 0
    if not exported.attempts:
        watcher.log("this machine has that engine already" + ("" if out is None else ", and this is a copy of it"))
    watcher.result(f"{told.target} {told.precision} in {exported.engine.folder}: {_proof(told.certificate)}")
    return 0


def _announced(model: Model, request: Request) -> str:
    """What will happen, said before it does."""
    what = "the fastest engine" if request.precision == "auto" else f"an engine in {request.precision}"
    judges = f"{request.studies} digital patients" if request.calibration is None else "your own studies"
    return (
        f"making {what} of {model.card.name} for {request.target} and comparing it with FP32 on {judges}: that takes "
        "minutes, once; how many is said when the first steps have been timed"
    )


def _line(attempt: Attempt, exported: Exported) -> str:
    kept = "kept" if attempt.precision == exported.engine.manifest.precision else "not kept"
    if attempt.why is not None:
        return f"{attempt.precision}: refused, {attempt.why}"
    time = "" if attempt.infer_ms is None else f", {attempt.infer_ms:.0f} ms a study"
    proof = "not certified here" if attempt.certificate is None else attempt.certificate.text()
    return f"{attempt.precision}: {kept}{time}; {proof}"


def _proof(certificate: Any) -> str:
    if certificate is None:
        return "NOT certified, for no device here runs it; the first machine that does must export it again"
    flips, marked = sum(certificate["stage_flips"].values()), certificate["suspicious"]
    return (
        f"certified on {certificate['studies']} {'study' if certificate['studies'] == 1 else 'studies'} "
        f"({certificate['source']}), {flips} stage flips, {marked['lost']} suspicious nodes lost, "
        f"{marked['added']} added, worst short axis off by {certificate['short_axis_mm']['max_difference']:.2f} mm"
    )
