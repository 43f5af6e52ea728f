"""DICOM in the group ``pipeline``: reading a folder of files against other readers, and what writing SEG and SR takes.

The folder has three b-values of one phantom, and a reader must find the high one. The floor is one plain read of the
bytes of the images that it takes.
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

from benchmarks.harness.agreement import WrongAnswerError
from benchmarks.harness.engines import engine_name
from benchmarks.harness.rows import Row, RowKey, Tables, make_row
from benchmarks.harness.series import B_VALUES, HIGH_B, write_series
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Stopwatch, Times, interleave, summarize
from benchmarks.peers.dicom import dicom_readers
from lnfast.engine import Engine
from lnfast.geometry import Volume
from lnfast.measure import measure_nodes
from lnfast.report import add_files, add_page, write_study_folder
from lnfast.report.dicom import render_dicom
from lnfast.report.page import render
from lnfast.result import Result
from lnfast_ext import label_components

STAGE = "read DICOM"
# The wanted time of reading, and of writing SEG and SR, in ms.
LIMIT_MS, WRITING_LIMIT_MS = 15.0, 1000.0
# As the affines are compared by the tests of reading.
AFFINE_MM = 1e-4
# An average patient's nodes, on a lattice (z, y, x) so wide that none meet, and their semi-axes.
LATTICE, SEMI_MM = (3, 3, 3), (7.0, 5.0, 4.0)
COLUMNS = ("subject", "study", "part", "ms p50", "ms p5", "ms p95", "of the time after report.json", "wanted ms")
PARTS = ("report.json", "report.html", "seg.dcm and sr.dcm")


def run(engine: Engine, volume: Volume, settings: Settings) -> tuple[list[Row], Tables]:
    """Return a row of reading for each other reader, and the table of writing.

    Args:
        engine: whose `Engine.read` and answer are taken.
        volume: a phantom.
        settings: of all groups.

    Raises:
        WrongAnswerError: the volume is too small for the nodes.
    """
    with tempfile.TemporaryDirectory(prefix="lnfast-dicom-") as work:
        folder = write_series(volume, Path(work) / "series")
        result = engine.run(folder)
        z, y, x = volume.grid.shape
        about = engine_name(result.report), f"{z} x {len(B_VALUES)} DICOM files of {x} x {y}"
        rows = _reading(engine, folder, settings, about)
        return rows, {"writing of DICOM": _writing(with_nodes(result), Path(work) / "out", settings, about)}


def compare_volumes(subject: Volume, peer: Volume) -> dict[str, Any]:
    """Compare voxels, which must be equal, and affines, both in one orientation.

    Returns:
        The verdict, how many voxels differ (None for another shape), and the greatest difference of the affines in mm.
    """
    ours, theirs = (volume.oriented("LPS") for volume in (subject, peer))
    difference = float(np.abs(ours.grid.affine - theirs.grid.affine).max())
    alike = ours.array.shape == theirs.array.shape
    voxels = int((ours.array != theirs.array).sum()) if alike else None
    verdict = "same" if voxels == 0 and difference <= AFFINE_MM else "wrong"
    return {"verdict": verdict, "voxels": voxels, "affine_mm": difference}


def with_nodes(result: Result) -> Result:
    """Return a result whose nodes are ellipsoids on a lattice, `LATTICE` of them, whatever the network marked.

    Raises:
        WrongAnswerError: some of them meet.
    """
    grid = result.study.volume.grid
    mask = np.zeros(grid.shape, np.bool_)
    index = np.indices(grid.shape, sparse=True)
    for place in product(*map(range, LATTICE)):
        centre = [size * (number + 0.5) / count for size, number, count in zip(grid.shape, place, LATTICE, strict=True)]
        steps_mm = [(index[axis] - centre[axis]) * grid.spacing_zyx_mm[axis] for axis in range(3)]
        mask |= sum((step / semi) ** 2 for step, semi in zip(steps_mm, SEMI_MM, strict=True)) <= 1
    components, count = label_components(mask)
    if count != np.prod(LATTICE):
        raise WrongAnswerError(f"{np.prod(LATTICE)} nodes were put into the labels and {count} were found")
    labels = Volume(components.astype(np.uint16), grid)
    nodes = measure_nodes(labels, count, result.report.rules)
    report = replace(result.report, nodes=tuple(nodes))
    return replace(result, nodes=tuple(nodes), labels=labels, report=report)


def write_parts(result: Result, out: Path) -> Times:
    """Write a result's files as `Result.write` does, in ms by part."""
    watch = Stopwatch()
    with watch.stage(PARTS[0]):
        folder, report = write_study_folder(result.report, result.labels, out, result.study.name)
    with watch.stage(PARTS[1]):
        add_page(folder, report, render(report, result.study, result.labels))
    with watch.stage(PARTS[2]):
        add_files(folder, report, render_dicom(result.study, result.labels, report))
    return watch.times_ms


def _reading(engine: Engine, folder: Path, settings: Settings, about: tuple[str, str]) -> list[Row]:
    subject, study = about
    read = engine.read(folder)
    assert read.provenance.dicom is not None
    taken = [Path(path) for path, _ in read.provenance.dicom.frames]
    readers = dicom_readers(settings.progress)
    agreements = {}
    for name, reader in readers.items():
        agreements[name] = compare_volumes(read.volume, reader(folder, HIGH_B))
        settings.progress(f"pipeline DICOM: {agreements[name]['verdict']} as {name}")
    contenders: dict[str, Callable[[], Times]] = {
        subject: partial(_timed, engine.read, folder),
        "floor": partial(_timed, _read_bytes, taken),
        **{name: partial(_timed, reader, folder, HIGH_B) for name, reader in readers.items()},
    }
    samples = interleave(
        contenders,
        repeats=settings.repeats,
        warmups=settings.warmups,
        progress=lambda message: settings.progress(f"pipeline DICOM, reading: {message}"),
    )
    bounds: dict[str, Any] = {"floor": samples["floor"][STAGE], "limit": LIMIT_MS}
    return [
        make_row(
            RowKey("pipeline", study, STAGE, subject, name),
            samples[subject][STAGE],
            samples[name][STAGE],
            agreements[name],
            **bounds,
        )
        for name in readers
    ]


def _writing(result: Result, out: Path, settings: Settings, about: tuple[str, str]) -> dict[str, Any]:
    subject, study = about
    folders = (out / str(number) for number in range(settings.repeats + settings.warmups))
    samples = interleave(
        {subject: lambda: write_parts(result, next(folders))},
        repeats=settings.repeats,
        warmups=settings.warmups,
        progress=lambda message: settings.progress(f"pipeline DICOM, writing: {message}"),
    )[subject]
    after = sum(summarize(samples[part]).median for part in PARTS[1:])
    rows = []
    for part in PARTS:
        summary = summarize(samples[part])
        share = "-" if part == PARTS[0] else f"{100 * summary.median / after:.0f} %"
        wanted = WRITING_LIMIT_MS if part == PARTS[2] else "-"
        of_nodes = f"{study}, {len(result.nodes)} nodes"
        rows.append([subject, of_nodes, part, summary.median, summary.p5, summary.p95, share, wanted])
    return {"columns": list(COLUMNS), "rows": rows}


def _timed(call: Callable[..., Any], *arguments: Any) -> Times:
    start = perf_counter()
    call(*arguments)
    return {STAGE: (perf_counter() - start) * 1e3}


def _read_bytes(paths: list[Path]) -> None:
    for path in paths:
        path.read_bytes()
