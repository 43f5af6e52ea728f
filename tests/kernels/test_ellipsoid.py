"""The ellipsoid of a network's certainty: against loops over voxels, and against ellipsoids."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import oracles
import pytest
from blocks import affine_of
from numpy.typing import NDArray

from lnfast_ext import ellipsoid_short_axes, equivalent_short_axis, label_components, measure_components

Index = tuple[int, ...]


def holder(index: Index, size: Index, other_size: Index) -> Index:
    """Return the voxel of another grid that contains the centre of a voxel."""
    return tuple((2 * i + 1) * m // (2 * n) for i, n, m in zip(index, size, other_size, strict=True))


def by_loops(
    labels: NDArray[Any], label: int, logits: NDArray[Any], affine: NDArray[Any], part: tuple[slice, ...]
) -> float:
    """Return the short axis by the definition, voxel by voxel; of the logits those of a part count."""
    native, network = labels.shape, logits.shape
    under = {j: labels[holder(j, network, native)] for j in product(*map(range, network))}
    held = {holder(tuple(i), native, network) for i in np.argwhere(labels == label).tolist()}
    own = {j for j, value in under.items() if value == label} | held
    other_held = {holder(tuple(i), native, network) for i in np.argwhere((labels > 0) & (labels != label)).tolist()}
    theirs = ({j for j, value in under.items() if value not in (0, label)} | other_held) - own
    steps = list(product((-1, 0, 1), repeat=3))

    def in_part(j: Index) -> bool:
        return all(where.start <= k < where.stop for k, where in zip(j, part, strict=True))

    def touches(j: Index, group: set[Index]) -> bool:
        around = (tuple(a + b for a, b in zip(j, step, strict=True)) for step in steps)
        return any(k in group and in_part(k) for k in around)

    places, weights = [], []
    edges = affine[:3, :3] * (np.array(native) / network)[::-1]
    for j in filter(in_part, under):
        if touches(j, own) and j not in theirs:
            shared = j not in own and touches(j, theirs)
            places.append(edges @ np.array(j[::-1], float))
            weights.append((0.5 if shared else 1.0) / (1 + np.exp(-float(logits[j]))))
    if not weights:
        return float("nan")
    apart = np.array(places) - np.average(places, axis=0, weights=weights)
    moments = sum(w * np.outer(p, p) for w, p in zip(weights, apart, strict=True)) / sum(weights)
    return 2 * float(np.sqrt(5 * np.linalg.eigvalsh(moments + edges @ edges.T / 12)[0]))


@pytest.mark.parametrize("network", [(7, 9, 8), (4, 7, 6), (12, 9, 11)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("start", [(0, 0, 0), (1, 2, 1)])
def test_the_ellipsoid_agrees_with_loops_over_voxels(network: Index, dtype: Any, start: Index) -> None:
    rng = np.random.default_rng(sum(network))
    labels, count = label_components((rng.random((5, 8, 9)) > 0.94).astype(np.uint8))
    logits = rng.normal(0, 3, network).astype(dtype)
    affine = oracles.oblique((1.5, 1.25, 6.0), 3)
    bounds = measure_components(labels, count, affine)["bounds_zyx"]
    part = tuple(slice(first, size - first) for first, size in zip(start, network, strict=True))
    wanted = [by_loops(labels, label, logits, affine, part) for label in range(1, count + 1)]
    assert count > 5
    for stored in (*oracles.layouts(labels), labels.astype(np.uint8), labels.astype(np.int64)):
        got = ellipsoid_short_axes(stored, bounds, logits[part], affine, grid=network, start=start)
        np.testing.assert_allclose(got, wanted, rtol=1e-11)


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
            shorts.append(ellipsoid_short_axes(nodes, bounds, logits, affine)[0])
        assert shorts[1] <= shorts[0] + 1e-6


def test_a_solid_ellipsoid_has_its_own_short_axis() -> None:
    z, y, x = np.meshgrid(*(np.arange(n) - 20.3 for n in (41, 41, 41)), indexing="ij")
    semi_mm = (4.0, 6.0, 9.0)
    inside = (x * 0.5 / semi_mm[0]) ** 2 + (y * 0.5 / semi_mm[1]) ** 2 + (z * 0.5 / semi_mm[2]) ** 2 < 1
    assert equivalent_short_axis(inside.astype(float), np.eye(3) * 0.5) == pytest.approx(8.0, abs=0.05)


def test_one_voxel_has_a_short_axis_and_zero_weights_have_none() -> None:
    weights = np.zeros((3, 3, 3))
    assert np.isnan(equivalent_short_axis(weights, np.eye(3)))
    weights[1, 1, 1] = 0.2
    assert equivalent_short_axis(weights, np.diag((2.0, 3.0, 4.0))) == pytest.approx(2 * np.sqrt(5 / 12) * 2.0)


def test_steep_logits_overflow_nothing() -> None:
    labels = np.zeros((4, 6, 6), np.uint16)
    labels[1:3, 2:4, 2:4] = 1
    logits = np.where(labels > 0, 3e38, -3e38).astype(np.float32)
    block_mm = 2 * np.sqrt(5 / 12) * 4.0  # a block of 4 x 4 x 12 mm
    (short_mm,) = ellipsoid_short_axes(labels, [[[1, 3], [2, 4], [2, 4]]], logits, affine_of((2.0, 2.0, 6.0)))
    assert short_mm == pytest.approx(block_mm)


def test_a_node_beyond_the_logits_has_no_axis() -> None:
    labels = np.zeros((6, 20, 24), np.uint16)
    labels[1, 2, 2] = 1
    logits = np.zeros((8, 8, 8), np.float32)
    bounds = [[[1, 2], [2, 3], [2, 3]]]
    assert np.isnan(ellipsoid_short_axes(labels, bounds, logits, np.eye(4), grid=(8, 16, 16), start=(0, 8, 8)))


@pytest.mark.parametrize("seed", range(20))
def test_the_short_axis_of_weights_is_numpys(seed: int) -> None:
    """Needles too, whose short axis is a thousandth of the long one."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    weights = rng.random(shape) * (rng.random(shape) > 0.3)
    step_mm = np.linalg.qr(rng.normal(size=(3, 3)))[0] * 10 ** rng.uniform(-2, 1, 3)
    if not weights.any():
        weights[0, 0, 0] = 1
    places = np.argwhere(weights > 0)[:, ::-1] @ step_mm.T
    moments = np.cov(places.T, aweights=weights[weights > 0], bias=True) + step_mm @ step_mm.T / 12
    wanted = 2 * np.sqrt(5 * np.linalg.eigvalsh(moments)[0])
    for stored in oracles.layouts(weights):
        assert equivalent_short_axis(stored, step_mm) == pytest.approx(wanted, rel=1e-9)
    single = weights.astype(np.float32)
    assert equivalent_short_axis(single, step_mm) == equivalent_short_axis(single.astype(np.float64), step_mm)


def test_no_nodes_have_no_axes() -> None:
    none = np.zeros((0, 3, 2), np.int32)
    shorts_mm = ellipsoid_short_axes(np.zeros((2, 3, 4), np.uint16), none, np.zeros((2, 3, 4), np.float32), np.eye(4))
    assert (shorts_mm.shape, shorts_mm.dtype) == ((0,), np.float64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bounds_zyx": [[[0, 3], [0, 3], [0, 4]]]}, "bounds_zyx: reach beyond"),
        ({"bounds_zyx": [[[-1, 2], [0, 3], [0, 4]]]}, "bounds_zyx: reach beyond"),
        ({"bounds_zyx": [[[1, 1], [0, 3], [0, 4]]]}, "bounds_zyx: reach beyond"),
        ({"bounds_zyx": [[0, 1], [0, 3], [0, 4]]}, "bounds_zyx: got shape"),
        ({"bounds_zyx": [[[0.0, 1.0], [0, 3], [0, 4]]]}, "bounds_zyx: got dtype float64"),
        ({"labels": np.zeros((2, 3, 4))}, "labels: got dtype float64"),
        ({"logits": np.zeros((2, 3, 4))}, "logits: got dtype float64"),
        ({"affine": np.zeros((4, 4))}, "affine"),
        ({"start": (1, 0, 0)}, "grid, start"),
    ],
)
def test_what_it_refuses(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "labels": np.ones((2, 3, 4), np.uint16),
        "bounds_zyx": [[[0, 2], [0, 3], [0, 4]]],
        "logits": np.zeros((2, 3, 4), np.float32),
        "affine": np.eye(4),
    }
    ellipsoid_short_axes(**arguments)
    with pytest.raises((TypeError, ValueError), match=message):
        ellipsoid_short_axes(**arguments | changes)


def test_weights_and_steps_that_it_refuses() -> None:
    with pytest.raises(TypeError, match="weights: got dtype float16"):
        equivalent_short_axis(np.ones((2, 2, 2), np.float16), np.eye(3))
    with pytest.raises(ValueError, match="step_mm"):
        equivalent_short_axis(np.ones((2, 2, 2)), np.diag((1.0, 1.0, np.inf)))
    with pytest.raises(ValueError, match="step_mm"):
        equivalent_short_axis(np.ones((2, 2, 2)), np.eye(4))
