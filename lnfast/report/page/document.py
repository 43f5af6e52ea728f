"""The page. Text from a study's file or header is escaped and cannot become markup or script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from string import Template
from typing import Any

from lnfast.geometry import Volume
from lnfast.measure import LymphNode, NStage, ShortAxis
from lnfast.report.content import DISCLAIMER
from lnfast.report.lengths import direction_text, length_text
from lnfast.report.notices import Notice
from lnfast.report.page.scene import ORIENTATION, scene_of
from lnfast.report.page.voxels import PackedVoxels, pack_labels, pack_voxels
from lnfast.report.record import Report
from lnfast.report.text import image_text
from lnfast.study import Study

RULES: dict[ShortAxis, str] = {"box": "box", "axial": "axial", "ellipsoid": "ellipsoid"}
_RULE_TEXTS = {
    "box": "short edge of the smallest box around the node",
    "axial": "extent across the longest diameter in an axial slice",
    "ellipsoid": "short axis of the ellipsoid that spreads as the network's probability does",
}
# Warnings that a reader must not miss; they are listed first.
_PROMINENT = frozenset({"rules-disagree", "slice-limited", "ellipsoid-decides", "not-axial"})
# Lines of an A4 page beside the pictures, for the rows of the table and the warnings.
_PRINTED_LINES, _PRINTED_ROWS_AT_LEAST = 19, 6


def render(report: Report, study: Study, labels: Volume) -> bytes:
    """Return the page.

    Args:
        report: as it was written.
        study: whose voxels are shown.
        labels: native grid, value = node id.

    Returns:
        HTML in UTF-8; about 2 MB for 28x240x240 voxels.
    """
    voxels = pack_voxels(study.volume.oriented(ORIENTATION), study.slope, study.inter)
    nodes = sorted(report.nodes, key=lambda node: (-node.short_axis_mm, -node.volume_mm3, node.id))
    oriented_labels = labels.oriented(ORIENTATION)
    scene = scene_of(report, nodes, oriented_labels, voxels)
    style, script = _resource("page.css"), _resource("page.js")
    page = Template(_resource("page.html")).substitute(
        policy=f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        title=_text(f"{report.n_stage} - {report.study.name} - lnfast, research use only"),
        disclaimer=_text(DISCLAIMER),
        name=_text(report.study.name),
        study=_text(_study(report)),
        created=_text(report.created),
        stage=report.n_stage,
        stage_class=report.n_stage.lower(),
        rule=_text(f"{RULES[report.rules.short_axis]}: {_RULE_TEXTS[report.rules.short_axis]}"),
        by_rule=_text(_by_rule(report.n_stage_by_rule)),
        count=f"{len(report.suspicious)} of {len(report.nodes)}",
        limit=f"{report.rules.suspicious_mm:g}",
        largest=_largest(report),
        warnings=_warnings(report.warnings),
        table=_table(report, nodes),
        provenance=_provenance(report, voxels),
        scene=_json(scene),
        voxels="" if voxels is None else voxels.text,
        labels="" if voxels is None else pack_labels(oriented_labels),
        too_many="" if voxels is not None else " The study has more voxels than a page can carry.",
    )
    return page.encode()


def _resource(name: str) -> str:
    return (files("lnfast.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(value: str) -> str:
    """Return a string as text of the page; what does not print, such as bidirectional controls, is escaped."""
    return html.escape(
        "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in value)
    )


def _json(value: Any) -> str:
    """Return ASCII JSON for a script element; no character in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _study(report: Report) -> str:
    study = report.study
    voxels = " x ".join(str(size) for size in reversed(study.shape_zyx))
    spacing = " x ".join(f"{size:.2f}" for size in reversed(study.spacing_zyx_mm))
    image = image_text(study).replace("mm2", "mm\u00b2")
    return f"{image}, {voxels} voxels of {spacing} mm, {study.format}".replace(" x ", " \u00d7 ")


def _by_rule(stages: Mapping[ShortAxis, NStage | None]) -> str:
    return ", ".join(f"{stage} by {RULES[rule]}" for rule, stage in stages.items() if stage is not None)


def _largest(report: Report) -> str:
    node = report.largest
    if node is None:
        return "<strong>none</strong><span>no lymph node was found</span>"
    short = length_text(node.short_axis_mm, report.rules)
    return (
        f"<strong>{short} mm</strong><span>short axis of node {node.id}, the largest; "
        f"{node.volume_mm3 / 1000:.2f} cm\u00b3</span>"
    )


def _warnings(notices: Iterable[Notice]) -> str:
    items = []
    for notice in sorted(notices, key=lambda notice: notice.code not in _PROMINENT):
        kind = "loud" if notice.code in _PROMINENT else "note" if notice.code == "note" else "warning"
        items.append(f'<li class="{kind}"><b>{_text(notice.code)}</b> {_text(notice.message)}</li>')
    return "".join(items)


def _table(report: Report, nodes: list[LymphNode]) -> str:
    if not nodes:
        return '<p class="none">No lymph node was found.</p>'
    rule_in_use = report.rules.short_axis
    heads = "".join(
        f'<th scope="col"{_deciding(rule, rule_in_use)}>{title}'
        + ("<small>decides</small>" if rule == rule_in_use else "")
        for rule, title in RULES.items()
    )
    printed = max(_PRINTED_ROWS_AT_LEAST, _PRINTED_LINES - 2 * len(report.warnings))
    rows = "".join(_row(node, report, beyond=index >= printed) for index, node in enumerate(nodes))
    return (
        "<table><caption>Nodes by short axis, in mm; suspicious above "
        f"{report.rules.suspicious_mm:g} mm</caption><thead><tr>"
        f'<th scope="col">node{heads}<th scope="col" class="wide">axial long<th scope="col">cm\u00b3'
        f'<th scope="col" class="wide">slices<th scope="col" class="widest">centre'
        f"<tbody>{rows}</table>{_left_out(nodes[printed:])}"
    )


def _left_out(nodes: list[LymphNode]) -> str:
    """Return the line of the printed page that counts the rows it leaves out."""
    if not nodes:
        return ""
    suspicious = sum(node.suspicious for node in nodes)
    return (
        f'<p class="printed">{len(nodes)} smaller nodes, {suspicious or "none"} of them suspicious, are in report.json.'
    )


def _deciding(rule: ShortAxis, rule_in_use: ShortAxis) -> str:
    return ' class="deciding"' if rule == rule_in_use else ""


def _row(node: LymphNode, report: Report, *, beyond: bool) -> str:
    rule_in_use, cells = report.rules.short_axis, []
    for rule in RULES:
        short_mm = node.short_mm(rule)
        length = "\u2013" if short_mm is None else length_text(short_mm, report.rules)
        mark = '<small class="mark">slice-limited</small>' if rule == "box" and node.slice_limited else ""
        cells.append(f"<td{_deciding(rule, rule_in_use)}>{length}{mark}")
    kinds = " ".join(["suspicious"] * node.suspicious + ["beyond"] * beyond)
    mark = '<small class="mark">suspicious</small>' if node.suspicious else ""
    return (
        f'<tr data-node="{node.id}" class="{kinds}"><th scope="row"><button type="button">{node.id}{mark}</button>'
        f'{"".join(cells)}<td class="wide">{node.axial_long_mm:.1f}<td>{node.volume_mm3 / 1000:.2f}'
        f'<td class="wide">{node.slices}<td class="widest">{direction_text(node.centroid_ras_mm)}'
    )


def _provenance(report: Report, voxels: PackedVoxels | None) -> str:
    model, engine, timings_ms = report.model, report.engine, report.timings_ms
    fidelity = "not shown" if voxels is None else "as they were read"
    if voxels is not None and not voxels.exact:
        fidelity = f"shown in steps of {voxels.slope:.3g}; everything was measured on the study itself"
    choice = f"; {engine.choice}" if engine.choice else ""
    facts = {
        "Study": f"sha256 {report.study.sha256 or 'none: an array in memory'}",
        "Voxels": fidelity,
        "Model": f"{model.name} {model.version}, trained on {model.trained_on}; sha256 {model.sha256}",
        "Engine": f"{engine.backend} {engine.backend_version}, {engine.precision} on {engine.device}; self-test "
        f"{engine.self_test}{choice}; sha256 {engine.engine_sha256 or 'none'}",
        "Certificate": _certificate(engine.certificate),
        "Time": ", ".join(f"{stage} {duration_ms:.0f} ms" for stage, duration_ms in timings_ms.items()),
    }
    return "".join(f"<div><dt>{label}<dd>{_text(fact)}</div>" for label, fact in facts.items())


def _certificate(certificate: Mapping[str, Any] | None) -> str:
    """Return the certificate in one line; a manifest of another version may have fewer entries."""
    if certificate is None:
        return "none: the model itself was run, and nothing was converted"
    parts = ["passed" if certificate.get("passed") else "not passed"]
    if "studies" in certificate:
        parts[0] += f" on {certificate['studies']} studies beside {certificate.get('reference', 'FP32')}"
    for key, label in (
        ("stage_flips", "stage flips"),
        ("suspicious", "suspicious nodes"),
        ("short_axis_mm", "short axis, mm"),
        ("dice", "Dice"),
    ):
        if isinstance(values := certificate.get(key), Mapping):
            parts.append(
                f"{label}: " + ", ".join(f"{_spaced(name)} {_number(value)}" for name, value in values.items())
            )
    return "; ".join(parts)


def _spaced(name: object) -> str:
    return str(name).replace("_", " ")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
