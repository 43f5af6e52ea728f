"""measure_components against plain Python, in all orientations, and on nodes whose millimetres are known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import oracles
import pytest
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from lnfast_ext import Components, label_components, measure_components, min_volume_box

AFFINES = [
    np.diag([1.0, 1.0, 1.0, 1.0]),
    np.array([[-0.9, 0, 0, 120], [0, -1.1, 0, 80], [0, 0, 6.5, -300], [0, 0, 0, 1.0]]),
    oracles.oblique((1.2, 0.8, 7.0), 3),
]
MM = ("volume_mm3", "box_mm", "axial_short_mm", "axial_long_mm", "centroid_ras_mm", "box_centre_ras_mm")


def check(labels: NDArray[Any], count: int, affine: NDArray[Any], nodes: NDArray[np.void]) -> None:
    """Everything but the minimality of the box."""
    assert nodes.shape == (count,)
    for node, wanted in zip(nodes, oracles.measure(labels, count, affine), strict=True):
        for field, value in wanted.items():
            np.testing.assert_allclose(node[field], value, rtol=1e-10, atol=1e-9, err_msg=field)
        points = oracles.to_mm(oracles.corners_zyx(labels == node["label"]), affine)
        oracles.assert_box(points, (node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]))
        assert np.isnan(node["mean_intensity"])
        assert np.isnan(node["mean_probability"])


def test_the_record_is_the_contract() -> None:
    nodes = measure_components(np.zeros((1, 1, 1), np.int32), 0, np.eye(4))
    assert nodes.shape == (0,)
    assert nodes.dtype.names == (
        "label", "voxels", "slices", "volume_mm3", "centroid_ras_mm", "box_mm", "box_centre_ras_mm", "box_axes_ras",
        "axial_short_mm", "axial_long_mm", "slice_limited", "bounds_zyx", "mean_intensity", "mean_probability",
    )  # fmt: skip


def test_every_tiny_image() -> None:
    """All nodes of all 2x2x3 images, up to shifts; the box is compared with 150 rotations and the hull volume."""
    affine = AFFINES[2]
    turns = Rotation.random(150, rng=0).as_matrix()
    measured = set()
    for mask in oracles.tiny_masks():
        labels, count = label_components(mask)
        for node in measure_components(labels, count, affine):
            voxels = labels == node["label"]
            shape = voxels[tuple(slice(*b) for b in node["bounds_zyx"])]
            key = shape.tobytes(), shape.shape
            if key in measured:
                continue
            measured.add(key)
            points = oracles.to_mm(oracles.corners_zyx(voxels), affine)
            tried = np.concatenate([turns, affine[:3, :3].T[None] / [[1.2], [0.8], [7.0]]])
            least = oracles.volume_along(points, tried).min()
            box = node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]
            oracles.assert_box(points, box, at_most=float(least))
            assert node["box_mm"].prod() >= ConvexHull(points).volume * (1 - 1e-9)
            short, long = oracles.axial(voxels, affine)
            assert abs(node["axial_short_mm"] - short) + abs(node["axial_long_mm"] - long) < 1e-9


@pytest.mark.parametrize("affine", AFFINES, ids=["unit", "flipped", "oblique"])
@pytest.mark.parametrize("seed", range(4))
def test_random_images_agree_with_plain_python(affine: NDArray[Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(3, 9, 3)) < (0.06, 0.12, 0.2, 0.7)[seed]
    labels, count = label_components(mask)
    check(labels, count, affine, measure_components(labels, count, affine))


@pytest.mark.parametrize("seed", range(6))
def test_no_rotation_of_a_node_is_smaller(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((7, 14, 14)) - np.array([3, 6.5, 6.5]).reshape(3, 1, 1, 1)
    turn = Rotation.random(rng=seed).as_matrix() / rng.uniform(2, 6, (3, 1))
    mask = np.linalg.norm(np.einsum("ij,jzyx->izyx", turn, np.stack([z * 2, y, x])), axis=0) < 1
    affine = oracles.oblique((1.1, 0.9, 2.2), seed)
    (node,) = measure_components(mask.astype(np.uint8), 1, affine)
    points = oracles.to_mm(oracles.corners_zyx(mask), affine)
    box = node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]
    oracles.assert_box(points, box, at_most=oracles.box_volume(points, seed=seed))
    np.testing.assert_allclose(min_volume_box(points)[2], node["box_mm"], rtol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_orientation_changes_nothing_in_the_patient(seed: int) -> None:
    """Flips and transposes of the array with the matching affine; and 48 orders for measures without a slice axis."""
    rng = np.random.default_rng(seed)
    mask = rng.random((3, 5, 4)) < 0.35
    spacing = [(1.0, 1.0, 1.0), (1.0, 1.0, 6.0), (0.7, 1.3, 5.0)][seed % 3]
    affine = oracles.oblique(spacing, seed) if seed < 3 else np.diag([*spacing, 1.0])
    labels, count = label_components(mask)
    wanted = measure_components(labels, count, affine)
    for keep in (True, False):
        for view, matrix in oracles.orientations(labels, affine, keep_slices=keep):
            nodes = measure_components(view, count, matrix)
            for field in MM if keep else ("volume_mm3", "box_mm", "centroid_ras_mm"):
                if field != "box_centre_ras_mm":  # any of several smallest boxes may be returned
                    np.testing.assert_allclose(nodes[field], wanted[field], rtol=1e-7, atol=1e-7, err_msg=field)
            if keep:
                np.testing.assert_array_equal(nodes["slice_limited"], wanted["slice_limited"])
    turn = np.eye(4)
    for step in Rotation.random(8, rng=seed).as_matrix():
        turn[:3, :3] = step
        nodes = measure_components(labels, count, turn @ affine)
        for field in ("volume_mm3", "box_mm", "axial_short_mm", "axial_long_mm"):
            np.testing.assert_allclose(nodes[field], wanted[field], rtol=1e-7, atol=1e-7, err_msg=field)
        np.testing.assert_array_equal(nodes["slice_limited"], wanted["slice_limited"])


def test_one_voxel() -> None:
    labels = np.zeros((5, 6, 7), np.uint16)
    labels[2, 3, 4] = 1
    (node,) = measure_components(labels, 1, np.diag([1.0, 2.0, 5.0, 1.0]))
    np.testing.assert_allclose(node["box_mm"], [1, 2, 5])
    np.testing.assert_allclose(node["box_centre_ras_mm"], [4, 6, 10])
    np.testing.assert_allclose(node["centroid_ras_mm"], [4, 6, 10])
    np.testing.assert_allclose(node["volume_mm3"], 10)
    np.testing.assert_allclose(node["axial_long_mm"], 5**0.5)
    np.testing.assert_allclose(node["axial_short_mm"], 4 / 5**0.5)
    assert node["bounds_zyx"].tolist() == [[2, 3], [3, 4], [4, 5]]
    assert not node["slice_limited"]


@pytest.mark.parametrize(
    ("slices", "thickness", "limited"),
    [(1, 6.0, True), (2, 6.0, True), (3, 6.0, False), (2, 4.0, True), (1, 20.0, False)],
)
def test_slice_limited(slices: int, thickness: float, limited: bool) -> None:
    labels = np.ones((slices, 14, 18), np.int32)
    (node,) = measure_components(labels, 1, np.diag([1.0, 1.0, thickness, 1.0]))
    np.testing.assert_allclose(node["box_mm"][0], min(14, slices * thickness))
    assert node["slice_limited"] == limited


def test_slice_limited_counts_every_edge_that_is_as_short_as_the_shortest() -> None:
    (node,) = measure_components(np.ones((2, 6, 20), np.int32), 1, np.diag([1.0, 1.0, 3.0, 1.0]))
    np.testing.assert_allclose(node["box_mm"], [6, 6, 20])
    assert node["slice_limited"]


def test_the_axial_rule_takes_the_slice_with_the_longest_diameter() -> None:
    labels = np.zeros((3, 12, 30), np.int32)
    labels[0, 3:9, 3:9] = 1
    labels[1, 5, 2:22] = 1
    labels[2, 4:8, 4:8] = 1
    (node,) = measure_components(labels, 1, np.diag([1.0, 1.0, 5.0, 1.0]))
    np.testing.assert_allclose(node["axial_long_mm"], np.hypot(20, 1))
    np.testing.assert_allclose(node["axial_short_mm"], 2 * 20 / np.hypot(20, 1))


def test_equal_diameters_take_the_smallest_extent_wherever_they_are() -> None:
    labels = np.zeros((2, 9, 9), np.int32)
    labels[0, 0:2, 0:6] = 1
    labels[1, 0:2, 0:6] = 1
    labels[1, 3, 3] = 1  # makes slice 1 wider, not longer
    for view in (labels, labels[::-1]):
        (node,) = measure_components(view, 1, np.eye(4))
        np.testing.assert_allclose(node["axial_long_mm"], 40**0.5)
        np.testing.assert_allclose(node["axial_short_mm"], 24 / 40**0.5)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_types_and_layouts(dtype: str) -> None:
    labels, count = label_components(np.random.default_rng(0).random((5, 8, 20)) < 0.12)
    wanted = measure_components(labels, count, AFFINES[2])
    for view in oracles.layouts(labels.astype(dtype)):
        assert measure_components(view, count, AFFINES[2]).tobytes() == wanted.tobytes()


def test_means() -> None:
    rng = np.random.default_rng(0)
    labels, count = label_components(rng.random((6, 10, 12)) < 0.1)
    intensity = rng.integers(0, 1000, labels.shape).astype(np.int16)
    for dtype in (np.float32, np.float16):
        for logits in oracles.layouts(rng.normal(size=(8, 7, 20)).astype(dtype)):
            for image in oracles.layouts(intensity):
                nodes = measure_components(labels, count, np.eye(4), intensity=image, logits=logits)
                likely = 1 / (1 + np.exp(-oracles.resample(logits, labels.shape)))
                for node in nodes:
                    inside = labels == node["label"]
                    np.testing.assert_allclose(node["mean_intensity"], intensity[inside].mean(), rtol=1e-12)
                    np.testing.assert_allclose(node["mean_probability"], likely[inside].mean(), rtol=1e-12)


def test_labels_need_not_be_connected() -> None:
    labels = np.zeros((9, 9, 9), np.int32)
    labels[0, 0, 0] = labels[8, 8, 8] = labels[0, 8, 3] = 1
    (node,) = measure_components(labels, 1, np.eye(4))
    assert node["slices"] == 2
    oracles.assert_box(
        oracles.corners_zyx(labels > 0)[:, ::-1],
        (node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]),
        at_most=oracles.box_volume(oracles.corners_zyx(labels > 0)[:, ::-1]),
    )


def test_worst_cases_stay_exact() -> None:
    z, y, x = np.indices((10, 10, 10))
    for mask in ((z + y + x) % 2 == 0, np.ones((10, 10, 10), bool), ((z + y) % 2 == 0) & ((y + x) % 2 == 0), z == y):
        labels, count = label_components(mask)
        assert count == 1
        (node,) = measure_components(labels, 1, np.diag([1.0, 2.0, 3.0, 1.0]))
        points = oracles.to_mm(oracles.corners_zyx(mask), np.diag([1.0, 2.0, 3.0, 1.0]))
        box = node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]
        oracles.assert_box(points, box, at_most=oracles.box_volume(points, rotations=2000))


def test_a_large_node() -> None:
    z, y, x = np.indices((36, 36, 36)) - 17.5
    mask = z**2 + (y / 0.9) ** 2 + (x / 0.8) ** 2 < 17.4**2
    assert mask.sum() > 15_000
    affine = oracles.oblique((0.9, 1.1, 1.3), 1)
    (node,) = measure_components(mask.astype(np.int32), 1, affine)
    points = oracles.hull_points(oracles.to_mm(oracles.corners_zyx(mask), affine))
    box = node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]
    oracles.assert_box(points, box, at_most=oracles.box_volume(points, rotations=1000, descents=3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_longest_axis_that_is_allowed_is_still_exact(axis: int) -> None:
    """The hull's integers are largest here: a skewed body of 524286 voxels along one axis, and one too many."""
    shape = [4, 4, 4]
    shape[axis] = 524_286
    labels = np.zeros(shape, np.uint8)
    line = np.moveaxis(labels, axis, 0)
    line[:, 1, 1] = line[0, 3, 0] = line[-1, 0, 3] = line[300_000, 3, 3] = 1
    (node,) = measure_components(labels, 1, np.eye(4))
    points = np.array([[0, 3, 0], [0, 1, 1], [524_285, 0, 3], [524_285, 1, 1], [300_000, 3, 3]])
    corners = (points[:, None, :] + np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])).reshape(
        -1, 3
    )
    order = [axis, *(k for k in range(3) if k != axis)]  # of the columns of corners, as axes of labels
    xyz = (corners - 0.5)[:, [order.index(2), order.index(1), order.index(0)]]
    box = node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]
    oracles.assert_box(xyz, box, at_most=float(min_volume_box(xyz)[2].prod()))
    with pytest.raises(ValueError, match="524286"):
        measure_components(np.ones([n + (n > 4) for n in shape], np.uint8), 1, np.eye(4))


def test_threads_do_not_change_a_bit() -> None:
    labels, count = label_components(np.random.default_rng(3).random((8, 40, 40)) < 0.05)
    assert count > 100
    wanted = measure_components(labels, count, AFFINES[2], threads=1).tobytes()
    for threads in (0, 2, 3, 64):
        assert measure_components(labels, count, AFFINES[2], threads=threads).tobytes() == wanted


def test_eight_threads_on_the_same_labels() -> None:
    labels, count = label_components(np.random.default_rng(1).random((8, 30, 30)) < 0.1)
    labels.flags.writeable = False
    wanted = measure_components(labels, count, AFFINES[2]).tobytes()
    shared = Components(labels)
    with ThreadPoolExecutor(8) as pool:
        for source in (labels, shared):
            for nodes in pool.map(lambda _, source=source: measure_components(source, count, AFFINES[2]), range(16)):
                assert nodes.tobytes() == wanted


ONE = np.ones((2, 2, 2), np.int32)
SINGULAR = np.diag([1.0, 0.0, 1.0, 1.0])
SKEWED = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("labels", "count", "affine", "more", "error", "match"),
    [
        ([[[1]]], 1, np.eye(4), {}, TypeError, "labels"),
        (ONE.astype(np.float32), 1, np.eye(4), {}, TypeError, "labels"),
        (ONE[0], 1, np.eye(4), {}, ValueError, "labels"),
        (ONE, 2, np.eye(4), {}, ValueError, "no voxel of label 2"),
        (ONE * 3, 2, np.eye(4), {}, ValueError, "labels holds 3"),
        (-ONE, 1, np.eye(4), {}, ValueError, "labels holds -1"),
        (ONE, 0, np.eye(4), {}, ValueError, "count"),
        (ONE, -1, np.eye(4), {}, ValueError, "count"),
        (ONE, 9, np.eye(4), {}, ValueError, "count"),
        (Components(ONE), 2, np.eye(4), {}, ValueError, "count: got 2, wanted 1"),
        (Components(ONE), 0, np.eye(4), {}, ValueError, "count"),
        (ONE, 1, np.eye(4), {"threads": -1}, ValueError, "threads"),
        (ONE, 1, np.eye(3), {}, ValueError, "affine"),
        (ONE, 1, SINGULAR, {}, ValueError, "affine"),
        (ONE, 1, SKEWED, {}, ValueError, "affine"),
        (ONE, 1, np.full((4, 4), np.nan), {}, ValueError, "affine"),
        (ONE, 1, np.ones((4, 4)), {}, ValueError, "affine"),
        (ONE, 1, np.eye(4), {"intensity": np.zeros((2, 2, 3))}, ValueError, "intensity"),
        (ONE, 1, np.eye(4), {"intensity": np.full((2, 2, 2), np.nan)}, ValueError, "non-finite"),
        (ONE, 1, np.eye(4), {"logits": np.zeros((2, 2, 3))}, TypeError, "logits"),
        (ONE, 1, np.eye(4), {"logits": np.full((2, 2, 3), np.nan, np.float32)}, ValueError, "non-finite"),
    ],
)
def test_refusals(labels: Any, count: int, affine: Any, more: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        measure_components(labels, count, affine, **more)
