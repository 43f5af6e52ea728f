"""The comparison of predictions with truths, study by study: read, measure, compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.inputs.labelmap import LabelMap, Meaning, ReadAs
from lnfast.evaluate.inputs.pairing import Note, Pairing, StudyPair
from lnfast.evaluate.inputs.placement import read_label_maps
from lnfast.evaluate.inputs.run_reports import ReportedStudy, notes_on, predictions_by, report_beside
from lnfast.evaluate.inputs.scanners import groups_in, scanner_of
from lnfast.evaluate.measures.overlap import Overlap, overlap_by_match, overlap_by_subset
from lnfast.evaluate.measures.patient import PatientStaging
from lnfast.evaluate.measures.subsets import Subset
from lnfast.geometry import Grid, Volume, axes_toward, check_same_grid
from lnfast.matching import Match, NodeMap, compare
from lnfast.measure import LymphNode, NStage, Rules, largest, measure_nodes, n_stage
from lnfast.study import shown


@dataclass(frozen=True, eq=False)
class EvaluatedStudy:
    """The comparison of one study, without its voxels.

    Attributes:
        name: safe to print.
        group: scanner; None where it is unknown.
        truth, predicted: measured nodes, ``id`` from 1.
        truth_ids, predicted_ids: ``truth_ids[i]`` is the value of node ``i + 1`` in the file.
        truth_read_as, predicted_read_as: how the values of the label maps were interpreted.
        truth_stage, predicted_stage: by the rules.
        shared: ``(true nodes, predicted nodes)`` voxels that two nodes share.
        matches: one for each true node.
        unmatched: predictions that touch no true node.
        overlap: the measures of each subset.
        match_overlap: the measures of each match; None for a true node without a prediction.
    """

    name: str
    group: str | None
    truth: tuple[LymphNode, ...]
    predicted: tuple[LymphNode, ...]
    truth_ids: tuple[int, ...]
    predicted_ids: tuple[int, ...]
    truth_read_as: ReadAs
    predicted_read_as: ReadAs
    truth_stage: NStage
    predicted_stage: NStage
    shared: NDArray[np.int64]
    matches: tuple[Match, ...]
    unmatched: tuple[LymphNode, ...]
    overlap: Mapping[Subset, Overlap]
    match_overlap: tuple[Overlap | None, ...]

    @property
    def staging(self) -> PatientStaging:
        """The stages and the score that sensitivity, specificity and AUC are computed from."""
        node = largest(self.predicted)
        score = 0.0 if node is None else node.short_axis_mm
        return PatientStaging(self.truth_stage == "N1", self.predicted_stage == "N1", score)


@dataclass(frozen=True)
class Evaluation:
    """The comparison of all studies that have a truth.

    Attributes:
        studies: in the order of names.
        rules: by which both sides were measured.
        without_truth: names of predictions that were left out.
        groups_from: the source of the groups; None without groups.
        read_as: how the values of label maps are interpreted.
        predictions_by: model and engine of the runs' reports, as in metrics.json; None without reports.
        notes: ``(code, message)`` that the reader of the numbers must know.
        pairing: where the label maps lie; ``pairing.pairs[i]`` belongs to ``studies[i]``.
        images: folder of the studies' images, for pictures; None: where nnU-Net's raw layout has them.
    """

    studies: tuple[EvaluatedStudy, ...]
    rules: Rules
    without_truth: tuple[str, ...]
    groups_from: str | None
    read_as: Meaning
    predictions_by: dict[str, Any] | list[dict[str, Any]] | None
    notes: tuple[Note, ...]
    pairing: Pairing
    images: Path | None


def evaluate(
    pairing: Pairing,
    rules: Rules,
    *,
    groups: Path | None = None,
    read_as: Meaning = "auto",
    images: Path | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Evaluation:
    """Compare each truth with its prediction.

    Args:
        pairing: of two folders, see `lnfast.evaluate.inputs.pairing`.
        rules: which short axis and which limit; both sides are measured again, reports are not relied on.
        groups: a CSV file with the columns ``name`` and ``group`` and a line for each truth; else scanners are taken
            from ``truth/<name>.json`` where `lnfast phantom` wrote it.
        read_as: what the values of label maps mean on both sides; "auto" decides for each file by itself.
        images: a folder of the studies' images; it is not read here.
        progress: called after each study with the name of the next; "" after the last.

    Raises:
        UsageError: ``bad-groups``; ``grid-mismatch`` with the name of each study that has one.
        StudyError: of `read_label_maps`; ``not-measured``; ``bad-truth``.
        OSError: ``groups`` cannot be read.
    """
    pairs = pairing.pairs
    group_of = groups_in(groups, pairs) if groups else {pair.name: scanner_of(pair, pairing.truths) for pair in pairs}
    studies, reported, mismatches = [], [], []
    notes = list(pairing.notes)
    for pair, next_name in zip(pairs, [*(shown(pair.name) for pair in pairs[1:]), ""], strict=True):
        try:
            study, study_notes = _evaluate_study(pair, group_of[pair.name], rules, read_as)
        except UsageError as error:
            if error.code != "grid-mismatch":
                raise
            mismatches.append(error.message)
        else:
            studies.append(study)
            notes += study_notes
            reported.append(ReportedStudy(study.name, *report_beside(pair.prediction), study.predicted_stage))
        progress(next_name)
    if mismatches:
        raise UsageError("grid-mismatch", "; ".join(mismatches))
    notes += [*_notes_on_mixed_reading(studies), *notes_on(reported, rules)]
    without_truth = tuple(shown(name) for name in pairing.without_truth)
    if without_truth:
        names = ", ".join(without_truth)
        notes.append(("no-truth", f"{len(without_truth)} predictions have no truth and were left out: {names}"))
    ungrouped = sum(study.group is None for study in studies)
    if ungrouped:
        missing = "no scanner is named"
        if ungrouped < len(studies):
            missing = f"{ungrouped} of {len(studies)} have no scanner"
        notes.append(("no-groups", f"{missing}; --groups FILE.csv names them, for the comparison of scanners"))
    source = None if ungrouped == len(studies) else shown(groups.name) if groups else "truth/<name>.json"
    made_by = predictions_by(reported)
    return Evaluation(tuple(studies), rules, without_truth, source, read_as, made_by, tuple(notes), pairing, images)


def read_both(pair: StudyPair, meaning: Meaning) -> tuple[LabelMap, LabelMap]:
    """Read prediction and truth of one study, the prediction's axes in the truth's order.

    Raises:
        StudyError, UsageError, BackendError: of `read_label_maps`.
    """
    predicted, truth = read_label_maps(pair.prediction, pair.truth, meaning)
    return _in_order_of(truth.labels.grid, predicted), truth


def compare_study(
    name: str, predicted: LabelMap, truth: LabelMap, rules: Rules, group: str | None = None
) -> EvaluatedStudy:
    """Measure both label maps of one study and compare them.

    Where the prediction stores the same voxels in another order of axes, it is measured in the truth's.

    Raises:
        UsageError: ``grid-mismatch``.
        StudyError: ``not-measured``.
    """
    predicted = _in_order_of(truth.labels.grid, predicted)
    # Before anything is measured, so that a folder of mismatches fails early.
    check_same_grid(predicted.labels.grid, truth.labels.grid)
    predicted_nodes, true_nodes = (
        NodeMap(side.labels, measure_nodes(side.labels, len(side.ids), rules)) for side in (predicted, truth)
    )
    comparison = compare(predicted_nodes, true_nodes)
    return EvaluatedStudy(
        name=name,
        group=group,
        truth=true_nodes.nodes,
        predicted=predicted_nodes.nodes,
        truth_ids=truth.ids,
        predicted_ids=predicted.ids,
        truth_read_as=truth.read_as,
        predicted_read_as=predicted.read_as,
        truth_stage=n_stage(true_nodes.nodes, rules),
        predicted_stage=n_stage(predicted_nodes.nodes, rules),
        shared=comparison.shared,
        matches=comparison.matches,
        unmatched=comparison.unmatched,
        overlap=overlap_by_subset(predicted_nodes, true_nodes),
        match_overlap=overlap_by_match(predicted_nodes, true_nodes, comparison.matches),
    )


def _evaluate_study(
    pair: StudyPair, group: str | None, rules: Rules, meaning: Meaning
) -> tuple[EvaluatedStudy, list[Note]]:
    name = shown(pair.name)
    predicted, truth = read_both(pair, meaning)
    try:
        study = compare_study(name, predicted, truth, rules, group)
    except (StudyError, UsageError) as error:
        raise type(error)(error.code, f"{name}: {error.message}") from error
    notes = []
    for side, labels in (("prediction", predicted), ("truth", truth)):
        if labels.split:
            message = (
                f"{name}: {labels.split} of {len(labels.ids)} ids of the {side} lie in several pieces; are they nodes?"
            )
            notes.append(("split-ids", message))
        if labels.trailing_bytes:
            message = f"{name}: {labels.trailing_bytes} bytes follow the voxels of the {side}; they were ignored"
            notes.append(("trailing-data", message))
    return study, notes


def _notes_on_mixed_reading(studies: Sequence[EvaluatedStudy]) -> list[Note]:
    """Note a side whose files are read in two ways: touching nodes stay two in some files and are one in others."""
    notes = []
    sides = {
        "predictions": [study.predicted_read_as for study in studies],
        "truths": [study.truth_read_as for study in studies],
    }
    for side, readings in sides.items():
        counts = Counter(readings)
        if counts["ids"] and counts["components"]:
            reading = f"{counts['ids']} read as ids, {counts['components']} as a mask's components"
            notes.append(("mixed-reading", f"{side}: {reading}; --read-as ids or --read-as mask takes all alike"))
    return notes


def _in_order_of(grid: Grid, labels: LabelMap) -> LabelMap:
    """Return the label map with its axes in the order and direction of a grid's; positions in space do not change."""
    code = _axis_code(grid)
    if _axis_code(labels.labels.grid) == code:
        return labels
    turned = labels.labels.oriented(code)
    return replace(labels, labels=Volume(np.ascontiguousarray(turned.array), turned.grid))


def _axis_code(grid: Grid) -> str:
    """Return the directions in which the index grows along x, y, z, as `Volume.oriented` takes them."""
    letters = [""] * 3
    for axis, flip, pair in zip(*axes_toward(grid.affine, "RAS"), ("RL", "AP", "SI"), strict=True):
        letters[axis] = pair[flip]
    return "".join(letters)
