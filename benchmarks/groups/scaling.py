"""The growth of each stage: the slope of log time over log size, 1 where twice the size takes twice as long.

    voxels    of one phantom, resampled ever finer: file to report
    nodes     ellipsoids of one size in the logits: from logits to a written report
    studies   of one queue through ``run_many``

A slope is fitted to each round of interleaved runs; the median and p5 to p95 are of those slopes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.groups.throughput import overlapped
from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.engines import engine_name, load_subjects, time_engine
from benchmarks.harness.grids import network_grid
from benchmarks.harness.logits import logits_around
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from benchmarks.harness.timing import Samples, Times, interleave, summarize
from lnfast.engine import Engine
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules, measure_nodes
from lnfast.phantom.shapes import Ellipsoid
from lnfast.postprocess import segment
from lnfast.result import Result
from lnfast_ext import resample_normalize

# Factors of the scanner's own matrix, in the plane.
FINER, QUICK_FINER = (0.5, 0.75, 1.0, 1.5, 2.0), (0.5, 1.0)
# Nodes as (z, y, x) of a lattice, so far apart that none meet.
LATTICES, QUICK_LATTICES = ((1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (4, 8, 8)), ((1, 2, 2), (1, 4, 4))
SEMI_MM = np.array((4.0, 5.0, 7.0))
STUDIES, QUICK_STUDIES = (1, 2, 4, 8), (1, 2)
COLUMNS = ("subject", "along", "sizes", "stage", "ms", "slope", "slope p5", "slope p95")

Sizes = dict[int, Callable[[], Times]]


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the table ``scaling``, of what ``auto`` takes.

    Raises:
        WrongAnswerError: the number of nodes is not that of the ellipsoids in the logits.
    """
    volume = next(iter(settings.phantoms().values()))
    rows = []
    with tempfile.TemporaryDirectory(prefix="lnfast-scaling-") as work, next(load_subjects(settings)) as engine:
        folder = Path(work)
        file = write_study(volume, folder / "study.nii.gz")
        result = engine.run(file)
        series = {
            "voxels": _of_voxels(settings, engine, volume, folder),
            "nodes": _of_nodes(settings, result, folder),
            "studies": _of_studies(settings, engine, file, folder),
        }
        for along, sizes in series.items():
            rows += [[engine_name(result.report), along, *row] for row in _grown(settings, along, sizes)]
    return {"scaling": {"columns": list(COLUMNS), "rows": rows}}


def slopes(sizes: list[int], samples: list[list[float]]) -> list[float]:
    """Return the slope of log time over log size by least squares, of each round.

    Args:
        sizes: at least two.
        samples: for each size, the time of each round.
    """
    rounds = np.log(np.array(samples))
    return [float(slope) for slope in np.polyfit(np.log(sizes), rounds, 1)[0]]


def _grown(settings: Settings, along: str, sizes: Sizes) -> list[list[Any]]:
    samples: dict[str, Samples] = interleave(
        {str(size): call for size, call in sizes.items()},
        repeats=settings.repeats,
        warmups=settings.warmups,
        progress=lambda message: settings.progress(f"scaling, {along}: {message}"),
    )
    rows = []
    for stage in samples[str(next(iter(sizes)))]:
        series = [samples[str(size)][stage] for size in sizes]
        slope = summarize(slopes(list(sizes), series))
        medians = [summarize(times).median for times in series]
        rows.append([list(sizes), stage, medians, slope.median, slope.p5, slope.p95])
    return rows


def _of_voxels(settings: Settings, engine: Engine, volume: Volume, folder: Path) -> Sizes:
    calls: Sizes = {}
    for factor in QUICK_FINER if settings.quick else FINER:
        finer = _resampled(volume, factor)
        path = write_study(finer, folder / f"voxels-{finer.array.size}.nii.gz")
        calls[finer.array.size] = partial(_fresh, folder, partial(time_engine, engine, path))
    return calls


def _resampled(volume: Volume, factor: float) -> Volume:
    z, y, x = volume.grid.shape
    grid = network_grid(volume.grid, (z, round(y * factor), round(x * factor)))
    values = np.empty(grid.shape, np.float32)
    resample_normalize(volume.array, values, lo=-np.inf, hi=np.inf, shift=0.0, scale=1.0)
    return Volume(values.round().astype(np.int16), grid)


def _of_nodes(settings: Settings, result: Result, folder: Path) -> Sizes:
    calls: Sizes = {}
    card = settings.model.card
    native = result.labels.oriented(card.orientation).grid
    grid = network_grid(native, card.shape_zyx)
    for lattice in QUICK_LATTICES if settings.quick else LATTICES:
        bodies = _bodies(lattice, grid)
        logits = logits_around(bodies, grid, np.random.default_rng(settings.seed))
        image = Volume(np.empty(native.shape, np.float32), native)  # as bright as the network is sure
        resample_normalize(logits, image.array, lo=-np.inf, hi=np.inf, shift=0.0, scale=1.0)
        measure = partial(_from_logits, settings, result, image, logits, len(bodies))
        calls[len(bodies)] = partial(_fresh, folder, measure)
    return calls


def _bodies(lattice: tuple[int, int, int], grid: Grid) -> list[Ellipsoid]:
    """Ellipsoids about the centres of voxels: on a coarse grid a node between centres would be lost."""
    along = zip(lattice, grid.shape, strict=True)
    places = product(*((np.arange(count) * size + size // 2) // count for count, size in along))
    return [Ellipsoid(grid.to_ras_mm(place[::-1]), SEMI_MM, np.eye(3)) for place in places]


def _from_logits(
    settings: Settings, result: Result, image: Volume, logits: NDArray[np.float32], count: int, out: Path
) -> Times:
    card, rules, threads = settings.model.card, Rules(), settings.threads
    start = perf_counter()
    segmentation = segment(logits, result.labels.grid, card, image=image, threads=threads)
    labelled = perf_counter()
    nodes = measure_nodes(
        segmentation.labels, segmentation.count, rules, orientation=card.orientation, logits=logits, threads=threads
    )
    measured = perf_counter()
    measured_result = replace(
        result, nodes=nodes, labels=segmentation.labels, report=replace(result.report, nodes=nodes)
    )
    ready = perf_counter()
    measured_result.write(out, html=False)
    end = perf_counter()
    if segmentation.count != count:
        raise WrongAnswerError(f"{count} nodes were put into the logits and {segmentation.count} were found")
    return {
        "postprocess": (labelled - start) * 1e3,
        "measure": (measured - labelled) * 1e3,
        "write": (end - ready) * 1e3,
    }


def _of_studies(settings: Settings, engine: Engine, file: Path, folder: Path) -> Sizes:
    return {
        count: partial(_fresh, folder, partial(_queue, engine, [file] * count))
        for count in (QUICK_STUDIES if settings.quick else STUDIES)
    }


def _queue(engine: Engine, paths: list[Path], out: Path) -> Times:
    start = perf_counter()
    overlapped(engine, paths, out)
    return {"run_many": (perf_counter() - start) * 1e3}


def _fresh(folder: Path, use: Callable[[Path], Times]) -> Times:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return use(Path(out))
