"""``lnfast phantom``: digital patients in nnU-Net's raw layout."""

from __future__ import annotations

from pathlib import Path

import click

from lnfast.cli.options import OutputFolder, check_output_folder
from lnfast.cli.progress import ProgressDisplay

_SCANNERS = ("achieva", "discovery", "ingenia")


@click.command(short_help="Make digital patients whose nodes are exactly known.")
@click.option("-o", "--out", metavar="DIR", required=True, type=OutputFolder(), help="Folder to add the patients to.")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Number of patients."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="S", help="Seed of the first patient."
)
@click.option("--scanner", type=click.Choice(_SCANNERS), help="Protocol of the scanner. Default: all three in turn.")
@click.option(
    "--stage", type=click.Choice(["n0", "n1", "any"]), default="any", show_default=True, help="Stage of the patients."
)
@click.option(
    "--realistic",
    is_flag=True,
    help="Nearer to people: the patients on which the shipped model's figures are measured.",
)
def phantom(out: Path, count: int, seed: int, scanner: str | None, stage: str, realistic: bool) -> int:
    """Make digital pelvic DWI studies and their truth, with the seeds S to S+N-1, and add them to DIR.

    DIR has nnU-Net's raw layout: dataset.json, imagesTr/<case>_0000.nii.gz and labelsTr/<case>.nii.gz
    (value = node id). truth/<case>.json holds the centre, axes and volume of each node and the stage of the
    truth mask.
    """
    from lnfast.cohort import add_case
    from lnfast.phantom import LIFELIKE, REALISTIC, make_phantom

    check_output_folder(out)
    with ProgressDisplay(count, "making phantoms") as display:
        for number in range(seed, seed + count):
            protocol = scanner or _SCANNERS[number % len(_SCANNERS)]
            patient = make_phantom(
                number,
                protocol,
                stage,  # type: ignore[arg-type]  # checked by click
                variety=REALISTIC if realistic else LIFELIKE,
            )
            case = add_case(out, patient)
            suspicious = sum(node.suspicious for node in case.nodes)
            display.result(f"{case.name}: {case.n_stage}, {suspicious} of {len(case.nodes)} nodes suspicious")
            display.advance("making phantoms")
    return 0
