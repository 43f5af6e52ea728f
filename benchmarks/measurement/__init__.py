"""How accurate the millimetres are, on digital nodes whose short axis is exactly known.

    ellipsoids  nodes and their exact short axes       imaging   voxels and scanners around them
    rules       the short axis by each rule            sampling  random nodes on every grid
    network     whole phantoms through the model       summary   bias, spread, wrong calls
    console     tables in the terminal, one plot

Nothing here is timed.
"""

from __future__ import annotations

from benchmarks.harness.settings import Settings
from benchmarks.measurement.network import measure_network_nodes
from benchmarks.measurement.sampling import measure_on_scanners, measure_on_thin_slices
from benchmarks.measurement.summary import KEYS, MeasurementResults, aggregate

# Nodes for each scanner and band, and for each slice thickness and band.
NODES, THIN_NODES, QUICK_NODES = 600, 200, 6


def run(settings: Settings) -> MeasurementResults:
    """Draw nodes, image them, measure them by each rule, and summarize the errors."""
    size, scanner, orientation = "size_mm", "scanner", "orientation"
    settings.progress("measurement: nodes on the scanners' grids")
    on_grids = list(measure_on_scanners(settings.seed, QUICK_NODES if settings.quick else NODES))
    exact = [measurement for measurement in on_grids if measurement.mask == "truth"]
    imaged = [measurement for measurement in on_grids if measurement.mask != "truth"]
    settings.progress("measurement: nodes on thin slices")
    thin = list(measure_on_thin_slices(settings.seed, QUICK_NODES if settings.quick else THIN_NODES))
    return MeasurementResults(
        scanners=aggregate(exact, (size,), (size, scanner), (size, orientation), KEYS) + aggregate(imaged, (size,)),
        slices=aggregate(thin, (size, scanner)),
        network=aggregate(measure_network_nodes(settings), (), (size,), (size, orientation)),
    )
