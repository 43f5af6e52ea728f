"""``lnfast phantom``: digital patients in nnU-Net's raw layout."""

from __future__ import annotations

from pathlib import Path

import click

from lnfast.cli.options import Place, check_place
from lnfast.cli.watch import Watcher

_SCANNERS = ("achieva", "discovery", "ingenia")


@click.command(short_help="Make digital studies whose nodes are exactly known.")
@click.option("-o", "--out", metavar="DIR", required=True, type=Place(), help="Folder to add to.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="S", help="Of the first.")
@click.option("--scanner", type=click.Choice(_SCANNERS), help="Protocol; by turns all three where none is given.")
@click.option("--stage", type=click.Choice(["n0", "n1", "any"]), default="any", show_default=True, help="Of the truth.")
def phantom(out: Path, count: int, seed: int, scanner: str | None, stage: str) -> int:
    """Make digital pelvic DWI studies and their truth, with seeds S to S+N-1, and add them to DIR.

    DIR gets nnU-Net's raw layout: dataset.json, imagesTr/<case>_0000.nii.gz and labelsTr/<case>.nii.gz (value = node
    id); and truth/<case>.json with each node's centre, axes and volume and the stage of the truth mask.
    """
    from lnfast.cohort import add_case
    from lnfast.phantom import make_phantom

    check_place(out)
    with Watcher(count, "making phantoms") as watcher:
        for number in range(seed, seed + count):
            chosen = scanner or _SCANNERS[number % len(_SCANNERS)]
            case = add_case(out, make_phantom(number, chosen, stage))  # type: ignore[arg-type]  # checked by click
            suspicious = sum(node.suspicious for node in case.nodes)
            watcher.result(f"{case.name}: {case.n_stage}, {suspicious} of {len(case.nodes)} nodes suspicious")
            watcher.done_with_one("making phantoms")
    return 0
