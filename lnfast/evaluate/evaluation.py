"""Predictions against truths, study by study: read, measure, compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.inputs.labelmap import LabelMap, Meaning, ReadAs, read_label_map
from lnfast.evaluate.inputs.pairing import Note, Pairing, StudyPair
from lnfast.evaluate.inputs.run_reports import Reported, notes_on, predictions_by, report_beside
from lnfast.evaluate.inputs.scanners import groups_in, scanner_of
from lnfast.evaluate.measures.overlap import Overlap, overlap_by_pair, overlap_by_subset
from lnfast.evaluate.measures.patient import Patient
from lnfast.evaluate.measures.values import Subset
from lnfast.geometry import Grid, Volume, axes_toward, check_same_grid
from lnfast.matching import Match, NodeMap, compare
from lnfast.measure import LymphNode, NStage, Rules, largest, measure_nodes, n_stage
from lnfast.study import shown


@dataclass(frozen=True, eq=False)
class Study:
    """One study's comparison; its voxels are not kept.

    Attributes:
        name: safe to print.
        group: scanner; None where nobody says.
        truth, predicted: measured nodes, ``id`` from 1.
        truth_ids, predicted_ids: ``truth_ids[i]`` is what the file calls node ``i + 1``.
        truth_read_as, predicted_read_as: what the label maps were taken for.
        truth_stage, predicted_stage: by the rules.
        shared: ``(true nodes, predicted nodes)`` voxels that two nodes share.
        pairs: one for each true node.
        unmatched: predictions that touch no true node.
        overlap: the measures of each subset.
        matched: the measures of each pair; None where nothing was predicted.
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
    pairs: tuple[Match, ...]
    unmatched: tuple[LymphNode, ...]
    overlap: Mapping[Subset, Overlap]
    matched: tuple[Overlap | None, ...]

    @property
    def patient(self) -> Patient:
        """The study as sensitivity, specificity and AUC see it."""
        node = largest(self.predicted)
        score = 0.0 if node is None else node.short_axis_mm
        return Patient(self.truth_stage == "N1", self.predicted_stage == "N1", score)


@dataclass(frozen=True)
class Evaluation:
    """All studies that have a truth.

    Attributes:
        studies: by name.
        rules: what both sides were measured by.
        without_truth: predictions that were not looked at.
        groups_from: what named the groups; None without groups.
        read_as: what single values were taken for.
        predictions_by: model and engine of the runs' reports, as in metrics.json; None without reports.
        notes: ``(code, message)`` of what the reader of the numbers must know.
        pairing: where the label maps lie; ``pairing.pairs[i]`` is of ``studies[i]``.
        images: where the studies lie, for pictures; None: where nnU-Net's raw layout has them.
    """

    studies: tuple[Study, ...]
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
    done_with_one: Callable[[str], None] = lambda following: None,
) -> Evaluation:
    """Compare each truth with its prediction.

    Args:
        pairing: of two folders, see `lnfast.evaluate.inputs.pairing`.
        rules: which short axis, which limit; both sides are measured again, whatever a report says.
        groups: a CSV file with the columns ``name`` and ``group`` and a line for each truth; else scanners are taken
            from ``truth/<name>.json`` where `lnfast phantom` wrote it.
        read_as: what the values of label maps mean on both sides; "auto" decides for each file by itself.
        images: a folder of the studies themselves; nothing is read from it here.
        done_with_one: is told after each study which follows; "" after the last.

    Raises:
        UsageError: ``bad-groups``; ``grid-mismatch`` with the name of each study that has one.
        StudyError: of `read_label_map`; ``not-measured``; ``bad-truth``.
        OSError: ``groups`` cannot be read.
    """
    pairs = pairing.pairs
    named = groups_in(groups, pairs) if groups else {pair.name: scanner_of(pair, pairing.truths) for pair in pairs}
    studies, reported, mismatches = [], [], []
    notes = list(pairing.notes)
    for pair, following in zip(pairs, [*(shown(pair.name) for pair in pairs[1:]), ""], strict=True):
        try:
            study, told = _study(pair, named[pair.name], rules, read_as)
        except UsageError as error:
            if error.code != "grid-mismatch":
                raise
            mismatches.append(error.message)
        else:
            studies.append(study)
            notes += told
            reported.append(Reported(study.name, *report_beside(pair.prediction), study.predicted_stage))
        done_with_one(following)
    if mismatches:
        raise UsageError("grid-mismatch", "; ".join(mismatches))
    notes += [*_mixed(studies), *notes_on(reported, rules)]
    alone = tuple(shown(name) for name in pairing.without_truth)
    if alone:
        notes.append(("no-truth", f"{len(alone)} predictions have no truth and were left out: {', '.join(alone)}"))
    ungrouped = sum(study.group is None for study in studies)
    if ungrouped:
        what = "no scanner is named" if ungrouped == len(studies) else f"{ungrouped} of {len(studies)} have no scanner"
        notes.append(("no-groups", f"{what}; --groups FILE.csv names them, for the comparison of scanners"))
    source = None if ungrouped == len(studies) else shown(groups.name) if groups else "truth/<name>.json"
    by = predictions_by(reported)
    return Evaluation(tuple(studies), rules, alone, source, read_as, by, tuple(notes), pairing, images)


def read_both(pair: StudyPair, meaning: Meaning) -> tuple[LabelMap, LabelMap]:
    """Prediction and truth of one study, the prediction's axes in the truth's order.

    Raises:
        StudyError: of `read_label_map`.
    """
    predicted, truth = read_label_map(pair.prediction, meaning), read_label_map(pair.truth, meaning)
    return _in_order_of(truth.labels.grid, predicted), truth


def compare_study(name: str, predicted: LabelMap, truth: LabelMap, rules: Rules, group: str | None = None) -> Study:
    """Measure both label maps of one study and compare them.

    Where the prediction stores the same voxels in another order of axes, it is measured in the truth's.

    Raises:
        UsageError: ``grid-mismatch``.
        StudyError: ``not-measured``.
    """
    predicted = _in_order_of(truth.labels.grid, predicted)
    # Before anything is measured, so that a folder of mismatches is soon told.
    check_same_grid(predicted.labels.grid, truth.labels.grid)
    ours, theirs = (
        NodeMap(side.labels, measure_nodes(side.labels, len(side.ids), rules)) for side in (predicted, truth)
    )
    comparison = compare(ours, theirs)
    return Study(
        name=name,
        group=group,
        truth=theirs.nodes,
        predicted=ours.nodes,
        truth_ids=truth.ids,
        predicted_ids=predicted.ids,
        truth_read_as=truth.read_as,
        predicted_read_as=predicted.read_as,
        truth_stage=n_stage(theirs.nodes, rules),
        predicted_stage=n_stage(ours.nodes, rules),
        shared=comparison.shared,
        pairs=comparison.matches,
        unmatched=comparison.unmatched,
        overlap=overlap_by_subset(ours, theirs),
        matched=overlap_by_pair(ours, theirs, comparison.matches),
    )


def _study(pair: StudyPair, group: str | None, rules: Rules, meaning: Meaning) -> tuple[Study, list[Note]]:
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


def _mixed(studies: Sequence[Study]) -> list[Note]:
    """A side whose files mean different things by a value: touching nodes stay two in some and are one in others."""
    notes = []
    sides = {
        "predictions": [one.predicted_read_as for one in studies],
        "truths": [one.truth_read_as for one in studies],
    }
    for side, words in sides.items():
        counts = Counter(words)
        if counts["ids"] and counts["components"]:
            told = f"{counts['ids']} read as ids, {counts['components']} as a mask's components"
            notes.append(("mixed-reading", f"{side}: {told}; --read-as ids or --read-as mask takes all alike"))
    return notes


def _in_order_of(grid: Grid, labels: LabelMap) -> LabelMap:
    """The same label map with its axes running as those of a grid; what lies elsewhere still does."""
    code = _axis_code(grid)
    if _axis_code(labels.labels.grid) == code:
        return labels
    turned = labels.labels.oriented(code)
    return replace(labels, labels=Volume(np.ascontiguousarray(turned.array), turned.grid))


def _axis_code(grid: Grid) -> str:
    """Where the index grows to along x, y, z, as `Volume.oriented` takes it."""
    letters = [""] * 3
    for axis, flip, pair in zip(*axes_toward(grid.affine, "RAS"), ("RL", "AP", "SI"), strict=True):
        letters[axis] = pair[flip]
    return "".join(letters)
