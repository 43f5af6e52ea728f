"""A report becomes a row of the table of studies, and each of its nodes a row of the table of nodes.

The rows are made of `report.json`, so that those of studies that were run earlier are the same as those of new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnfast.cluster.messages import Row

STRING, INTEGER, NUMBER, BOOLEAN = "string", "int64", "float64", "bool"
_STAGES = ("read", "preprocess", "infer", "postprocess", "measure", "write", "total")
_RULES = ("box", "axial", "ellipsoid")

# Name -> type, in the order of the table. What a manifest carries along comes after these.
LEADING_COLUMNS = {"study": STRING, "path": STRING}
REPORT_COLUMNS = {
    "status": STRING,
    "code": STRING,
    "message": STRING,
    "n_stage": STRING,
    **{f"n_stage_{rule}": STRING for rule in _RULES},
    "nodes": INTEGER,
    "suspicious": INTEGER,
    "largest_id": INTEGER,
    "largest_short_axis_mm": NUMBER,
    "largest_volume_mm3": NUMBER,
    "warnings": STRING,
    "resumed": BOOLEAN,
    "created": STRING,
    "format": STRING,
    "b_value": NUMBER,
    **{f"shape_{axis}": INTEGER for axis in "zyx"},
    **{f"spacing_{axis}_mm": NUMBER for axis in "zyx"},
    "study_sha256": STRING,
    "model": STRING,
    "model_version": STRING,
    "model_sha256": STRING,
    "threshold": NUMBER,
    "peak": NUMBER,
    "backend": STRING,
    "backend_version": STRING,
    "device": STRING,
    "precision": STRING,
    "engine_sha256": STRING,
    "short_axis": STRING,
    "suspicious_mm": NUMBER,
    **{f"{stage}_ms": NUMBER for stage in _STAGES},
}
NODE_COLUMNS = {
    "study": STRING,
    "id": INTEGER,
    "suspicious": BOOLEAN,
    "slice_limited": BOOLEAN,
    "short_axis_mm": NUMBER,
    "volume_mm3": NUMBER,
    "voxels": INTEGER,
    "slices": INTEGER,
    **{f"box_{edge}_mm": NUMBER for edge in ("short", "mid", "long")},
    "axial_short_mm": NUMBER,
    "axial_long_mm": NUMBER,
    "ellipsoid_short_mm": NUMBER,
    **{f"centroid_{axis}_ras_mm": NUMBER for axis in "xyz"},
    **{f"box_centre_{axis}_ras_mm": NUMBER for axis in "xyz"},
    "mean_intensity": NUMBER,
    "mean_probability": NUMBER,
}


def study_row(report: Mapping[str, Any]) -> Row:
    """Return the row of a study.

    Args:
        report: as `lnfast.report.Report.to_dict`.

    Raises:
        KeyError, TypeError: it lacks an entry.
    """
    study, model, engine, rules = (report[part] for part in ("study", "model", "engine", "rules"))
    summary = report["summary"]
    largest = summary["largest"] or {}
    return {
        "study": study["name"],
        "status": "done",
        "n_stage": summary["n_stage"],
        **{f"n_stage_{rule}": summary["n_stage_by_rule"].get(rule) for rule in _RULES},
        "nodes": summary["nodes"],
        "suspicious": summary["suspicious"],
        **{f"largest_{name}": largest.get(name) for name in ("id", "short_axis_mm", "volume_mm3")},
        "created": report["created"],
        "format": study["format"],
        "b_value": study["b_value"],
        **{f"shape_{axis}": length for axis, length in zip("zyx", study["shape_zyx"], strict=True)},
        **{f"spacing_{axis}_mm": length for axis, length in zip("zyx", study["spacing_zyx_mm"], strict=True)},
        "study_sha256": study["sha256"],
        "model": model["name"],
        "model_version": model["version"],
        "model_sha256": model["sha256"],
        "threshold": model["threshold"],
        "peak": model["peak"],
        **{name: engine[name] for name in ("backend", "backend_version", "device", "precision", "engine_sha256")},
        "short_axis": rules["short_axis"],
        "suspicious_mm": rules["suspicious_mm"],
        **{f"{stage}_ms": report["timings_ms"][stage] for stage in _STAGES},
    }


def node_rows(report: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return a row for each node of a report.

    Raises:
        KeyError, TypeError: it lacks an entry.
    """
    return tuple(_node_row(report["study"]["name"], node) for node in report["nodes"])


def _node_row(study: str, node: Mapping[str, Any]) -> Row:
    row: Row = {"study": study, **{name: node[name] for name in NODE_COLUMNS if name in node}}
    row |= {f"box_{edge}_mm": length for edge, length in zip(("short", "mid", "long"), node["box_mm"], strict=True)}
    for point in ("centroid", "box_centre"):
        row |= {f"{point}_{axis}_ras_mm": at for axis, at in zip("xyz", node[f"{point}_ras_mm"], strict=True)}
    return row


def refused_row(code: str, message: str) -> Row:
    """Return the row of a study without a report."""
    return {"status": "refused", "code": code, "message": message}
