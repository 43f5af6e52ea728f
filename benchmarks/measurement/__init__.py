"""How true the millimetres are: digital nodes know their own short axis.

    nodes    ellipsoids and their exact short axes     scans    what a grid and a scanner leave of them
    rules    the short axis as it can be measured      study    nodes at random on every grid
    network  whole phantoms through the model          table    bias, spread, wrong calls
    shown    tables for people, one picture

Nothing here is timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.harness.settings import Settings
from benchmarks.measurement.network import on_network
from benchmarks.measurement.sampling import on_scanners, on_thin_slices
from benchmarks.measurement.summary import KEYS, MeasurementRow, aggregate, to_columns

# Of each scanner and band, and of each slice thickness and band.
NODES, THIN_NODES, QUICK_NODES = 600, 200, 6


@dataclass(frozen=True)
class Answers:
    """Everything that was found.

    Attributes:
        scanners: exact and imaged nodes on the scanners' grids, by band and every cut of scanner and orientation.
        slices: exact nodes by slice thickness, which stands for the scanner, and band.
        network: nodes that the model found in whole phantoms, by band and pooled.
    """

    scanners: list[MeasurementRow]
    slices: list[MeasurementRow]
    network: list[MeasurementRow]

    def to_tables(self) -> dict[str, dict[str, Any]]:
        """As `benchmarks.harness.rows.write_json` takes them."""
        parts = {"measurement": self.scanners, "slice thickness": self.slices, "network": self.network}
        return {name: to_columns(rows) for name, rows in parts.items()}


def run(settings: Settings) -> Answers:
    """Draw, see, measure, sum up."""
    size, scanner, orientation = "size_mm", "scanner", "orientation"
    settings.log("measurement: nodes on the scanners' grids")
    on_grids = list(on_scanners(settings.seed, QUICK_NODES if settings.quick else NODES))
    exact = [one for one in on_grids if one.mask == "truth"]
    seen = [one for one in on_grids if one.mask != "truth"]
    settings.log("measurement: nodes on thin slices")
    thin = list(on_thin_slices(settings.seed, QUICK_NODES if settings.quick else THIN_NODES))
    return Answers(
        scanners=aggregate(exact, (size,), (size, scanner), (size, orientation), KEYS) + aggregate(seen, (size,)),
        slices=aggregate(thin, (size, scanner)),
        network=aggregate(on_network(settings), (), (size,), (size, orientation)),
    )
