"""Shapes of nodes, and what echo-planar imaging does to them, against slower and more obvious ways."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lnfast.phantom import Protocol, make_phantom
from lnfast.phantom.bodies import Body, sample_body, sample_chain, sample_realistic_body, surface_points
from lnfast.phantom.canvas import Canvas, Frame
from lnfast.phantom.echo import Bump, EchoPlanar, sample_echo
from lnfast.phantom.protocol import sample_grid
from lnfast.phantom.shapes import Union

PROSTATE = Protocol("prostate", (128, 84), (256.0, 168.0), 3.0, 19, 800.0, 63.0, 2700.0)
SQUEEZE = EchoPlanar((Bump((0.0, -30.0, 0.0), 9.0, 15.0), Bump((40.0, 20.0, 10.0), -4.0, 40.0)))


def width_mm(body: Body, along: NDArray[np.float64]) -> float:
    """How wide a body is along a unit vector, by the support function of each lobe."""
    reach = [(lobe.centre @ along, float(np.linalg.norm(lobe.semi * (lobe.axes @ along)))) for lobe in body.lobes]
    return float(max(at + r for at, r in reach) - min(at - r for at, r in reach))


@pytest.fixture(scope="module")
def bodies() -> list[Body]:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return [sample_body(rng, 9.0).placed(np.array((30.0, -20.0, 5.0)), turn) for _ in range(40)]


def test_bodies_are_of_three_kinds(bodies: list[Body]) -> None:
    assert {len(body.lobes) for body in bodies} == {1, 2, 3}


def test_the_box_is_as_wide_as_the_body_and_its_short_edge_as_asked(bodies: list[Body]) -> None:
    for body in bodies:
        _, axes, half = body.box()
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert 2 * half[0] == pytest.approx(9.0, rel=1e-6)
        widths = [width_mm(body, axis) for axis in axes]
        assert 2 * half == pytest.approx(widths, rel=1e-9)
        assert (np.diff(half) >= 0).all()


def test_no_turned_box_is_smaller(bodies: list[Body]) -> None:
    rng = np.random.default_rng(1)
    for body in bodies:
        _, axes, half = body.box()
        turned = np.linalg.qr(rng.normal(size=(60, 3, 3)))[0]
        volumes = [np.prod([width_mm(body, axis) for axis in rows]) for rows in turned]
        assert min(volumes) >= 8 * half.prod() * (1 - 2e-3)  # axes of 150 points a lobe
        closest = axes_nearby = 8 * half.prod()
        for _ in range(40):
            nudged = np.linalg.qr(axes + rng.normal(0, 0.02, (3, 3)))[0]
            axes_nearby = min(axes_nearby, float(np.prod([width_mm(body, axis) for axis in nudged])))
        assert axes_nearby >= closest * (1 - 5e-3)


def test_volume_is_what_random_points_say(bodies: list[Body]) -> None:
    rng = np.random.default_rng(2)
    for body in bodies:
        low, high = body.shape.bounds()
        points = rng.uniform(low, high, (200_000, 3)).T.astype(np.float32)
        share = float((body.shape.distance(points) < 0).mean())
        assert body.volume_mm3() == pytest.approx(share * float((high - low).prod()), rel=0.015)


def test_lobes_hang_together_and_the_hilum_lies_inside(bodies: list[Body]) -> None:
    for body in bodies:
        for one, next_one in zip(body.lobes, body.lobes[1:], strict=False):
            line = np.linspace(one.centre, next_one.centre, 50).T.astype(np.float32)
            assert (body.shape.distance(line) < 0).all()
        (hilum,) = body.hilum
        assert float(body.shape.distance(hilum.centre.astype(np.float32)[:, None])[0]) < 0.5


def test_a_realistic_body_has_no_hilum_where_none_is_wanted() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        body = sample_realistic_body(rng, 9.0)
        assert body.hilum == () and body.hilum_share() == 0


def test_a_hilum_of_half_a_node_is_about_half_of_it_and_leaves_a_ring_or_a_crescent() -> None:
    rng = np.random.default_rng(4)
    rings = crescents = 0
    for _ in range(60):
        body = sample_realistic_body(rng, 9.0, hilum_share=0.5)
        share, fat = body.hilum_share(), Union(body.hilum)
        assert 0.2 < share <= 0.56
        skin = np.concatenate([surface_points(lobe) for lobe in body.lobes]).T.astype(np.float32)
        outside = body.shape.distance(skin) > -0.05
        opens = (fat.distance(skin)[outside] < 0).mean()
        rings, crescents = rings + (opens == 0), crescents + (0 < opens < 0.7)
    assert rings > 10 and crescents > 10


def test_the_nodes_of_a_chain_touch_and_its_box_is_theirs() -> None:
    rng = np.random.default_rng(6)
    chains = [sample_chain(rng, 7.0, hilum_share=0.4) for _ in range(40)]
    assert {len(chain.lobes) for chain in chains} == {2, 3, 4, 5}
    assert sum(bool(chain.hilum) for chain in chains) > 20
    for chain in chains:
        _, axes, half = chain.box()
        assert 2 * half[0] == pytest.approx(7.0, rel=1e-6)
        assert 2 * half == pytest.approx([width_mm(chain, axis) for axis in axes], rel=1e-9)
        for one, next_one in zip(chain.lobes, chain.lobes[1:], strict=False):
            line = np.linspace(one.centre, next_one.centre, 50).T.astype(np.float32)
            assert (chain.shape.distance(line) < 0).all()


def test_a_tissue_is_shown_where_the_scanner_puts_it() -> None:
    frame = Frame(np.random.default_rng(5), np.array((3.0, -4.0, 5.0)))
    grid = sample_grid(PROSTATE, np.array((1.0, 2.0, 3.0)), 0.2)
    canvas = Canvas(grid, frame, SQUEEZE)
    for place in ((0, 0, 0), (9, 64, 40), (10, 80, 42), (18, 127, 83)):
        ras = canvas.to_ras(canvas.points[(slice(None), *place)].astype(float))
        np.testing.assert_allclose(ras, grid.to_ras_mm(place[::-1]), atol=0.05)


@pytest.mark.parametrize("tilt_rad", [0.0, 0.35])
def test_distortion_moves_tissue_along_the_phase_direction_and_loses_none(tilt_rad: float) -> None:
    frame = Frame(np.random.default_rng(5), np.zeros(3))
    grid = sample_grid(PROSTATE, np.zeros(3), tilt_rad)
    plain, squeezed = Canvas(grid, frame), Canvas(grid, frame, SQUEEZE)
    assert (plain.density == 1).all()
    before, after = (np.tensordot(canvas.forward, canvas.points, 1) for canvas in (plain, squeezed))
    moved = after - before
    assert 5 < moved.max() <= 9.1 and moved.min() > -4.1
    # Along a line the voxels hold all the tissue between its ends.
    steps = np.abs(np.gradient(before, axis=1))
    held = (squeezed.density * steps).sum(axis=1)
    ends = np.abs(after[:, 0] - after[:, -1])
    np.testing.assert_allclose(held, ends + steps.mean(), rtol=0.02)
    assert squeezed.density.max() > 1.3 and squeezed.density.min() < 0.8


def test_the_ghost_lies_half_a_field_away() -> None:
    image = np.zeros((2, 8, 4), np.float32)
    image[1, 1, 2] = 100
    ghosted = EchoPlanar(ghost=0.05).add_ghost(image)
    assert ghosted[1, 1, 2] == 100 and ghosted[1, 5, 2] == pytest.approx(5.0) and (ghosted != 0).sum() == 2


def test_slices_move_with_all_that_is_in_them() -> None:
    frame = Frame(np.random.default_rng(5), np.zeros(3))
    grid = sample_grid(PROSTATE, np.zeros(3), 0.1)
    still, moving = Canvas(grid, frame), Canvas(grid, frame, EchoPlanar(motion_mm=4.0, seed=1))
    body = sample_body(np.random.default_rng(3), 20.0).placed(grid.to_ras_mm((42, 64, 9)), np.eye(3))
    for canvas in (still, moving):
        canvas.signal[canvas.part_of(body.shape)[0]] += canvas.part_of(body.shape)[1]
    rows = np.arange(84)
    for z in (8, 9, 10):
        centres = [(canvas.signal[z] @ rows).sum() / canvas.signal[z].sum() for canvas in (still, moving)]
        assert (centres[1] - centres[0]) * 2.0 == pytest.approx(moving.slide_mm[z, 0], abs=0.1)
        # The voxel that is shown elsewhere still sees the same tissue: the atlas moved along with it.
        shift = (still.points[0, z] - moving.points[0, z]) * np.float32(frame.scale[0])
        np.testing.assert_allclose(shift, -moving.slide_mm[z, 0], atol=1e-3)


def test_faults_are_drawn_within_bounds() -> None:
    rng = np.random.default_rng(0)
    scans = [sample_echo(rng, np.array((0.0, -34.0, 5.0))) for _ in range(200)]
    gas = [scan.bumps[-1] for scan in scans]
    assert all(abs(bump.height_mm) / bump.width_mm * 0.61 <= 0.8 + 1e-9 for bump in gas)
    assert {np.sign(bump.height_mm) for bump in gas} == {-1.0, 1.0}
    assert 0 < sum(scan.ghost > 0 for scan in scans) < 200 and max(scan.ghost for scan in scans) <= 0.05
    assert 0 < sum(scan.motion_mm > 0 for scan in scans) < 200


def test_the_nodes_of_a_patient_are_not_all_ovals() -> None:
    nodes = [node for seed in range(3) for node in make_phantom(seed, protocol=PROSTATE).nodes]
    lobes = np.bincount([len(node.body.lobes) for node in nodes])
    assert lobes[1] > 0.3 * len(nodes) and lobes[2:].sum() > 0.2 * len(nodes)
