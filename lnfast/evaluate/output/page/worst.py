"""The worst studies, by a rule that the page prints, and what went wrong in each, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.evaluation import EvaluatedStudy, Evaluation
from lnfast.evaluate.inputs.pairing import StudyPair
from lnfast.measure import LymphNode, Rules
from lnfast.report.lengths import length_text

SHOWN_AT_MOST = 10
RULE = (
    "A wrong stage first, N1 called N0 before N0 called N1; then the more suspicious nodes missed; then the more false "
    "ones; then the lower Dice of suspicious nodes; then the lower Dice of all nodes, undefined last. A study in which "
    "none of this is wrong is not shown. The slice is the one with most wrong voxels of the "
    "largest missed suspicious node, else of the largest false one, else of the node that has most wrong voxels."
)
Side = Literal["truth", "prediction"]


@dataclass(frozen=True)
class Mistake:
    """A suspicious node that no suspicious node of the other side touches.

    Attributes:
        node: the suspicious node.
        opposite: the node of the other side that shares most voxels with it; None where none shares a voxel.
    """

    node: LymphNode
    opposite: LymphNode | None


@dataclass(frozen=True, eq=False)
class StudyMistakes:
    """A study and its mistakes.

    Attributes:
        study: the comparison.
        pair: its label maps.
        missed: suspicious nodes of the truth, greatest short axis first.
        false: suspicious nodes of the prediction, greatest short axis first.
    """

    study: EvaluatedStudy
    pair: StudyPair
    missed: tuple[Mistake, ...]
    false: tuple[Mistake, ...]

    @property
    def stage_is_wrong(self) -> bool:
        """Whether truth and prediction differ in stage."""
        return self.study.truth_stage != self.study.predicted_stage

    @property
    def main_node(self) -> tuple[Side, LymphNode] | None:
        """The node that the pictures show; None where no suspicious node is missed or false."""
        if self.missed:
            return "truth", self.missed[0].node
        return ("prediction", self.false[0].node) if self.false else None


def worst_studies(evaluation: Evaluation, at_most: int = SHOWN_AT_MOST) -> list[StudyMistakes]:
    """Return the worst studies, the worst first, by `RULE`; fewer than ``at_most`` where fewer have an error."""
    pairs = zip(evaluation.studies, evaluation.pairing.pairs, strict=True)
    cases = [_with_mistakes(study, pair) for study, pair in pairs]
    return sorted((case for case in cases if _has_error(case)), key=_rank)[:at_most]


def describe_mistakes(case: StudyMistakes, rules: Rules) -> Iterator[str]:
    """Yield what went wrong, a sentence at a time."""
    study = case.study
    for mistakes, nodes, kind, without_opposite, with_opposite in (
        (case.missed, study.truth, "Missed", "Nothing was outlined there", "The prediction there has"),
        (case.false, study.predicted, "False", "The truth has no node there", "The true node there has"),
    ):
        if not mistakes:
            continue
        suspicious, first = sum(node.suspicious for node in nodes), mistakes[0]
        size = f"{'' if len(mistakes) == 1 else 'the largest '}of {length_text(first.node.short_axis_mm, rules)} mm"
        yield f"{kind} suspicious nodes: {len(mistakes)} of {suspicious}, {size}."
        if first.opposite is None:
            yield f"{without_opposite}."
        else:
            yield f"{with_opposite} {length_text(first.opposite.short_axis_mm, rules)} mm and is not suspicious."
    dice = [
        f"{study.overlap[subset].dice.value:.2f} of {subset} nodes"
        if study.overlap[subset].dice.value is not None
        else f"of {subset} nodes undefined ({study.overlap[subset].dice.reason})"
        for subset in ("suspicious", "all")
    ]
    yield f"Dice {' and '.join(dice)}."


def _with_mistakes(study: EvaluatedStudy, pair: StudyPair) -> StudyMistakes:
    return StudyMistakes(
        study,
        pair,
        _mistakes(study.shared, study.truth, study.predicted),
        _mistakes(study.shared.T, study.predicted, study.truth),
    )


def _mistakes(
    shared: NDArray[np.int64], nodes: Sequence[LymphNode], opposite: Sequence[LymphNode]
) -> tuple[Mistake, ...]:
    """Return the mistakes among nodes, as `lnfast.evaluate.measures.detection` counts them.

    Args:
        shared: ``(nodes, opposite nodes)`` voxels that two nodes share.
        nodes: of one side.
        opposite: the nodes of the other side.
    """
    suspicious = [node.id - 1 for node in opposite if node.suspicious]
    mistakes = []
    for node in nodes:
        row = shared[node.id - 1]
        if node.suspicious and not row[suspicious].any():
            mistakes.append(Mistake(node, opposite[int(row.argmax())] if row.any() else None))
    return tuple(sorted(mistakes, key=lambda mistake: (-mistake.node.short_axis_mm, mistake.node.id)))


def _has_error(case: StudyMistakes) -> bool:
    dice = case.study.overlap["all"].dice.value
    # Equal masks may still hold different nodes: one node on one side, two that touch on the other.
    return case.stage_is_wrong or case.main_node is not None or (dice is not None and dice < 1.0)


def _rank(case: StudyMistakes) -> tuple[object, ...]:
    study = case.study
    stage = 2 if not case.stage_is_wrong else 0 if study.truth_stage == "N1" else 1
    dices = (study.overlap["suspicious"].dice.value, study.overlap["all"].dice.value)
    overlap = tuple(2.0 if dice is None else dice for dice in dices)
    return (stage, -len(case.missed), -len(case.false), *overlap, study.name)
