"""report.txt: the structured report of the clinical method, as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from lnfast.measure import LymphNode, Rules
from lnfast.report.content import DISCLAIMER, ReportContent, StudyFacts
from lnfast.report.lengths import length_text

WIDTH = 100
_RULE_TEXTS = {
    "box": "short edge of the minimum-volume bounding box of the voxel corners",
    "axial": "extent across the longest diameter, in the axial slice where that is largest (voxel corners)",
    "ellipsoid": "short axis of the ellipsoid that spreads as the network's probability does",
}
_COLUMNS = (
    ("node", 5),
    ("suspicious", 10),
    ("short mm", 9),
    ("box mm", 23),
    ("axial mm", 11),
    ("ellip mm", 8),
    ("cm3", 6),
    ("slices", 6),
    ("centre LPS mm", 14),
)


def render(report: ReportContent) -> str:
    """Return the report as lines of at most 100 ASCII characters."""
    return "".join(_plain(line).rstrip() + "\n" for line in _lines(report))


def image_text(study: StudyFacts) -> str:
    """Return which image a study is: of a DICOM study the number of its series, and the b-value in s/mm2."""
    b_value = "b-value unknown" if study.b_value is None else f"b = {study.b_value:g} s/mm2"
    if study.dicom is None:
        return b_value
    number = study.dicom.series_number
    series = "series without a number" if number is None else f"series {number}"
    return f"{series}, {'computed ' if study.dicom.computed_b else ''}{b_value}"


def _lines(report: ReportContent) -> Iterator[str]:
    yield "PELVIC LYMPH NODES ON DIFFUSION-WEIGHTED MR" + "RESEARCH USE ONLY".rjust(WIDTH - 43)
    yield "=" * WIDTH
    yield from _field("Study", _study(report))
    yield ""
    yield from _field("N stage", f"{report.n_stage} by the size criterion")
    limit = f"{report.rules.suspicious_mm:g}"
    yield from _field(
        "Suspicious", f"{len(report.suspicious)} of {len(report.nodes)} nodes (short diameter > {limit} mm)"
    )
    yield from _field("Largest node", _largest(report))
    yield from _field("Short diameter", _RULE_TEXTS[report.rules.short_axis])
    by_rule = ", ".join(f"{stage} by {rule}" for rule, stage in report.n_stage_by_rule.items() if stage is not None)
    yield from _field("Each rule", by_rule)
    yield ""
    if report.nodes:
        yield _row(tuple(label for label, _ in _COLUMNS))
        yield "-" * WIDTH
        yield from (_row(_cells(node, report.rules)) for node in report.nodes)
        if any(node.slice_limited for node in report.nodes):
            yield "* the short edge of the box only says how thick the slices are: see the axial diameters"
    else:
        yield "No lymph node was found."
    yield ""
    for notice in report.warnings:
        yield from _field("Warning", f"{notice.message} [{notice.code}]")
    if report.warnings:
        yield ""
    yield from _provenance(report)
    yield "-" * WIDTH
    yield from textwrap.wrap(DISCLAIMER, WIDTH)


def _study(report: ReportContent) -> str:
    study = report.study
    voxels = " x ".join(str(size) for size in reversed(study.shape_zyx))
    spacing = " x ".join(f"{size:.2f}" for size in reversed(study.spacing_zyx_mm))
    return f"{study.name} ({study.format}, {image_text(study)}, {voxels} voxels of {spacing} mm)"


def _largest(report: ReportContent) -> str:
    node = report.largest
    if node is None:
        return "none"
    short = length_text(node.short_axis_mm, report.rules)
    centimetres = f"{node.short_axis_mm / 10:.{len(short.partition('.')[2]) + 1}f}"
    return f"node {node.id}: short diameter {centimetres} cm ({short} mm), volume {node.volume_mm3 / 1000:.2f} cm3"


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))


def _cells(node: LymphNode, rules: Rules) -> tuple[str, ...]:
    right, anterior, superior = node.centroid_ras_mm
    return (
        str(node.id),
        "yes" if node.suspicious else "no",
        length_text(node.short_axis_mm, rules),
        " x ".join(f"{edge:.1f}" for edge in node.box_mm) + ("*" if node.slice_limited else " "),
        f"{node.axial_short_mm:.1f} x {node.axial_long_mm:.1f}",
        "-" if node.ellipsoid_short_mm is None else f"{node.ellipsoid_short_mm:.1f}",
        f"{node.volume_mm3 / 1000:.2f}",
        str(node.slices),
        f"{round(-right)} {round(-anterior)} {round(superior)}",
    )


def _provenance(report: ReportContent) -> Iterator[str]:
    model, engine, timings_ms = report.model, report.engine, report.timings_ms
    yield from _field(
        "Model", f"{model.name} {model.version}, trained on {model.trained_on}, sha256 {model.sha256[:12]}"
    )
    yield from _field(
        "Engine",
        f"{engine.backend} {engine.backend_version}, {engine.precision} on {engine.device}, "
        f"self-test {engine.self_test}",
    )
    yield from _field(
        "Time",
        f"{(timings_ms['total'] - timings_ms['write']) / 1000:.2f} s before writing, "
        f"{timings_ms['infer'] / 1000:.2f} s of it in the network",
    )
    yield from _field("Created", report.created)


def _field(label: str, value: str) -> list[str]:
    indent = " " * 16
    return textwrap.wrap(
        _plain(value), WIDTH, initial_indent=label.ljust(16), subsequent_indent=indent, break_on_hyphens=False
    )


def _plain(line: str) -> str:
    """Return printable ASCII: a file name may hold any character, and the report is printed on terminals."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        letter if letter.isascii() and letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in line
    )
