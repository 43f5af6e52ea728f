"""The ellipsoid of a network's certainty: against loops over voxels, and against ellipsoids."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from blocks import affine_of

from lnfast.ellipsoid import ellipsoid_short_mm, equivalent_short_mm
from lnfast.errors import UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules, measure_nodes, n_stage_by_rule
from lnfast_ext import label_components, measure_components


def holder(index: tuple[int, ...], size: tuple[int, ...], other_size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the voxel of another grid that contains the centre of a voxel."""
    return tuple((2 * i + 1) * m // (2 * n) for i, n, m in zip(index, size, other_size, strict=True))


def oracle(labels: np.ndarray, label: int, logits: np.ndarray, affine: np.ndarray) -> float:
    """Return the short axis by the definition, voxel by voxel."""
    native, network = labels.shape, logits.shape
    under = {j: labels[holder(j, network, native)] for j in product(*map(range, network))}
    held = {holder(tuple(i), native, network) for i in np.argwhere(labels == label).tolist()}
    own = {j for j, value in under.items() if value == label} | held
    other_held = {holder(tuple(i), native, network) for i in np.argwhere((labels > 0) & (labels != label)).tolist()}
    theirs = ({j for j, value in under.items() if value not in (0, label)} | other_held) - own
    steps = list(product((-1, 0, 1), repeat=3))

    def touches(j: tuple[int, ...], group: set[tuple[int, ...]]) -> bool:
        return any(tuple(a + b for a, b in zip(j, step, strict=True)) in group for step in steps)

    places, weights = [], []
    edges = affine[:3, :3] * (np.array(native) / network)[::-1]
    for j in under:
        if touches(j, own) and j not in theirs:
            shared = j not in own and touches(j, theirs)
            places.append(edges @ np.array(j[::-1], float))
            weights.append((0.5 if shared else 1.0) / (1 + np.exp(-float(logits[j]))))
    apart = np.array(places) - np.average(places, axis=0, weights=weights)
    moments = sum(w * np.outer(p, p) for w, p in zip(weights, apart, strict=True)) / sum(weights)
    return 2 * float(np.sqrt(5 * np.linalg.eigvalsh(moments + edges @ edges.T / 12)[0]))


@pytest.mark.parametrize("network", [(7, 9, 8), (4, 7, 6), (12, 9, 11)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_ellipsoid_agrees_with_loops_over_voxels(network: tuple[int, int, int], dtype: type) -> None:
    rng = np.random.default_rng(sum(network))
    labels, count = label_components((rng.random((5, 8, 9)) > 0.94).astype(np.uint8))
    logits = rng.normal(0, 3, network).astype(dtype)
    affine = affine_of((1.5, 1.25, 6.0), 10, -6, 15)
    bounds = measure_components(labels, count, affine)["bounds_zyx"]
    shorts_mm = ellipsoid_short_mm(labels, bounds, logits, affine)
    assert count > 5
    assert shorts_mm == pytest.approx(
        [oracle(labels, label, logits, affine) for label in range(1, count + 1)], rel=1e-9
    )
    stored = np.asfortranarray(labels)
    stored.flags.writeable = False
    assert ellipsoid_short_mm(stored, bounds, logits, affine) == shorts_mm


@pytest.mark.parametrize("columns", [32, 35, 40, 48, 64])
def test_a_neighbour_does_not_make_a_node_larger(columns: int) -> None:
    """On native pixels finer than the network's, two nodes may lie one pixel apart."""
    network = (8, 16, 32)
    for first in range(6, 12):
        labels = np.zeros((8, 16, columns), np.uint16)
        labels[2:6, 4:12, first : first + 6] = 1
        alone = labels.copy()
        labels[2:6, 4:12, first + 7 : first + 15] = 2
        shorts = []
        for nodes in (alone, labels):
            under = [np.arange(n) * m // n for n, m in zip(network, labels.shape, strict=True)]
            logits = np.where(nodes[np.ix_(*under)] > 0, 12.0, -12.0).astype(np.float32)
            affine = affine_of((1.2 * 32 / columns, 1.2, 6.0))
            bounds = measure_components(nodes, int(nodes.max()), affine)["bounds_zyx"]
            shorts.append(ellipsoid_short_mm(nodes, bounds, logits, affine)[0])
        assert shorts[1] <= shorts[0] + 1e-6


def test_a_solid_ellipsoid_has_its_own_short_axis() -> None:
    z, y, x = np.meshgrid(*(np.arange(n) - 20.3 for n in (41, 41, 41)), indexing="ij")
    semi_mm = (4.0, 6.0, 9.0)
    inside = (x * 0.5 / semi_mm[0]) ** 2 + (y * 0.5 / semi_mm[1]) ** 2 + (z * 0.5 / semi_mm[2]) ** 2 < 1
    assert equivalent_short_mm(inside.astype(float), np.eye(3) * 0.5) == pytest.approx(8.0, abs=0.05)


def test_one_voxel_has_a_short_axis_and_zero_weights_have_none() -> None:
    weights = np.zeros((3, 3, 3))
    assert np.isnan(equivalent_short_mm(weights, np.eye(3)))
    weights[1, 1, 1] = 0.2
    assert equivalent_short_mm(weights, np.diag((2.0, 3.0, 4.0))) == pytest.approx(2 * np.sqrt(5 / 12) * 2.0)


def test_steep_logits_overflow_nothing() -> None:
    labels = np.zeros((4, 6, 6), np.uint16)
    labels[1:3, 2:4, 2:4] = 1
    logits = np.where(labels > 0, 3e38, -3e38).astype(np.float32)
    block_mm = 2 * np.sqrt(5 / 12) * 4.0  # a block of 4 x 4 x 12 mm
    assert ellipsoid_short_mm(labels, [[[1, 3], [2, 4], [2, 4]]], logits, affine_of((2.0, 2.0, 6.0))) == [
        pytest.approx(block_mm)
    ]


def measured(rules: Rules, **more: Any) -> Any:
    array = np.zeros((8, 16, 16), np.uint16)
    array[3:5, 6:10, 6:10] = 1
    return measure_nodes(Volume(array, Grid(array.shape, affine_of((2.0, 2.0, 6.0)))), 1, rules, **more)


def test_it_stands_beside_the_other_rules_and_can_decide() -> None:
    logits = np.full((16, 16, 16), -20.0, np.float32)
    logits[5:11, 5:11, 5:11] = 20.0
    (node,) = measured(Rules(), logits=logits)
    (chosen,) = measured(Rules(short_axis="ellipsoid"), logits=logits)
    assert node.ellipsoid_short_mm == pytest.approx(2 * np.sqrt(5 / 12) * 12.0)
    assert node.short_axis_mm == node.box_mm[0] == pytest.approx(8.0)
    assert (node.suspicious, chosen.suspicious) == (False, True)
    assert chosen.short_axis_mm == chosen.short_mm("ellipsoid") == node.ellipsoid_short_mm
    assert n_stage_by_rule([node], Rules()) == {"box": "N0", "axial": "N1", "ellipsoid": "N1"}


def test_a_label_map_has_no_ellipsoid() -> None:
    (node,) = measured(Rules())
    assert node.ellipsoid_short_mm is None
    assert node.short_mm("ellipsoid") is None
    assert n_stage_by_rule([node], Rules())["ellipsoid"] is None
    with pytest.raises(UsageError, match=r"bad-rules.*label map"):
        measured(Rules(short_axis="ellipsoid"))
