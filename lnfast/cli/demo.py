"""``lnfast demo``: a digital patient, found and measured, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnfast.cli import streams
from lnfast.cli.options import Place, check_place
from lnfast.cli.watch import Watcher

if TYPE_CHECKING:
    from lnfast.cohort import PhantomCase
    from lnfast.matching import Comparison
    from lnfast.phantom import Phantom
    from lnfast.result import Result

# Seeds below 100 are never trained on; this is the first of them, taken before any model had seen it.
SEED, SCANNER = 0, "ingenia"


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What `demo` shows.

    Attributes:
        phantom: the digital patient.
        case: its files, and its truth mask measured.
        result: what the engine says of the file.
        folder: where the result was written.
        comparison: of the two.
    """

    phantom: Phantom
    case: PhantomCase
    result: Result
    folder: Path
    comparison: Comparison


@click.command(short_help="Try it all on a digital patient and compare with the truth.")
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    default="lnfast-demo",
    show_default=True,
    type=Place(),
    help="Folder for study and results.",
)
def demo(out: Path) -> int:
    """Make a digital patient that no model was trained on, find and measure its nodes, and compare with the truth."""
    check_place(out)
    with Watcher(1, "making a digital patient") as watcher:
        shown = demonstrate(out, watcher)
    from lnfast.cli.tables import show_demonstration

    with streams.printing():
        show_demonstration(shown)
    return 0


def demonstrate(out: Path, watcher: Watcher) -> Demonstration:
    """Make, run, write, compare."""
    from lnfast.cohort import add_case
    from lnfast.engine import Engine
    from lnfast.geometry import Volume
    from lnfast.matching import NodeMap, compare
    from lnfast.phantom import make_phantom

    phantom = make_phantom(SEED, SCANNER, "n1")
    case = add_case(out / "phantom", phantom)
    watcher.working_on("loading the engine")
    with Engine() as engine:
        watcher.working_on(case.name)
        result = engine.run(case.image)
    watcher.log_cache()
    folder = result.write(out / "results")
    truth = NodeMap(Volume(phantom.labels, phantom.volume.grid), case.nodes)
    return Demonstration(phantom, case, result, folder, compare(NodeMap(result.labels, result.nodes), truth))
