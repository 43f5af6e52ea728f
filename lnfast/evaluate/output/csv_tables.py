"""cases.csv, a line a study, and nodes.csv, a line for each true node and each prediction that touches none.

An empty cell is a measure that is undefined; ``undefined`` of cases.csv says why. A name or a group that begins with
one of = + - @, which a spreadsheet would take for a formula, has an apostrophe put before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lnfast.evaluate.evaluation import Study
from lnfast.evaluate.measures.detection import detect
from lnfast.evaluate.measures.overlap import MEASURES
from lnfast.evaluate.measures.values import SUBSETS
from lnfast.matching import dice_of_counts
from lnfast.measure import LymphNode, largest

Row = Mapping[str, Any]


# Of a node, on either side.
_TOLD = ("short_axis_mm", "volume_mm3", "suspicious", "slice_limited", "x_ras_mm", "y_ras_mm", "z_ras_mm")
_NODE_COLUMNS = ["name", "kind", "truth_id", "predicted_id", "shared_voxels", "iou", "dice"]
_NODE_COLUMNS += [f"{side}_{key}" for side in ("truth", "predicted") for key in _TOLD]


def cases_csv(studies: Sequence[Study]) -> str:
    """Sizes, stages, measures and counts of each study, at least one."""
    rows = [_case(study) for study in studies]
    return _text(tuple(rows[0]), rows)


def nodes_csv(studies: Sequence[Study]) -> str:
    """Each true node beside its match, then the predictions that touch nothing, study by study.

    ``truth_id`` and ``predicted_id`` are the values in the label maps; where a map is a mask, the number of the
    component. One prediction may stand beside two true nodes.
    """
    return _text(_NODE_COLUMNS, (row for study in studies for row in _nodes(study)))


def _case(study: Study) -> Row:
    row: dict[str, Any] = {
        "name": _harmless(study.name),
        "group": None if study.group is None else _harmless(study.group),
        "truth_read_as": study.truth_read_as,
        "predicted_read_as": study.predicted_read_as,
        "truth_stage": study.truth_stage,
        "predicted_stage": study.predicted_stage,
    }
    for side, nodes in (("truth", study.truth), ("predicted", study.predicted)):
        node = largest(nodes)
        row[f"{side}_nodes"] = len(nodes)
        row[f"{side}_suspicious"] = sum(one.suspicious for one in nodes)
        row[f"{side}_largest_short_axis_mm"] = None if node is None else node.short_axis_mm
        row[f"{side}_largest_volume_mm3"] = None if node is None else node.volume_mm3
    undefined = []
    for subset in SUBSETS:
        counts = detect(study.shared, study.truth, study.predicted, subset).any_voxel
        row |= {f"{subset}_tp": counts.tp, f"{subset}_fp": counts.fp, f"{subset}_fn": counts.fn}
        for measure in MEASURES:
            score = study.overlap[subset].score(measure)
            row[f"{subset}_{measure}"] = score.value
            if score.value is None:
                undefined.append(f"{subset}_{measure}: {score.reason}")
    return {**row, "undefined": "; ".join(undefined)}


def _nodes(study: Study) -> Iterator[Row]:
    for pair in study.pairs:
        yield _node_row(study, pair.truth, pair.predicted, pair.shared_voxels)
    for node in study.unmatched:
        yield _node_row(study, None, node, 0)


def _node_row(study: Study, truth: LymphNode | None, predicted: LymphNode | None, shared: int) -> Row:
    row: dict[str, Any] = {
        "name": _harmless(study.name),
        "kind": "missed" if predicted is None else "extra",
        "shared_voxels": shared,
    }
    if truth is not None and predicted is not None:
        union = truth.voxels + predicted.voxels - shared
        overlap = dice_of_counts(shared, truth.voxels, predicted.voxels)
        row |= {"kind": "matched", "iou": shared / union, "dice": overlap}
    if truth is not None:
        row |= {"truth_id": study.truth_ids[truth.id - 1], **_told("truth", truth)}
    if predicted is not None:
        row |= {"predicted_id": study.predicted_ids[predicted.id - 1], **_told("predicted", predicted)}
    return row


def _told(side: str, node: LymphNode) -> Row:
    values = (node.short_axis_mm, node.volume_mm3, int(node.suspicious), int(node.slice_limited))
    return {f"{side}_{key}": value for key, value in zip(_TOLD, (*values, *node.centroid_ras_mm), strict=True)}


def _harmless(name: str) -> str:
    """A cell that no spreadsheet computes; whatever else a name may begin with is printable and harmless."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def _text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
