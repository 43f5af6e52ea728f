"""Shapes of nodes, against slower and more obvious ways."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lnfast.phantom import Protocol, make_phantom
from lnfast.phantom.nodes.shape import (
    NodeShape,
    sample_node_chain,
    sample_node_shape,
    sample_realistic_node_shape,
    surface_points,
)
from lnfast.phantom.shapes import Union

PROSTATE = Protocol("prostate", (128, 84), (256.0, 168.0), 3.0, 19, 800.0, 63.0, 2700.0)


def width_mm(shape: NodeShape, along: NDArray[np.float64]) -> float:
    """Return the width of a shape along a unit vector, by the support function of each lobe."""
    reach = [(lobe.centre @ along, float(np.linalg.norm(lobe.semi * (lobe.axes @ along)))) for lobe in shape.lobes]
    return float(max(at + r for at, r in reach) - min(at - r for at, r in reach))


@pytest.fixture(scope="module")
def shapes() -> list[NodeShape]:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return [sample_node_shape(rng, 9.0).placed(np.array((30.0, -20.0, 5.0)), rotation) for _ in range(40)]


def test_shapes_are_of_three_kinds(shapes: list[NodeShape]) -> None:
    assert {len(shape.lobes) for shape in shapes} == {1, 2, 3}


def test_the_box_is_as_wide_as_the_shape_and_its_short_edge_as_requested(shapes: list[NodeShape]) -> None:
    for shape in shapes:
        _, axes, half = shape.minimum_box()
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
        assert 2 * half[0] == pytest.approx(9.0, rel=1e-6)
        widths = [width_mm(shape, axis) for axis in axes]
        assert 2 * half == pytest.approx(widths, rel=1e-9)
        assert (np.diff(half) >= 0).all()


def test_no_rotated_box_is_smaller(shapes: list[NodeShape]) -> None:
    rng = np.random.default_rng(1)
    for shape in shapes:
        _, axes, half = shape.minimum_box()
        rotated = np.linalg.qr(rng.normal(size=(60, 3, 3)))[0]
        volumes = [np.prod([width_mm(shape, axis) for axis in rows]) for rows in rotated]
        assert min(volumes) >= 8 * half.prod() * (1 - 2e-3)  # axes of 150 points a lobe
        closest = axes_nearby = 8 * half.prod()
        for _ in range(40):
            nudged = np.linalg.qr(axes + rng.normal(0, 0.02, (3, 3)))[0]
            axes_nearby = min(axes_nearby, float(np.prod([width_mm(shape, axis) for axis in nudged])))
        assert axes_nearby >= closest * (1 - 5e-3)


def test_volume_is_what_random_points_say(shapes: list[NodeShape]) -> None:
    rng = np.random.default_rng(2)
    for shape in shapes:
        low, high = shape.bounds()
        points = rng.uniform(low, high, (200_000, 3)).T.astype(np.float32)
        share = float((shape.distance(points) < 0).mean())
        assert shape.volume_mm3() == pytest.approx(share * float((high - low).prod()), rel=0.015)


def test_lobes_hang_together_and_the_hilum_lies_inside(shapes: list[NodeShape]) -> None:
    for shape in shapes:
        for first, second in zip(shape.lobes, shape.lobes[1:], strict=False):
            line = np.linspace(first.centre, second.centre, 50).T.astype(np.float32)
            assert (shape.distance(line) < 0).all()
        (hilum,) = shape.hilum
        assert float(shape.distance(hilum.centre.astype(np.float32)[:, None])[0]) < 0.5


def test_a_realistic_shape_has_no_hilum_where_none_is_wanted() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        shape = sample_realistic_node_shape(rng, 9.0)
        assert shape.hilum == () and shape.hilum_share() == 0


def test_a_hilum_of_half_a_node_is_about_half_of_it_and_leaves_a_ring_or_a_crescent() -> None:
    rng = np.random.default_rng(4)
    rings = crescents = 0
    for _ in range(60):
        shape = sample_realistic_node_shape(rng, 9.0, hilum_share=0.5)
        share, fat = shape.hilum_share(), Union(shape.hilum)
        assert 0.2 < share <= 0.56
        skin = np.concatenate([surface_points(lobe) for lobe in shape.lobes]).T.astype(np.float32)
        outside = shape.distance(skin) > -0.05
        opens = (fat.distance(skin)[outside] < 0).mean()
        rings, crescents = rings + (opens == 0), crescents + (0 < opens < 0.7)
    assert rings > 10 and crescents > 10


def test_the_nodes_of_a_chain_touch_and_its_box_is_theirs() -> None:
    rng = np.random.default_rng(6)
    chains = [sample_node_chain(rng, 7.0, hilum_share=0.4) for _ in range(40)]
    assert {len(chain.lobes) for chain in chains} == {2, 3, 4, 5}
    assert sum(bool(chain.hilum) for chain in chains) > 20
    for chain in chains:
        _, axes, half = chain.minimum_box()
        assert 2 * half[0] == pytest.approx(7.0, rel=1e-6)
        assert 2 * half == pytest.approx([width_mm(chain, axis) for axis in axes], rel=1e-9)
        for first, second in zip(chain.lobes, chain.lobes[1:], strict=False):
            line = np.linspace(first.centre, second.centre, 50).T.astype(np.float32)
            assert (chain.distance(line) < 0).all()


def test_the_nodes_of_a_patient_are_not_all_ovals() -> None:
    nodes = [node for seed in range(3) for node in make_phantom(seed, protocol=PROSTATE).nodes]
    lobes = np.bincount([len(node.shape.lobes) for node in nodes])
    assert lobes[1] > 0.3 * len(nodes) and lobes[2:].sum() > 0.2 * len(nodes)
