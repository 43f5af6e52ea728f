"""File on disk to report on disk: warm engines against the researcher's pipeline and MONAI's, by stage.

Two comparisons: with pipelines around the model's own network, whose answers must be the same, and with the paper's
method, a U-Net on 64 x 256 x 256 voxels in PyTorch (`BASELINE`: 0.2.0 of the shipped model), whose answers are its own.

The floor of a total is its network, so that "of floor" gives the cost of everything else. Reading and writing DICOM are
compared apart from that (`benchmarks.groups.dicom`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.groups import dicom
from benchmarks.harness.agreement import ALIKE, AnswerAgreement, StudyAnswer, compare_answers, worst_agreement
from benchmarks.harness.engines import STAGES, add_around, engine_name, load_subjects, time_engine
from benchmarks.harness.rows import Row, RowKey, Tables, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from benchmarks.harness.timing import Samples, Times, interleave, pool, summarize
from benchmarks.peers.monai_pipeline import MonaiPipeline
from benchmarks.peers.onnx_to_torch import OnnxModule
from benchmarks.peers.pipeline import PeerPipeline, PeerResult
from benchmarks.peers.pytorch_pipeline import TorchPipeline
from benchmarks.peers.setup import PeerSetup
from lnfast.card import load_model
from lnfast.engine import Engine
from lnfast.result import Result

ALL = "all"
# Whose phantom, of 28 slices of 240 x 240, is also read as DICOM; a quick run has another scanner's alone.
DICOM_SCANNER = "ingenia"
# The wanted ratio from file to report, and the wanted share of that time around the network.
TARGET, AROUND = 20.0, 0.1
# A model folder: the paper's method.
BASELINE = Path(__file__).resolve().parents[1] / "baseline"
METHOD = "pytorch eager fp32 pipeline of the U-Net"

NamePair = tuple[str, str]  # of a subject and a peer


def run(settings: Settings, setup: PeerSetup) -> tuple[list[Row], Tables]:
    """Return rows for each stage over all studies, for the total of each study and for reading DICOM, and the tables.

    Raises:
        WrongAnswerError: a study in which neither side marks a node.
    """
    card = settings.model.card
    peers: list[PeerPipeline] = [TorchPipeline(setup.network, card), MonaiPipeline(setup.network, card)]
    if not settings.quick:
        unet = load_model(BASELINE)
        peers.append(TorchPipeline(OnnxModule(unet.onnx_bytes).eval(), unet.card, METHOD))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lnfast-bench-")))
        paths = {name: write_study(volume, folder / f"{name}.nii.gz") for name, volume in setup.volumes.items()}
        engines = [stack.enter_context(engine) for engine in load_subjects(settings)]
        samples, agreements = {}, {}
        for study, path in paths.items():
            benchmark = StudyBenchmark(engines, peers, path, folder / "out")
            agreements[study] = benchmark.compare(settings.progress)
            samples[study] = benchmark.measure(settings)
        scanner = DICOM_SCANNER if DICOM_SCANNER in setup.volumes else next(iter(setup.volumes))
        dicom_rows, tables = dicom.run(engines[0], setup.volumes[scanner], settings)
    return _rows(samples, agreements) + dicom_rows, tables


class StudyBenchmark:
    """Every engine and every peer on one study.

    Args:
        engines: loaded.
        peers: pipelines around the same weights, and `METHOD`.
        path: the study.
        folder: for outputs; each run gets a fresh one inside.
    """

    def __init__(self, engines: Sequence[Engine], peers: Sequence[PeerPipeline], path: Path, folder: Path) -> None:
        self._engines = engines
        self._peers = peers
        self._path = path
        self._folder = folder
        self._names: list[str] = []  # of the engines, as their reports have them

    def compare(self, progress: Callable[[str], None]) -> dict[NamePair, AnswerAgreement]:
        """Compare each engine's answer with each peer's; this is also the first warm-up of each."""
        results = [engine.run(self._path) for engine in self._engines]
        self._names = [engine_name(result.report) for result in results]
        agreements = {}
        for peer in self._peers:
            theirs = peer_answer(self._in_fresh_folder(partial(peer.run, self._path)))
            for name, result in zip(self._names, results, strict=True):
                certified = result.report.engine.certificate is not None
                agreement = compare_answers(
                    engine_answer(result), theirs, certified=certified, other_method=peer.name == METHOD
                )
                outcome = f"{agreement.verdict} as {peer.name}, Dice {agreement.dice:.4f}"
                progress(f"pipeline {self._path.name}: {name}: {outcome}")
                agreements[name, peer.name] = agreement
        return agreements

    def measure(self, settings: Settings) -> dict[str, Samples]:
        """Return milliseconds by contender and stage; `compare` must have run before."""
        contenders: dict[str, Callable[[], Times]] = {
            name: partial(self._in_fresh_folder, partial(time_engine, engine, self._path))
            for name, engine in zip(self._names, self._engines, strict=True)
        }
        for peer in self._peers:
            contenders[peer.name] = partial(self._in_fresh_folder, partial(time_peer, peer, self._path))
        return interleave(
            contenders,
            repeats=settings.repeats,
            warmups=settings.warmups,
            progress=lambda message: settings.progress(f"pipeline {self._path.name}: {message}"),
        )

    def _in_fresh_folder(self, use: Callable[[Path], Any]) -> Any:
        self._folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as fresh:
            return use(Path(fresh) / "run")


def time_peer(peer: PeerPipeline, path: Path, folder: Path) -> Times:
    """Time one run of a peer from file to report, in ms by stage."""
    return add_around(peer.run(path, folder).timings_ms)


def engine_answer(result: Result) -> StudyAnswer:
    """Return what is compared of an engine's result."""
    boxes = tuple(node.box_mm for node in result.nodes)
    suspicious = tuple(node.id for node in result.nodes if node.suspicious)
    return StudyAnswer(result.labels.array, boxes, suspicious, result.n_stage)


def peer_answer(result: PeerResult) -> StudyAnswer:
    """Return what is compared of a peer's result."""
    boxes = tuple(node.box_mm for node in result.nodes)
    suspicious = tuple(label for label, node in enumerate(result.nodes, start=1) if node.suspicious)
    return StudyAnswer(result.labels, boxes, suspicious, result.n_stage)


def _rows(samples: dict[str, dict[str, Samples]], agreements: dict[str, dict[NamePair, AnswerAgreement]]) -> list[Row]:
    rows = []
    for subject, peer in next(iter(agreements.values())):
        # The pooled ratio is of the studies with the same answer; each study has a row of its own below.
        by_study = {study: by_pair[subject, peer] for study, by_pair in agreements.items()}
        alike = [study for study in samples if by_study[study].verdict in ALIKE] or list(samples)
        ours = pool([samples[study][subject] for study in alike])
        theirs = pool([samples[study][peer] for study in alike])
        summary = worst_agreement([by_study[study] for study in alike])
        pooled = ALL if len(alike) == len(samples) else f"{len(alike)} of {len(samples)}"
        network_ms = summarize(ours["infer"]).median
        for stage in STAGES:
            key = RowKey("pipeline", pooled, stage, subject, peer)
            bounds: dict[str, Any] = {}
            if stage == "total":
                bounds = {"floor": ours["infer"], "target": TARGET, "limit": network_ms / (1 - AROUND)}
            rows.append(make_row(key, ours[stage], theirs[stage], summary, **bounds))
        for study, by_name in samples.items():
            key = RowKey("pipeline", study, "total", subject, peer)
            agreement = by_study[study].to_dict()
            rows.append(make_row(key, by_name[subject]["total"], by_name[peer]["total"], agreement))
    return rows
