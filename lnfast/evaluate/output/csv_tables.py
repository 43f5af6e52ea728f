"""cases.csv with a line for each study, nodes.csv with a line for each true node and each prediction that touches none.

An empty cell is a measure that is undefined; the column ``undefined`` of cases.csv says why. A name or a group that
begins with one of = + - @, which a spreadsheet would take for a formula, gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lnfast.evaluate.evaluation import EvaluatedStudy
from lnfast.evaluate.measures.detection import detect
from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.subsets import SUBSETS
from lnfast.matching import dice_of_counts
from lnfast.measure import LymphNode, largest

Row = Mapping[str, Any]


# The columns of a node, on either side.
_NODE_FIELDS = ("short_axis_mm", "volume_mm3", "suspicious", "slice_limited", "x_ras_mm", "y_ras_mm", "z_ras_mm")
_NODE_COLUMNS = ["name", "kind", "truth_id", "predicted_id", "shared_voxels", "iou", "dice"]
_NODE_COLUMNS += [f"{side}_{key}" for side in ("truth", "predicted") for key in _NODE_FIELDS]


def cases_csv(studies: Sequence[EvaluatedStudy]) -> str:
    """Return sizes, stages, measures and counts of each study, as CSV text.

    Args:
        studies: at least one.
    """
    rows = [_case_row(study) for study in studies]
    return _csv_text(tuple(rows[0]), rows)


def nodes_csv(studies: Sequence[EvaluatedStudy]) -> str:
    """Return each true node with its match, then the predictions without a match, study by study, as CSV text.

    ``truth_id`` and ``predicted_id`` are the values in the label maps; where a map is a mask, the number of the
    component. One prediction may be the match of two true nodes.
    """
    return _csv_text(_NODE_COLUMNS, (row for study in studies for row in _node_rows(study)))


def _case_row(study: EvaluatedStudy) -> Row:
    row: dict[str, Any] = {
        "name": _without_formula(study.name),
        "group": None if study.group is None else _without_formula(study.group),
        "truth_read_as": study.truth_read_as,
        "predicted_read_as": study.predicted_read_as,
        "truth_stage": study.truth_stage,
        "predicted_stage": study.predicted_stage,
    }
    for side, nodes in (("truth", study.truth), ("predicted", study.predicted)):
        node = largest(nodes)
        row[f"{side}_nodes"] = len(nodes)
        row[f"{side}_suspicious"] = sum(item.suspicious for item in nodes)
        row[f"{side}_largest_short_axis_mm"] = None if node is None else node.short_axis_mm
        row[f"{side}_largest_volume_mm3"] = None if node is None else node.volume_mm3
    undefined = []
    for subset in SUBSETS:
        counts = detect(study.shared, study.truth, study.predicted, subset).any_voxel
        row |= {f"{subset}_tp": counts.tp, f"{subset}_fp": counts.fp, f"{subset}_fn": counts.fn}
        for measure in MEASURES:
            result = study.overlap[subset].value_of(measure)
            row[f"{subset}_{measure}"] = result.value
            if result.value is None:
                undefined.append(f"{subset}_{measure}: {result.reason}")
    return {**row, "undefined": "; ".join(undefined)}


def _node_rows(study: EvaluatedStudy) -> Iterator[Row]:
    for match in study.matches:
        yield _node_row(study, match.truth, match.predicted, match.shared_voxels)
    for node in study.unmatched:
        yield _node_row(study, None, node, 0)


def _node_row(study: EvaluatedStudy, truth: LymphNode | None, predicted: LymphNode | None, shared: int) -> Row:
    row: dict[str, Any] = {
        "name": _without_formula(study.name),
        "kind": "missed" if predicted is None else "extra",
        "shared_voxels": shared,
    }
    if truth is not None and predicted is not None:
        union = truth.voxels + predicted.voxels - shared
        dice = dice_of_counts(shared, truth.voxels, predicted.voxels)
        row |= {"kind": "matched", "iou": shared / union, "dice": dice}
    if truth is not None:
        row |= {"truth_id": study.truth_ids[truth.id - 1], **_node_cells("truth", truth)}
    if predicted is not None:
        row |= {"predicted_id": study.predicted_ids[predicted.id - 1], **_node_cells("predicted", predicted)}
    return row


def _node_cells(side: str, node: LymphNode) -> Row:
    values = (node.short_axis_mm, node.volume_mm3, int(node.suspicious), int(node.slice_limited))
    return {f"{side}_{key}": value for key, value in zip(_NODE_FIELDS, (*values, *node.centroid_ras_mm), strict=True)}


def _without_formula(name: str) -> str:
    """Return a cell that no spreadsheet computes; any other first character of a name is printable and harmless."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def _csv_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
