"""Which studies are worst, by a rule that the page prints, and what went wrong in each, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.evaluation import Evaluation, Study
from lnfast.evaluate.inputs.pairing import StudyPair
from lnfast.measure import LymphNode, Rules
from lnfast.report.text import length_text

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
        node: of its own side.
        opposite: the node of the other side that shares most voxels with it; None where nothing does.
    """

    node: LymphNode
    opposite: LymphNode | None


@dataclass(frozen=True, eq=False)
class Case:
    """A study and its mistakes.

    Attributes:
        missed: of the truth, greatest short axis first.
        false: of the prediction, likewise.
    """

    study: Study
    pair: StudyPair
    missed: tuple[Mistake, ...]
    false: tuple[Mistake, ...]

    @property
    def stage_is_wrong(self) -> bool:
        """Truth and prediction are not of one stage."""
        return self.study.truth_stage != self.study.predicted_stage

    @property
    def culprit(self) -> tuple[Side, LymphNode] | None:
        """The node that the pictures are about; None where no suspicious one is missed or false."""
        if self.missed:
            return "truth", self.missed[0].node
        return ("prediction", self.false[0].node) if self.false else None


def worst(evaluation: Evaluation, most: int = SHOWN_AT_MOST) -> list[Case]:
    """The worst studies, the worst first, by `RULE`; fewer than ``most`` where fewer have an error."""
    cases = [_case(study, pair) for study, pair in zip(evaluation.studies, evaluation.pairing.pairs, strict=True)]
    return sorted((case for case in cases if _has_error(case)), key=_badness)[:most]


def in_words(case: Case, rules: Rules) -> Iterator[str]:
    """What went wrong, a sentence each."""
    study = case.study
    for mistakes, nodes, kind, alone, over in (
        (case.missed, study.truth, "Missed", "Nothing was outlined there", "The prediction there has"),
        (case.false, study.predicted, "False", "The truth has no node there", "The true node there has"),
    ):
        if not mistakes:
            continue
        whole, first = sum(node.suspicious for node in nodes), mistakes[0]
        size = f"{'' if len(mistakes) == 1 else 'the largest '}of {length_text(first.node.short_axis_mm, rules)} mm"
        yield f"{kind} suspicious nodes: {len(mistakes)} of {whole}, {size}."
        if first.opposite is None:
            yield f"{alone}."
        else:
            yield f"{over} {length_text(first.opposite.short_axis_mm, rules)} mm and is not suspicious."
    told = [
        f"{study.overlap[subset].dice.value:.2f} of {subset} nodes"
        if study.overlap[subset].dice.value is not None
        else f"of {subset} nodes undefined ({study.overlap[subset].dice.reason})"
        for subset in ("suspicious", "all")
    ]
    yield f"Dice {' and '.join(told)}."


def _case(study: Study, pair: StudyPair) -> Case:
    return Case(
        study,
        pair,
        _mistakes(study.shared, study.truth, study.predicted),
        _mistakes(study.shared.T, study.predicted, study.truth),
    )


def _mistakes(
    shared: NDArray[np.int64], nodes: Sequence[LymphNode], others: Sequence[LymphNode]
) -> tuple[Mistake, ...]:
    """As `lnfast.evaluate.measures.detection` counts them; ``shared`` is (nodes, others)."""
    suspicious = [other.id - 1 for other in others if other.suspicious]
    found = []
    for node in nodes:
        row = shared[node.id - 1]
        if node.suspicious and not row[suspicious].any():
            found.append(Mistake(node, others[int(row.argmax())] if row.any() else None))
    return tuple(sorted(found, key=lambda mistake: (-mistake.node.short_axis_mm, mistake.node.id)))


def _has_error(case: Case) -> bool:
    dice = case.study.overlap["all"].dice.value
    # The same voxels may still be other nodes: one to one side, two that touch to the other.
    return case.stage_is_wrong or case.culprit is not None or (dice is not None and dice < 1.0)


def _badness(case: Case) -> tuple[object, ...]:
    study = case.study
    stage = 2 if not case.stage_is_wrong else 0 if study.truth_stage == "N1" else 1
    dices = (study.overlap["suspicious"].dice.value, study.overlap["all"].dice.value)
    overlap = tuple(2.0 if dice is None else dice for dice in dices)
    return (stage, -len(case.missed), -len(case.false), *overlap, study.name)
