"""Options of ``lnfast run`` and ``lnfast cohort`` for DICOM, and the listing of a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnfast.cli.options import Command, with_options

if TYPE_CHECKING:
    from lnfast.study import DicomChoice
    from lnfast.study.dicom.listing import Listing


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):  # nan is within every range
        raise click.BadParameter("is no finite number")
    return value


_CHOICE = (
    click.option("--series", metavar="N|UID", help="Number or UID of the DICOM series to take, and no other."),
    click.option(
        "--b-value",
        type=click.FloatRange(min=0),
        callback=_finite,
        metavar="S/MM2",
        help="The b-value of DICOM images whose headers have none.",
    ),
    click.option(
        "--synthetic", is_flag=True, help="Take a DICOM image that was computed for its b-value if none was acquired."
    ),
)
_PREFER = (
    click.option(
        "--prefer",
        metavar="GLOB",
        multiple=True,
        help="Of several series that could be taken, the one whose description fits; to be given several times, the "
        "preferred first.",
    ),
)
_LIST = (
    click.option(
        "--list",
        "list_only",
        is_flag=True,
        help="Print what each DICOM folder holds, which volume would be taken and why not the others; run nothing.",
    ),
)
_OBJECTS = (
    click.option(
        "--dicom/--no-dicom", default=True, show_default=True, help="Also write seg.dcm and sr.dcm of a DICOM study."
    ),
    click.option(
        "--seg-frames",
        type=click.Choice(["sparse", "all"]),
        default="sparse",
        show_default=True,
        help="Frames of seg.dcm: those with voxels of a node, or a frame of every node for every slice.",
    ),
)


def dicom_options(command: Command, *, listing: bool = True) -> Command:
    """Add the options for DICOM to a command.

    Args:
        command: that reads studies.
        listing: whether it has ``--list``.
    """
    return with_options(command, (*_CHOICE, *_PREFER, *(_LIST if listing else ()), *_OBJECTS))


def choice_options(command: Command) -> Command:
    """Add the options that choose a series to a command."""
    return with_options(command, _CHOICE)


def list_folders(folders: Sequence[Path], model: str, choice: DicomChoice, *, as_json: bool) -> int:
    """Print a line for each volume of some folders; return the exit code.

    Args:
        folders: of DICOM files, or enhanced files.
        model: whose card says which b-values are taken.
        choice: of the series to take.
        as_json: print a JSON object on a line for each folder.
    """
    from lnfast.card import load_model
    from lnfast.errors import LnfastError
    from lnfast.study import shown
    from lnfast.study.bvalues import BRule
    from lnfast.study.dicom.listing import list_dicom

    card = load_model(model).card
    rule = BRule(card.b_targets, *card.b_range)
    exit_code = 0
    for folder in folders:
        try:
            listing = list_dicom(folder, rule, choice)
        except LnfastError as error:
            exit_code = max(exit_code, error.exit_code)
            click.echo(f"lnfast: {error.code}: {shown(str(folder))}: {error.message}", err=True)
            continue
        if listing.error is not None:
            exit_code = max(exit_code, listing.error.exit_code)
        click.echo(_json(folder, listing) if as_json else _lines(folder, listing))
    return exit_code


def _json(folder: Path, listing: Listing) -> str:
    error = listing.error and {"code": listing.error.code, "message": listing.error.message}
    volumes = [asdict(volume) for volume in listing.volumes]
    others = {"other_dicom_files": listing.others, "other_files": listing.not_dicom}
    return json.dumps({"folder": str(folder), "volumes": volumes, **others, "error": error})


def _lines(folder: Path, listing: Listing) -> str:
    from lnfast.study import shown

    lines = [f"{shown(str(folder))}:"]
    for volume in listing.volumes:
        series = "series without a number" if volume.series_number is None else f"series {volume.series_number}"
        b_value = "no b-value" if volume.b_value is None else f"b = {volume.b_value:g}"
        lines.append(f"  {series}, {b_value}, {volume.kind}, {volume.images} images: {volume.verdict}: {volume.reason}")
    if listing.others or listing.not_dicom:
        lines.append(f"  {listing.others} other DICOM files, {listing.not_dicom} files that are no DICOM")
    if listing.error is not None:
        lines.append(f"  nothing is taken: {listing.error.code}: {listing.error.message}")
    return "\n".join(lines)
