"""``lnfast run``: find and measure the nodes of studies, and write a report of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnfast.cli.contract import contract_option, package_folders, run_mercure
from lnfast.cli.dicom import dicom_options, list_folders
from lnfast.cli.options import OutputFolder, check_output_folder, engine_options, rule_options
from lnfast.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from lnfast.engine import Engine
    from lnfast.report import Report
    from lnfast.result import Result, SegFrames, StudyFailure


@click.command(short_help="Find, outline and measure the lymph nodes of studies.")
@click.argument("studies", metavar="STUDY...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--input",
    "input_folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The same as STUDY, for callers that name it by an option.",
)
@click.option("-o", "--out", metavar="OUT", type=OutputFolder(), help="Folder to write the reports to.  [required]")
@engine_options
@rule_options
@click.option("--html/--no-html", default=True, show_default=True, help="Also write the page report.html.")
@dicom_options
@contract_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object on a line for each study, in the order given."
)
def run(studies: tuple[Path, ...], input_folder: Path | None, out: Path | None, **options: Any) -> int:
    """Find, outline and measure the lymph nodes of each STUDY: a .nii or .nii.gz file, or a folder of DICOM files.

    OUT/<study name>/ gets report.json, report.txt, labels.nii.gz and report.html, a page for a browser that
    also shows the study's slices; of a DICOM study, whose name is a number that tells nothing of the patient, also
    seg.dcm and sr.dcm. A line is printed for each study. A refused study does not stop the others. The report of
    another study of the same name is never overwritten: the study is refused instead.
    """
    contract = options.pop("contract")
    if contract == "mercure":
        click.echo(run_mercure(options))
        return 0
    if contract == "monai":
        studies, out = package_folders()
    elif input_folder is not None:
        studies = (*studies, input_folder)
    if not studies:
        raise click.MissingParameter(param_type="argument", param_hint="'STUDY...'")
    return _run(studies, out, **options)


def _run(
    studies: tuple[Path, ...],
    out: Path | None,
    *,
    short_axis: str,
    suspicious_mm: float,
    series: str | None,
    b_value: float | None,
    synthetic: bool,
    prefer: tuple[str, ...],
    list_only: bool,
    as_json: bool,
    html: bool,
    dicom: bool,
    seg_frames: SegFrames,
    **engine: Any,
) -> int:
    from lnfast.measure import Rules
    from lnfast.study import DicomChoice

    choice = DicomChoice(series, b_value, synthetic, prefer)
    if list_only:
        return list_folders(studies, engine["model"], choice, as_json=as_json)
    if out is None:
        raise click.MissingParameter(param_type="option", param_hint="'-o' / '--out'")
    rules = Rules(short_axis=short_axis, suspicious_mm=suspicious_mm)  # type: ignore[arg-type]  # Rules checks it
    check_output_folder(out)
    with ProgressDisplay(len(studies), "loading the engine") as display, _load(engine, rules) as loaded:
        info = loaded.info
        reason = f" ({loaded.choice})" if loaded.choice else ""
        display.log(f"{info.name} {info.version}, {info.precision} on {info.device}{reason}")
        display.log_cache()
        parts = {"html": html, "dicom": dicom, "seg_frames": seg_frames}
        outcomes = loaded.run_many(studies, out=out, choice=choice, **parts)  # type: ignore[arg-type]
        return _show(outcomes, studies, display, as_json=as_json)


def _load(options: dict[str, Any], rules: Any) -> Engine:
    from lnfast.engine import Engine

    return Engine(**options, rules=rules)


def _show(
    outcomes: Iterator[Result | StudyFailure], studies: tuple[Path, ...], display: ProgressDisplay, *, as_json: bool
) -> int:
    """Print each study as it is done; return the highest exit code."""
    from lnfast.report import distinct_names
    from lnfast.result import StudyFailure
    from lnfast.study import shown

    exit_code = 0
    names = distinct_names(studies)
    display.show(names[0])
    for index, (path, outcome) in enumerate(zip(studies, outcomes, strict=True), start=1):
        printable_path = shown(str(path))
        if isinstance(outcome, StudyFailure):
            exit_code = max(exit_code, outcome.error.exit_code)
            # The message begins with the file's name; in a batch the whole path is needed to tell files apart.
            message = outcome.error.message.removeprefix(f"{shown(path.name)}: ")
            display.log(f"{outcome.error.code}: {printable_path}: {message}")
            if as_json:
                failure = {"code": outcome.error.code, "message": message}
                display.result(json.dumps({"study": str(path), "error": failure}))
        else:
            for notice in (*outcome.warnings, *filter(None, [outcome.page_problem, outcome.dicom_problem])):
                display.log(f"{notice.code}: {printable_path}: {notice.message}")
            assert outcome.folder is not None
            report = outcome.report
            display.result(json.dumps(report.to_dict()) if as_json else _line(report, outcome.folder))
        display.advance(names[index] if index < len(names) else "")
    return exit_code


def _line(report: Report, folder: Path) -> str:
    from lnfast.report.lengths import length_text

    node, size = report.largest, "none"
    if node is not None:
        size = f"{length_text(node.short_axis_mm, report.rules)} mm, {node.volume_mm3 / 1e3:.2f} cm3"
    count = f"{len(report.suspicious)} of {len(report.nodes)} nodes suspicious"
    return f"{report.study.name}: {report.n_stage}, {count}, largest {size}, in {folder}"
