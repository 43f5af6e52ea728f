"""File on disk to report on disk: a warm engine against the researcher's pipeline, per stage."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import nibabel as nib

from benchmarks.agreement import ALIKE, Agreement, Answer, compare, worst
from benchmarks.peers import PeerResult, TorchPipeline
from benchmarks.reference import Reference
from benchmarks.rows import Pair, Row, make_row
from benchmarks.settings import Settings
from benchmarks.timing import Samples, Times, interleave, pool
from lnfast.engine import Engine, Result
from lnfast.geometry import Volume

STAGES = ("read", "preprocess", "infer", "postprocess", "measure", "write", "around", "total")
ALL = "all"


def run(settings: Settings, reference: Reference) -> list[Row]:
    """Rows for each stage over all studies, and for the total of each study.

    Raises:
        WrongAnswerError: a study in which neither side finds a node.
    """
    peer = TorchPipeline(reference.network, settings.model.card)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lnfast-bench-")))
        paths = {name: write_study(volume, folder / f"{name}.nii.gz") for name, volume in reference.volumes.items()}
        engines = {}
        for engine in map(stack.enter_context, subjects(settings)):
            engines[f"lnfast {engine.info.name} {engine.info.precision}"] = engine
        samples, agreements = {}, {}
        for study, path in paths.items():
            contest = Contest(engines, peer, path, folder / "out")
            agreements[study] = contest.answers(settings.log)
            samples[study] = contest.timings(settings)
    return _rows(samples, agreements)


def subjects(settings: Settings) -> Iterator[Engine]:
    """The engine that ``auto`` picks and, where that is not FP32 and there is time, the same backend in FP32."""
    folder, threads = settings.model.folder, settings.threads
    first = Engine(folder, device="cpu", threads=threads)
    backend, precision = first.info.name, first.info.precision
    yield first
    if not settings.quick and precision != "fp32":
        yield Engine(folder, backend=backend, device="cpu", precision="fp32", threads=threads)


def write_study(volume: Volume, path: Path) -> Path:
    """A phantom as a scanner's converter leaves it: int16, gzipped."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.grid.affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


class Contest:
    """One study, every engine, one peer.

    Args:
        engines: by the name that the rows show.
        peer: the researcher's pipeline.
        path: the study.
        folder: for outputs; each run gets a fresh one inside.
    """

    def __init__(self, engines: dict[str, Engine], peer: TorchPipeline, path: Path, folder: Path) -> None:
        self._engines = engines
        self._peer = peer
        self._path = path
        self._folder = folder

    def answers(self, log: Callable[[str], None]) -> dict[str, Agreement]:
        """Each engine's answer against the peer's; also everyone's first warm-up."""
        theirs = answer_of_peer(self._in_fresh_folder(lambda out: self._peer.run(self._path, out)))
        agreements = {}
        for name, engine in self._engines.items():
            agreements[name] = compare(answer_of_engine(engine.run(self._path)), theirs)
            log(f"pipeline {self._path.name}: {name}: {agreements[name].verdict}, Dice {agreements[name].dice:.4f}")
        return agreements

    def timings(self, settings: Settings) -> dict[str, Samples]:
        """Milliseconds by contender and stage."""
        contenders: dict[str, Callable[[], Times]] = {
            name: partial(self._in_fresh_folder, partial(timed_engine, engine, self._path))
            for name, engine in self._engines.items()
        }
        contenders[self._peer.name] = partial(self._in_fresh_folder, partial(timed_peer, self._peer, self._path))
        return interleave(
            contenders,
            repeats=settings.repeats,
            warmups=settings.warmups,
            log=lambda line: settings.log(f"pipeline {self._path.name}: {line}"),
        )

    def _in_fresh_folder(self, use: Callable[[Path], Any]) -> Any:
        self._folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as fresh:
            return use(Path(fresh) / "run")


def timed_engine(engine: Engine, path: Path, folder: Path) -> Times:
    """File to report once; the engine's own stages, with write and total taken from outside."""
    start = perf_counter()
    result = engine.run(path)
    ready = perf_counter()
    result.write(folder)
    end = perf_counter()
    times = {**result.timings_ms, "write": (end - ready) * 1e3, "total": (end - start) * 1e3}
    return with_around(times)


def timed_peer(peer: TorchPipeline, path: Path, folder: Path) -> Times:
    """The same of the peer."""
    return with_around(peer.run(path, folder).timings_ms)


def with_around(times: Times) -> Times:
    """Adds ``around``: everything that is not the network."""
    return {**times, "around": times["total"] - times["infer"]}


def answer_of_engine(result: Result) -> Answer:
    """What is compared of a result."""
    boxes = tuple(node.box_mm for node in result.nodes)
    suspicious = tuple(node.id for node in result.nodes if node.suspicious)
    return Answer(result.labels.array, boxes, suspicious, result.n_stage)


def answer_of_peer(result: PeerResult) -> Answer:
    """What is compared of the peer's result."""
    boxes = tuple(node.box_mm for node in result.nodes)
    suspicious = tuple(label for label, node in enumerate(result.nodes, start=1) if node.suspicious)
    return Answer(result.labels, boxes, suspicious, result.n_stage)


def _rows(samples: dict[str, dict[str, Samples]], agreements: dict[str, dict[str, Agreement]]) -> list[Row]:
    names = next(iter(agreements.values()))
    rows = []
    for subject in names:
        # A ratio is drawn from the studies that were answered alike; the others stand in rows of their own below.
        alike = [study for study in samples if agreements[study][subject].verdict in ALIKE] or list(samples)
        ours = pool([samples[study][subject] for study in alike])
        theirs = pool([samples[study][TorchPipeline.name] for study in alike])
        summed_up = worst([agreements[study][subject] for study in alike])
        pooled = ALL if len(alike) == len(samples) else f"{len(alike)} of {len(samples)}"
        for stage in STAGES:
            pair = Pair("pipeline", pooled, stage, subject, TorchPipeline.name)
            rows.append(make_row(pair, ours[stage], theirs[stage], summed_up))
        for study, by_name in samples.items():
            pair = Pair("pipeline", study, "total", subject, TorchPipeline.name)
            agreement = agreements[study][subject].to_dict()
            rows.append(make_row(pair, by_name[subject]["total"], by_name[TorchPipeline.name]["total"], agreement))
    return rows
