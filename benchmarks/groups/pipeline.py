"""File on disk to report on disk: warm engines against the researcher's pipeline and MONAI's, per stage.

Two comparisons: with pipelines around the model's own network, whose answers must be the same, and with the paper's
method, a U-Net on 64 x 256 x 256 voxels in PyTorch (`BASELINE`: 0.2.0 of the shipped model), whose answers are its own.

The floor of a total is its network, so that "of floor" says what all the rest costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.agreement import ALIKE, Agreement, Answer, compare, worst
from benchmarks.harness.engines import STAGES, name_of, subjects, timed_engine, with_around
from benchmarks.harness.rows import Pair, Row, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from benchmarks.harness.timing import Samples, Times, interleave, pool, summarize
from benchmarks.peers.monai_pipeline import MonaiPipeline
from benchmarks.peers.onnx_to_torch import OnnxUNet
from benchmarks.peers.pipeline import PeerResult, Pipeline
from benchmarks.peers.pytorch_pipeline import TorchPipeline
from benchmarks.peers.setup import Reference
from lnfast.card import load_model
from lnfast.engine import Engine, Result

ALL = "all"
# How much faster from file to report, and the part of that time which may be spent around the network.
TARGET, AROUND = 20.0, 0.1
# A model folder: the paper's method.
BASELINE = Path(__file__).resolve().parent.parent / "baseline"
METHOD = "pytorch eager fp32 pipeline of the U-Net"

Match = tuple[str, str]  # names of a subject and a peer


def run(settings: Settings, reference: Reference) -> list[Row]:
    """Rows for each stage over all studies, and for the total of each study.

    Raises:
        WrongAnswerError: a study in which neither side finds a node.
    """
    peers: list[Pipeline] = [kind(reference.network, settings.model.card) for kind in (TorchPipeline, MonaiPipeline)]
    if not settings.quick:
        unet = load_model(BASELINE)
        peers.append(TorchPipeline(OnnxUNet(unet.onnx_bytes).eval(), unet.card, METHOD))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lnfast-bench-")))
        paths = {name: write_study(volume, folder / f"{name}.nii.gz") for name, volume in reference.volumes.items()}
        engines = [stack.enter_context(engine) for engine in subjects(settings)]
        samples, agreements = {}, {}
        for study, path in paths.items():
            contest = Contest(engines, peers, path, folder / "out")
            agreements[study] = contest.answers(settings.log)
            samples[study] = contest.timings(settings)
    return _rows(samples, agreements)


class Contest:
    """One study, every engine, every peer.

    Args:
        engines: loaded.
        peers: pipelines around the same weights, and `METHOD`.
        path: the study.
        folder: for outputs; each run gets a fresh one inside.
    """

    def __init__(self, engines: Sequence[Engine], peers: Sequence[Pipeline], path: Path, folder: Path) -> None:
        self._engines = engines
        self._peers = peers
        self._path = path
        self._folder = folder
        self._names: list[str] = []  # of the engines, as their reports have them

    def answers(self, log: Callable[[str], None]) -> dict[Match, Agreement]:
        """Each engine's answer against each peer's; also everyone's first warm-up."""
        results = [engine.run(self._path) for engine in self._engines]
        self._names = [name_of(result.report) for result in results]
        agreements = {}
        for peer in self._peers:
            theirs = answer_of_peer(self._in_fresh_folder(partial(peer.run, self._path)))
            for name, result in zip(self._names, results, strict=True):
                certified = result.report.engine.certificate is not None
                mine, other = answer_of_engine(result), peer.name == METHOD
                agreement = compare(mine, theirs, certified=certified, other=other)
                log(
                    f"pipeline {self._path.name}: {name}: {agreement.verdict} as {peer.name}, Dice {agreement.dice:.4f}"
                )
                agreements[name, peer.name] = agreement
        return agreements

    def timings(self, settings: Settings) -> dict[str, Samples]:
        """Milliseconds by contender and stage; `answers` came before."""
        contenders: dict[str, Callable[[], Times]] = {
            name: partial(self._in_fresh_folder, partial(timed_engine, engine, self._path))
            for name, engine in zip(self._names, self._engines, strict=True)
        }
        for peer in self._peers:
            contenders[peer.name] = partial(self._in_fresh_folder, partial(timed_peer, peer, self._path))
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


def timed_peer(peer: Pipeline, path: Path, folder: Path) -> Times:
    """The same of the peer."""
    return with_around(peer.run(path, folder).timings_ms)


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


def _rows(samples: dict[str, dict[str, Samples]], agreements: dict[str, dict[Match, Agreement]]) -> list[Row]:
    rows = []
    for subject, peer in next(iter(agreements.values())):
        # A ratio is drawn from the studies that were answered alike; the others stand in rows of their own below.
        of_study = {study: by_match[subject, peer] for study, by_match in agreements.items()}
        alike = [study for study in samples if of_study[study].verdict in ALIKE] or list(samples)
        ours = pool([samples[study][subject] for study in alike])
        theirs = pool([samples[study][peer] for study in alike])
        summed_up = worst([of_study[study] for study in alike])
        pooled = ALL if len(alike) == len(samples) else f"{len(alike)} of {len(samples)}"
        network_ms = summarize(ours["infer"]).median
        for stage in STAGES:
            pair = Pair("pipeline", pooled, stage, subject, peer)
            wanted: dict[str, Any] = {}
            if stage == "total":
                wanted = {"floor": ours["infer"], "target": TARGET, "limit": network_ms / (1 - AROUND)}
            rows.append(make_row(pair, ours[stage], theirs[stage], summed_up, **wanted))
        for study, by_name in samples.items():
            pair = Pair("pipeline", study, "total", subject, peer)
            agreement = of_study[study].to_dict()
            rows.append(make_row(pair, by_name[subject]["total"], by_name[peer]["total"], agreement))
    return rows
