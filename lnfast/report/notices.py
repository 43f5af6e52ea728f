"""Warnings of a report: what its reader must know before relying on the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lnfast.admission import Admission
from lnfast.card import ModelCard
from lnfast.geometry import Grid
from lnfast.measure import LymphNode, Rules, ShortAxis, largest, n_stage_by_rule
from lnfast.report.lengths import direction_text, length_text
from lnfast.study import Study

# A voxel edge this much longer than both others is the distance between slices.
SLICE_SPACING_RATIO = 1.2
# A warning is a line: of more dropped marks than these only the number is said.
PLACES_AT_MOST = 3
_RULES: dict[ShortAxis, str] = {"box": "bounding box", "axial": "axial slice", "ellipsoid": "ellipsoid"}


@dataclass(frozen=True)
class Notice:
    """One warning: a stable code for programs, and a line for people."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def notices(
    study: Study,
    card: ModelCard,
    rules: Rules,
    nodes: Sequence[LymphNode],
    *,
    admission: Admission,
    faint: Sequence[LymphNode] = (),
) -> tuple[Notice, ...]:
    """Return everything that makes a result less certain than it looks, most important first.

    Args:
        study: that was read.
        card: of the model that was run.
        rules: by which the nodes were measured.
        nodes: of the study.
        admission: of the study.
        faint: what the card's peak dropped.
    """
    grid = study.volume.oriented(card.orientation).grid
    return (
        *(Notice(code, message) for code, message in admission.warnings),
        *_faint_marks(card, rules, faint),
        *_rules_disagree(rules, nodes),
        *_slice_limited(rules, nodes),
        *_ellipsoid_decides(rules),
        *_not_axial(grid),
        *_field_of_view(grid, card),
        *_provenance_notices(study),
    )


def _faint_marks(card: ModelCard, rules: Rules, faint: Sequence[LymphNode]) -> Iterator[Notice]:
    """Warn about dropped marks that would be suspicious: dropped in silence, they could make an N0 of an N1."""
    places = [
        f"{length_text(node.short_axis_mm, rules)} mm at {direction_text(node.centroid_ras_mm)}"
        for node in sorted(faint, key=lambda node: -node.short_axis_mm)
        if node.suspicious
    ]
    if places:
        more = f" and {len(places) - PLACES_AT_MOST} more" if len(places) > PLACES_AT_MOST else ""
        yield Notice(
            "faint-marks",
            f"nowhere is the network more than {card.peak or 0.0:.0%} sure of these, so they are not counted as nodes: "
            f"{'; '.join(places[:PLACES_AT_MOST])}{more}; look there yourself",
        )


def _rules_disagree(rules: Rules, nodes: Sequence[LymphNode]) -> Iterator[Notice]:
    stages = {rule: stage for rule, stage in n_stage_by_rule(nodes, rules).items() if stage is not None}
    if len(set(stages.values())) > 1:
        by_rule = ", ".join(f"{stage} by the {_RULES[rule]}" for rule, stage in stages.items())
        yield Notice("rules-disagree", f"{by_rule}: look at the nodes yourself")


def _slice_limited(rules: Rules, nodes: Sequence[LymphNode]) -> Iterator[Notice]:
    """Warn about the nodes that the stage depends on: those above the limit by any rule, and the largest."""
    if rules.short_axis != "box":
        return
    largest_node = largest(nodes)
    deciding = [
        node
        for node in nodes
        if node is largest_node or any(rules.exceeded(short_mm) for short_mm in _shorts_mm(node))
        if node.slice_limited
    ]
    if deciding:
        ids = ", ".join(str(node.id) for node in deciding)
        yield Notice(
            "slice-limited",
            f"the short edge of node {ids} only says how thick the slices are; judge by the axial diameters",
        )


def _shorts_mm(node: LymphNode) -> list[float]:
    return [short_mm for rule in _RULES if (short_mm := node.short_mm(rule)) is not None]


def _ellipsoid_decides(rules: Rules) -> Iterator[Notice]:
    if rules.short_axis == "ellipsoid":
        yield Notice(
            "ellipsoid-decides",
            "the ellipsoid takes its size from how sharply this network decides; its error was measured for the model "
            "pelvic-ln-edge 0.1.0 (docs/measurement.md) and is unknown for any other",
        )


def _not_axial(grid: Grid) -> Iterator[Notice]:
    z, y, x = grid.spacing_zyx_mm
    planes = {"sagittal": (x, max(y, z)), "coronal": (y, max(x, z))}
    for plane, (spacing, next_longest) in planes.items():
        if spacing > SLICE_SPACING_RATIO * next_longest:
            yield Notice(
                "not-axial",
                f"the slices seem to be {plane}: the model was made for axial ones, "
                "and axial diameters are taken across these slices",
            )


def _field_of_view(grid: Grid, card: ModelCard) -> Iterator[Notice]:
    through, *in_plane = grid.extent_zyx_mm
    known = (card.through_plane_mm, card.in_plane_mm, card.in_plane_mm)
    if any(not low <= extent <= high for extent, (low, high) in zip((through, *in_plane), known, strict=True)):
        yield Notice(
            "field-of-view",
            f"the field of view is {in_plane[1]:.0f} x {in_plane[0]:.0f} x {through:.0f} mm; the model knows "
            f"{card.in_plane_mm[0]:.0f} to {card.in_plane_mm[1]:.0f} mm in plane and "
            f"{card.through_plane_mm[0]:.0f} to {card.through_plane_mm[1]:.0f} mm through it",
        )


def _provenance_notices(study: Study) -> Iterator[Notice]:
    codes = {code for code, _ in study.provenance.warnings}
    if study.b_value is None and "unknown-b-value" not in codes:
        yield Notice("unknown-b-value", "no b-value came with the study: that it is a high-b image was taken on trust")
    for code, message in study.provenance.warnings:
        yield Notice(code, message)
    for note in study.provenance.notes:
        yield Notice("note", note)
