"""Artefacts of echo-planar imaging: distortion, ghost, motion between slices."""

from __future__ import annotations

import numpy as np
import pytest

from lnfast.phantom import Protocol
from lnfast.phantom.atlas import AtlasTransform
from lnfast.phantom.epi_artefacts import EpiArtefacts, OffResonance, sample_epi_artefacts
from lnfast.phantom.nodes.shape import sample_node_shape
from lnfast.phantom.protocol import sample_grid
from lnfast.phantom.tissue_image import TissueImage

PROSTATE = Protocol("prostate", (128, 84), (256.0, 168.0), 3.0, 19, 800.0, 63.0, 2700.0)
DISTORTION = EpiArtefacts((OffResonance((0.0, -30.0, 0.0), 9.0, 15.0), OffResonance((40.0, 20.0, 10.0), -4.0, 40.0)))


def test_a_tissue_is_shown_where_the_scanner_puts_it() -> None:
    transform = AtlasTransform(np.random.default_rng(5), np.array((3.0, -4.0, 5.0)))
    grid = sample_grid(PROSTATE, np.array((1.0, 2.0, 3.0)), 0.2)
    image = TissueImage(grid, transform, DISTORTION)
    for place in ((0, 0, 0), (9, 64, 40), (10, 80, 42), (18, 127, 83)):
        ras = image.to_ras(image.points[(slice(None), *place)].astype(float))
        np.testing.assert_allclose(ras, grid.to_ras_mm(place[::-1]), atol=0.05)


@pytest.mark.parametrize("tilt_rad", [0.0, 0.35])
def test_distortion_moves_tissue_along_the_phase_direction_and_loses_none(tilt_rad: float) -> None:
    transform = AtlasTransform(np.random.default_rng(5), np.zeros(3))
    grid = sample_grid(PROSTATE, np.zeros(3), tilt_rad)
    plain, distorted = TissueImage(grid, transform), TissueImage(grid, transform, DISTORTION)
    assert (plain.density == 1).all()
    before, after = (np.tensordot(image.phase_axis, image.points, 1) for image in (plain, distorted))
    moved = after - before
    assert 5 < moved.max() <= 9.1 and moved.min() > -4.1
    # Along a line the voxels hold all the tissue between its ends.
    steps = np.abs(np.gradient(before, axis=1))
    tissue = (distorted.density * steps).sum(axis=1)
    ends = np.abs(after[:, 0] - after[:, -1])
    np.testing.assert_allclose(tissue, ends + steps.mean(), rtol=0.02)
    assert distorted.density.max() > 1.3 and distorted.density.min() < 0.8


def test_the_ghost_lies_half_a_field_away() -> None:
    image = np.zeros((2, 8, 4), np.float32)
    image[1, 1, 2] = 100
    ghosted = EpiArtefacts(ghost=0.05).add_ghost(image)
    assert ghosted[1, 1, 2] == 100 and ghosted[1, 5, 2] == pytest.approx(5.0) and (ghosted != 0).sum() == 2


def test_slices_move_with_all_that_is_in_them() -> None:
    transform = AtlasTransform(np.random.default_rng(5), np.zeros(3))
    grid = sample_grid(PROSTATE, np.zeros(3), 0.1)
    still, moving = TissueImage(grid, transform), TissueImage(grid, transform, EpiArtefacts(motion_mm=4.0, seed=1))
    shape = sample_node_shape(np.random.default_rng(3), 20.0).placed(grid.to_ras_mm((42, 64, 9)), np.eye(3))
    for image in (still, moving):
        image.signal[image.coverage_of(shape)[0]] += image.coverage_of(shape)[1]
    rows = np.arange(84)
    for z in (8, 9, 10):
        centres = [(image.signal[z] @ rows).sum() / image.signal[z].sum() for image in (still, moving)]
        assert (centres[1] - centres[0]) * 2.0 == pytest.approx(moving.slice_shift_mm[z, 0], abs=0.1)
        # The voxel that is shown elsewhere still sees the same tissue: the atlas moved along with it.
        shift = (still.points[0, z] - moving.points[0, z]) * np.float32(transform.scale[0])
        np.testing.assert_allclose(shift, -moving.slice_shift_mm[z, 0], atol=1e-3)


def test_artefacts_are_drawn_within_bounds() -> None:
    rng = np.random.default_rng(0)
    scans = [sample_epi_artefacts(rng, np.array((0.0, -34.0, 5.0))) for _ in range(200)]
    gas = [scan.off_resonances[-1] for scan in scans]
    assert all(abs(source.peak_shift_mm) / source.sigma_mm * 0.61 <= 0.8 + 1e-9 for source in gas)
    assert {np.sign(source.peak_shift_mm) for source in gas} == {-1.0, 1.0}
    assert 0 < sum(scan.ghost > 0 for scan in scans) < 200 and max(scan.ghost for scan in scans) <= 0.05
    assert 0 < sum(scan.motion_mm > 0 for scan in scans) < 200
