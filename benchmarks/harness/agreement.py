"""Do two answers to one study agree? Decided before anything is timed.

    same        as many nodes, and every suspicious one on both sides: the ratio counts
    close       as same, but a bridge of one voxel joined or parted smaller nodes, or the masks are as far apart as a
                certified engine's may be: the ratio counts, the row says so
    different   a node is suspicious on one side only: the row has times and no ratio
    other       the peer is another method with a network of its own: answers are not compared, the ratio counts
    wrong       masks of Dice < 0.98 (of a certified engine 0.9), another stage, or a box that is not the smallest: the
                benchmark fails

The criteria are those of an engine's certificate: stage, suspicious nodes, masks.

A bounding box is compared by its volume, where the exact one can never be the larger; the short edge of the smallest
box may be longer than that of a larger box.

Dice and the matching of nodes are this module's own on purpose: the benchmarks judge lnfast independently and do not
use `lnfast.matching`. Here two blank masks are an error, because agreement on nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DICE_AT_LEAST = 0.98  # as the engine's own self-test requires
# Of an engine with a certificate: 8 bits move the faint rim of nodes on the probe by more than other precisions do, and
# on no study of the certificate by more than it says.
CERTIFIED_DICE_AT_LEAST = 0.9
# A file's float32 header leaves 2e-6 in each of three lengths (`lnfast.header_noise.HEADER_NOISE`), which lnfast takes
# out of voxel sizes and the peer leaves in.
BOX_SLACK = 1e-5

Verdict = Literal["same", "close", "other", "different", "wrong"]


class WrongAnswerError(Exception):
    """Nothing can be timed: the two sides do not compute the same, or what they compute proves nothing."""


_RANK: dict[Verdict, int] = {"same": 0, "close": 1, "other": 2, "different": 3, "wrong": 4}
# Verdicts with which a row has a ratio.
ALIKE: tuple[Verdict, ...] = ("same", "close", "other")


@dataclass(frozen=True)
class StudyAnswer:
    """The result of one side for one study.

    Attributes:
        labels: native grid, storage order ``(z, y, x)``, 0 is background.
        box_mm: of each label in order, edges ascending; None where it could not be measured.
        suspicious: labels of the suspicious nodes.
        n_stage: "N0" or "N1".
    """

    labels: NDArray[Any]
    box_mm: tuple[tuple[float, float, float] | None, ...]
    suspicious: tuple[int, ...]
    n_stage: str


@dataclass(frozen=True)
class AnswerAgreement:
    """Subject against peer, always in this order.

    Attributes:
        verdict: see the module.
        dice: of the masks.
        nodes, suspicious, n_stage: (subject, peer), the first two as counts.
        same_voxels: nodes that have exactly the same voxels on both sides; the two entries below are over these.
        short_axis_mm: greatest absolute difference of the short axis, None where there is no such node.
        box_excess: greatest (subject - peer) / peer of the box volume; above zero the subject's box is not minimal.
    """

    verdict: Verdict
    dice: float
    nodes: tuple[int, int]
    suspicious: tuple[int, int]
    n_stage: tuple[str, str]
    same_voxels: int
    short_axis_mm: float | None
    box_excess: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the Dice coefficient of two masks; every value but 0 is inside.

    Raises:
        WrongAnswerError: both are blank, which would prove nothing.
    """
    a, b = first != 0, second != 0
    total = int(a.sum()) + int(b.sum())
    if total == 0:
        raise WrongAnswerError("both masks are blank: agreement on nothing proves nothing; take another seed or model")
    return 2.0 * int((a & b).sum()) / total


def compare_answers(
    subject: StudyAnswer, peer: StudyAnswer, *, certified: bool = False, other_method: bool = False
) -> AnswerAgreement:
    """Compare two answers to one study.

    Args:
        subject, peer: ours and theirs.
        certified: ours is of an engine with a certificate.
        other_method: the peer's network is another; the verdict is "other" then, whatever it answers.

    Raises:
        WrongAnswerError: both masks are blank.
    """
    overlap = dice(subject.labels, peer.labels)
    boxes = _boxes_of_same_nodes(subject, peer)
    short = max((abs(a[0] - b[0]) for a, b in boxes), default=None)
    excess = max(((_volume(a) - _volume(b)) / _volume(b) for a, b in boxes), default=None)
    nodes = (len(subject.box_mm), len(peer.box_mm))
    suspicious = (len(subject.suspicious), len(peer.suspicious))
    stages = (subject.n_stage, peer.n_stage)
    verdict: Verdict = "same" if nodes[0] == nodes[1] and overlap >= DICE_AT_LEAST else "close"
    if not _same_suspicious(subject, peer):
        verdict = "different"
    least = CERTIFIED_DICE_AT_LEAST if certified else DICE_AT_LEAST
    if overlap < least or stages[0] != stages[1] or (excess is not None and excess > BOX_SLACK):
        verdict = "wrong"
    if other_method:
        verdict = "other"
    return AnswerAgreement(verdict, overlap, nodes, suspicious, stages, len(boxes), short, excess)


def worst_agreement(agreements: Sequence[AnswerAgreement]) -> dict[str, Any]:
    """Summarize several studies: the worst of each entry, sums of counts, and the stages one after another."""
    shorts = [a.short_axis_mm for a in agreements if a.short_axis_mm is not None]
    excesses = [a.box_excess for a in agreements if a.box_excess is not None]
    return {
        "verdict": worst_verdict([a.verdict for a in agreements]),
        "dice": min(a.dice for a in agreements),
        "nodes": [sum(a.nodes[side] for a in agreements) for side in (0, 1)],
        "suspicious": [sum(a.suspicious[side] for a in agreements) for side in (0, 1)],
        "n_stage": [" ".join(a.n_stage[side] for a in agreements) for side in (0, 1)],
        "same_voxels": sum(a.same_voxels for a in agreements),
        "short_axis_mm": max(shorts, default=None),
        "box_excess": max(excesses, default=None),
    }


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that ranks last in the order same, close, other, different, wrong."""
    return max(verdicts, key=_RANK.__getitem__)


def _same_suspicious(subject: StudyAnswer, peer: StudyAnswer) -> bool:
    """Does each suspicious node of either side share a voxel with a suspicious node of the other side?"""
    marks = [np.isin(answer.labels, answer.suspicious) for answer in (subject, peer)]
    both = marks[0] & marks[1]
    return all(set(answer.suspicious) == set(np.unique(answer.labels[both])) for answer in (subject, peer))


def _boxes_of_same_nodes(subject: StudyAnswer, peer: StudyAnswer) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Boxes of nodes whose voxels are the same on both sides and that both sides could measure."""
    inside = (subject.labels != 0) | (peer.labels != 0)
    pairs, counts = np.unique(np.stack([subject.labels[inside], peer.labels[inside]]), axis=1, return_counts=True)
    sizes = [np.bincount(labels.ravel()) for labels in (subject.labels, peer.labels)]
    boxes = []
    for (a, b), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        if a and b and count == sizes[0][a] == sizes[1][b]:
            ours, theirs = subject.box_mm[a - 1], peer.box_mm[b - 1]
            if ours is not None and theirs is not None:
                boxes.append((ours, theirs))
    return boxes


def _volume(box: tuple[float, ...]) -> float:
    return box[0] * box[1] * box[2]
