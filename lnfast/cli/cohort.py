"""``lnfast cohort``: run many studies on Ray, on this machine or on a cluster."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from lnfast.cli.dicom import dicom_options
from lnfast.cli.options import OutputFolder, check_output_folder, engine_options, rule_options
from lnfast.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from lnfast.cluster import CohortSummary
    from lnfast.cluster.inputs import Entry
    from lnfast.cluster.messages import Outcome
    from lnfast.result import SegFrames

_LINE_EVERY_S = 30.0  # of progress, in a log


@click.command(short_help="Run a cohort of studies on a Ray cluster, with tables of all of them.")
@click.argument("studies", metavar="STUDIES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", metavar="OUT", type=OutputFolder(), required=True, help="Folder to write to.")
@click.option(
    "--address",
    default="local",
    show_default=True,
    metavar="local|auto|HOST:PORT|ray://HOST:PORT",
    help="Cluster: one that is started here and ends with the command, the one that runs here, the head of one, or its "
    "client server.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Engines that work at once; as many as have room by default."
)
@click.option(
    "--cpus-per-worker", "cpus", type=click.IntRange(min=1), default=1, show_default=True, help="Cores of each engine."
)
@click.option(
    "--gpus-per-worker",
    "gpus",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="GPUs of each engine; 0.5 lets two share one.",
)
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Leave alone what is complete under the same model, engine and rules, or run all studies again.",
)
@click.option(
    "--study-timeout",
    "study_minutes",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="MINUTES",
    help="A study that takes longer hangs: its worker is ended. 0 for never.",
)
@engine_options
@rule_options
@click.option("--html/--no-html", default=True, show_default=True, help="Also write the page report.html.")
@partial(dicom_options, listing=False)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object.")
def cohort(
    studies: tuple[Path, ...],
    out: Path,
    short_axis: str,
    suspicious_mm: float,
    series: str | None,
    b_value: float | None,
    synthetic: bool,
    prefer: tuple[str, ...],
    html: bool,
    dicom: bool,
    seg_frames: SegFrames,
    study_minutes: float,
    as_json: bool,
    **options: Any,
) -> int:
    """Run a cohort of studies on a Ray cluster: on this machine, or on many that share OUT.

    Each of STUDIES is a .nii or .nii.gz file; a folder, in which every such file is a study and every folder of
    DICOM files is one; or a manifest, a .csv or .parquet file with a column path, for the names of the folders a
    column study, and others to be carried along. Paths in a manifest are relative to it.

    OUT/<study name>/ gets the same as from lnfast run. OUT/studies.parquet and nodes.parquet, and both as .csv, get
    a row for each study and each node. A refused study, or one that ends its worker twice (worker-died), is a row
    with its code and does not stop the others. After an interruption or a crash the same command goes on with what
    is missing.
    """
    from lnfast.cluster import CohortRequest, run_cohort
    from lnfast.measure import Rules
    from lnfast.result import Parts
    from lnfast.study import DicomChoice

    check_output_folder(out)
    request = CohortRequest(
        studies=studies,
        out=out,
        rules=Rules(short_axis=short_axis, suspicious_mm=suspicious_mm),  # type: ignore[arg-type]  # Rules checks it
        choice=DicomChoice(series, b_value, synthetic, prefer),
        parts=Parts(html, dicom, seg_frames),
        study_minutes=study_minutes or math.inf,
        **options,
    )
    with ProgressDisplay(1, "listing studies") as display:
        summary = run_cohort(request, _Lines(display))
        display.result(json.dumps(_facts(summary, out)) if as_json else _line(summary, out))
    return summary.exit_code


class _Lines:
    """A `lnfast.cluster.Display`: a line of progress, and one for each refusal and warning."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display
        self._last_s = monotonic()

    def log(self, line: str) -> None:
        """Show a line."""
        self._display.log(line)

    def ended(self, entry: Entry, outcome: Outcome, summary: CohortSummary) -> None:
        """Show a refusal, and how far the cohort is; the warnings of reports are in the tables."""
        from lnfast.study import shown

        path = shown(entry.given)
        if outcome.refusal is not None:
            message = outcome.refusal.message.removeprefix(f"{shown(Path(entry.path).name)}: ")
            self._display.log(f"{outcome.refusal.code}: {path}: {message}")
        for code, message in outcome.notices:
            self._display.log(f"{code}: {path}: {message}")
        line = progress_line(summary)
        self._display.show(line)
        if not self._display.on_terminal and monotonic() - self._last_s >= _LINE_EVERY_S:
            self._last_s = monotonic()
            self._display.log(line)


def progress_line(summary: CohortSummary) -> str:
    """Return how far a cohort is: done, refused, per hour, remaining."""
    rate = summary.per_hour
    left = f", {_duration(summary.remaining * 3600 / rate)}" if rate > 0 else ""
    return f"{summary.done} done, {summary.refused} refused, {rate:.0f} per hour, {summary.remaining} remaining{left}"


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.0f} h"


def _line(summary: CohortSummary, out: Path) -> str:
    earlier = f" ({summary.resumed} from before)" if summary.resumed else ""
    stages = "".join(f", {count} {stage}" for stage, count in sorted(summary.stages.items()))
    codes = "".join(f", {count} {code}" for code, count in sorted(summary.codes.items()))
    refused = f"{summary.refused} refused{codes}"
    return f"{summary.total} studies: {summary.done} done{earlier}{stages}; {refused}; tables in {out}"


def _facts(summary: CohortSummary, out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "studies": summary.total,
        "done": summary.done,
        "resumed": summary.resumed,
        "refused": summary.refused,
        "n_stages": dict(sorted(summary.stages.items())),
        "codes": dict(sorted(summary.codes.items())),
    }
