"""``lnfast run``: studies in, a folder of reports out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnfast.backends.registry import AUTO, BACKENDS, PRECISIONS
from lnfast.cli.options import Place, check_place
from lnfast.cli.watch import Watcher

if TYPE_CHECKING:
    from lnfast.engine import Engine
    from lnfast.report import Report


@click.command(short_help="Find, outline and measure the nodes of studies.")
@click.argument("studies", metavar="STUDY...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", metavar="OUT", required=True, type=Place(), help="Folder of results.")
@click.option("--model", default="pelvic-ln-edge", show_default=True, metavar="NAME|DIR", help="Model or engine.")
@click.option(
    "--backend",
    type=click.Choice((AUTO, *BACKENDS)),
    default="auto",
    show_default=True,
    help="Runtime; what is named is used or is an error.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda:N", help="Where the network runs.")
@click.option(
    "--precision",
    type=click.Choice((AUTO, *PRECISIONS)),
    default="auto",
    show_default=True,
    help="Of the network.",
)
@click.option(
    "--short-axis",
    type=click.Choice(["box", "axial", "ellipsoid"]),
    default="box",
    show_default=True,
    help="Short axis that decides: of the minimum-volume box, as drawn on an axial slice, or of the ellipsoid that "
    "spreads as the network's probability does.",
)
@click.option(
    "--suspicious-mm",
    type=float,
    default=8.0,
    show_default=True,
    metavar="MM",
    help="A longer short axis is suspicious.",
)
@click.option("--html/--no-html", default=True, show_default=True, help="Write the page report.html, after the report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each study, in their order.")
def run(
    studies: tuple[Path, ...],
    out: Path,
    short_axis: str,
    suspicious_mm: float,
    html: bool,
    as_json: bool,
    **engine: Any,
) -> int:
    """Find, outline and measure the lymph nodes of each STUDY (.nii or .nii.gz).

    Writes OUT/<study name>/ with report.json, report.txt, labels.nii.gz and report.html, a page for any
    browser that holds the study's slices, and prints a line a study. A study that is refused does not stop
    the others. The report of another study of the same name is kept: that is a refusal too.
    """
    from lnfast.measure import Rules

    rules = Rules(short_axis=short_axis, suspicious_mm=suspicious_mm)  # type: ignore[arg-type]  # Rules checks it
    check_place(out)
    with Watcher(len(studies), "loading the engine") as watcher, _loaded(engine, rules) as loaded:
        info = loaded.info
        why = f" ({loaded.choice})" if loaded.choice else ""
        watcher.log(f"{info.name} {info.version}, {info.precision} on {info.device}{why}")
        watcher.log_cache()
        return _serve(loaded, studies, out, watcher, html=html, as_json=as_json)


def _loaded(wanted: dict[str, Any], rules: Any) -> Engine:
    from lnfast.engine import Engine

    return Engine(**wanted, rules=rules)


def _serve(engine: Engine, studies: tuple[Path, ...], out: Path, watcher: Watcher, *, html: bool, as_json: bool) -> int:
    """Run, write and print each study; the worst exit code seen."""
    from lnfast.report import distinct_names
    from lnfast.result import StudyFailure
    from lnfast.study import shown

    worst = 0
    names = distinct_names(studies)
    watcher.working_on(names[0])
    outcomes = engine.run_many(studies, out=out, html=html)
    for index, (path, name, outcome) in enumerate(zip(studies, names, outcomes, strict=True), start=1):
        where = shown(str(path))
        if isinstance(outcome, StudyFailure):
            worst = max(worst, outcome.error.exit_code)
            # The reader names the file; in a batch it takes the path to know which one.
            message = outcome.error.message.removeprefix(f"{shown(path.name)}: ")
            watcher.log(f"{outcome.error.code}: {where}: {message}")
            if as_json:
                failure = {"code": outcome.error.code, "message": message}
                watcher.result(json.dumps({"study": str(path), "error": failure}))
        else:
            for notice in (*outcome.warnings, *filter(None, [outcome.page_problem])):
                watcher.log(f"{notice.code}: {where}: {notice.message}")
            assert outcome.folder is not None
            report = outcome.report
            watcher.result(json.dumps(report.to_dict()) if as_json else _line(name, report, outcome.folder))
        watcher.done_with_one(names[index] if index < len(names) else "")
    return worst


def _line(name: str, report: Report, folder: Path) -> str:
    from lnfast.report.text import length_text

    big = report.largest
    size = f"{length_text(big.short_axis_mm, report.rules)} mm, {big.volume_mm3 / 1e3:.2f} cm3" if big else "none"
    count = f"{len(report.suspicious)} of {len(report.nodes)} nodes suspicious"
    return f"{name}: {report.n_stage}, {count}, largest {size}, in {folder}"
