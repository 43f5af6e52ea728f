"""Warnings of a report: what is said, and what is not."""

from __future__ import annotations

import re

import numpy as np
from blocks import affine_of, block, stored_in_all_ways
from reports import codes, report_of, two_nodes

from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules, measure_nodes
from lnfast.study import Provenance


def test_warnings_of_a_stage_that_hangs_on_the_rule() -> None:
    flat = block((1, 8, 8), affine_of((1.5, 1.5, 6.0)))
    report = report_of(flat)
    assert codes(report) == ["rules-disagree", "slice-limited"]
    assert report.n_stage == "N0"
    assert "6.0 x 12.0 x 12.0*" in report.text()
    assert codes(report_of(flat, Rules(short_axis="axial"))) == ["rules-disagree"]


def test_dropped_marks_are_only_told_of_where_they_would_be_suspicious() -> None:
    sizes = (5, 5, 9, 6, 7, 8)  # voxels of 1.5 mm
    faint = []
    for place, size in enumerate(sizes):
        labels = block((size, size, size), affine_of((1.5, 1.5, 1.5), 100 - 60 * place, 20, -70))
        faint += measure_nodes(labels, 1, Rules(), orientation="LPS")
    report = report_of(two_nodes(), faint=faint)
    assert codes(report) == ["faint-marks"] and report.n_stage == report_of(two_nodes()).n_stage
    (message,) = (notice.message for notice in report.warnings)
    shown = re.findall(r"([\d.]+) mm at ([LR] \d+, [PA] \d+, [SI] \d+) mm", message)
    assert [short for short, _ in shown] == ["13.5", "12.0", "10.5"] and "and 1 more" in message
    expected = [node.centroid_ras_mm for node in (faint[2], faint[5], faint[4])]
    for (_, place_text), ras_mm in zip(shown, expected, strict=True):
        signs = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1, "I": -1}
        found = [signs[part[0]] * int(part[2:]) for part in place_text.split(", ")]
        np.testing.assert_allclose(found, ras_mm, atol=0.5)
    assert codes(report_of(two_nodes(), faint=faint[:2])) == []


def test_a_small_flat_node_beside_a_large_one_is_no_warning() -> None:
    labels = block((3, 7, 7), affine_of((1.5, 1.5, 4.0)))
    labels.array[10:11, 14:17, 15:18] = 2
    report = report_of(labels)
    assert [node.slice_limited for node in report.nodes] == [False, True]
    assert codes(report) == []


def test_a_field_of_view_that_the_model_never_saw_is_said() -> None:
    report = report_of(two_nodes(), in_plane_mm=(200.0, 500.0))
    assert codes(report) == ["field-of-view"]
    assert "33 x 30 x 72 mm" in str(report.warnings[0])


def test_slices_that_are_not_axial_are_said_however_they_are_stored() -> None:
    grid = Grid((12, 20, 10), affine_of((6.0, 1.5, 1.5)))
    for stored in stored_in_all_ways(Volume(np.zeros(grid.shape, np.uint16), grid)):
        (notice,) = report_of(stored, through_plane_mm=(10.0, 500.0)).warnings
        assert notice.code == "not-axial"
        assert "sagittal" in notice.message
    nearly_cubic = Volume(np.zeros((20, 20, 20), np.uint16), Grid((20, 20, 20), affine_of((1.7, 1.5, 1.5))))
    assert codes(report_of(nearly_cubic)) == []


def test_what_the_reader_noticed_is_said_once() -> None:
    provenance = Provenance("nifti-1", warnings=(("unknown-b-value", "taken on trust"),), notes=("took volume 2 of 3",))
    assert codes(report_of(two_nodes(), provenance=provenance, b_value=None)) == ["unknown-b-value", "note"]
