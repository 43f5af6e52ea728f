"""Predictions against truths, study by study: read, measure, compare."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.nodes import NodeMap, Pair, compare, shared_voxels
from lnfast.evaluate.overlap import Overlap, overlap_by_pair, overlap_by_subset
from lnfast.evaluate.patient import Patient
from lnfast.evaluate.reading import LabelMap, Pairing, ReadAs, StudyPair, read_label_map, scanner_of
from lnfast.evaluate.score import Subset
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
    pairs: tuple[Pair, ...]
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
        notes: ``(code, message)`` of what the reader of the numbers must know.
    """

    studies: tuple[Study, ...]
    rules: Rules
    without_truth: tuple[str, ...]
    groups_from: str | None
    notes: tuple[tuple[str, str], ...]


def evaluate(
    pairing: Pairing,
    rules: Rules,
    *,
    groups: Path | None = None,
    done_with_one: Callable[[str], None] = lambda following: None,
) -> Evaluation:
    """Compare each truth with its prediction.

    Args:
        pairing: of two folders, see `lnfast.evaluate.reading`.
        rules: which short axis, which limit; both sides are measured again, whatever a report says.
        groups: a CSV file with the columns ``name`` and ``group`` and a line for each truth; else scanners are taken
            from ``truth/<name>.json`` where `lnfast phantom` wrote it.
        done_with_one: is told after each study which follows; "" after the last.

    Raises:
        UsageError: ``bad-groups``; ``grid-mismatch`` with the study's name.
        StudyError: of `read_label_map`; ``not-measured``; ``bad-truth``.
        OSError: ``groups`` cannot be read.
    """
    pairs = pairing.pairs
    named = _groups_in(groups, pairs) if groups else {pair.name: scanner_of(pair, pairing.truths) for pair in pairs}
    studies, notes = [], []
    for pair, following in zip(pairs, [*(shown(pair.name) for pair in pairs[1:]), ""], strict=True):
        study, told = _study(pair, named[pair.name], rules)
        studies.append(study)
        notes += told
        done_with_one(following)
    alone = tuple(shown(name) for name in pairing.without_truth)
    if alone:
        notes.append(("no-truth", f"{len(alone)} predictions have no truth and were left out: {', '.join(alone)}"))
    ungrouped = sum(study.group is None for study in studies)
    if ungrouped:
        what = "no scanner is named" if ungrouped == len(studies) else f"{ungrouped} of {len(studies)} have no scanner"
        notes.append(("no-groups", f"{what}; --groups FILE.csv names them, for the comparison of scanners"))
    source = None if ungrouped == len(studies) else groups.name if groups else "truth/<name>.json"
    return Evaluation(tuple(studies), rules, alone, source, tuple(notes))


def compare_study(name: str, predicted: LabelMap, truth: LabelMap, rules: Rules, group: str | None = None) -> Study:
    """Measure both label maps of one study and compare them.

    Raises:
        UsageError: ``grid-mismatch``.
        StudyError: ``not-measured``.
    """
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
        shared=shared_voxels(theirs, ours),
        pairs=comparison.pairs,
        unmatched=comparison.unmatched,
        overlap=overlap_by_subset(ours, theirs),
        matched=overlap_by_pair(ours, theirs, comparison.pairs),
    )


def _study(pair: StudyPair, group: str | None, rules: Rules) -> tuple[Study, list[tuple[str, str]]]:
    name = shown(pair.name)
    predicted, truth = read_label_map(pair.prediction), read_label_map(pair.truth)
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
    return study, notes


def _groups_in(file: Path, pairs: Sequence[StudyPair]) -> dict[str, str | None]:
    """The group of each study; names in the file are study names, and lines of others are passed over."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"name", "group"} <= set(rows.fieldnames or ()):
                raise UsageError("bad-groups", f"{file} has the columns {rows.fieldnames}, wanted name and group")
            groups = {row["name"]: (row["group"] or "").strip() for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError("bad-groups", f"{file} is no CSV file in UTF-8 ({error})") from error
    missing = [shown(pair.name) for pair in pairs if not groups.get(pair.name)]
    if missing:
        raise UsageError("bad-groups", f"{file} names no group for {', '.join(missing)}; add a line for each")
    return {pair.name: groups[pair.name] for pair in pairs}
