"""The kernels against their oracles on examples by Hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import QhullError

from lnfast_ext import (
    Components,
    intensity_statistics,
    label_components,
    measure_components,
    min_volume_box,
    resample_normalize,
    threshold_resample,
)

# The same examples every time: a failure in CI is a failure here.
often = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

STRUCTURES = {6: 1, 18: 2, 26: 3}
VOXELS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
sides = st.integers(1, 9)
shapes = st.tuples(sides, sides, sides)
widths = st.sampled_from((1, 2, 7, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 1030))


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Rows of runs whose ends lie anywhere, on the borders of 64 voxels too; in any layout of memory."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(widths))
    mask = np.zeros(shape, np.uint8)
    ends = st.integers(0, shape[2]) | st.sampled_from((0, 63, 64, 65, 128, shape[2]))
    rows = st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1), ends, ends)
    for z, y, a, b in draw(st.lists(rows, max_size=12)):
        mask[z, y, min(a, b) : max(a, b)] = draw(st.sampled_from((1, 2, 128, 255)))
    return draw(st.sampled_from(list(oracles.layouts(mask))))


@st.composite
def volumes(draw: st.DrawFn, dtype: str) -> NDArray[Any]:
    """Any finite voxels; often few different ones, sometimes with a stray one at the end of what the type holds."""
    shape = draw(shapes)
    info: Any = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    if dtype.startswith("f"):
        wide: Any = st.floats(-1e150, 1e150) if dtype == "float64" else st.floats(width=32).filter(np.isfinite)
        few: Any = st.floats(-4, 4, width=32)
    else:
        wide = st.integers(int(info.min), int(info.max))
        few = st.integers(max(int(info.min), -3), 3)
    return draw(npst.arrays(dtype, shape, elements=draw(st.sampled_from((wide, few))), fill=few))


@given(masks(), st.sampled_from((6, 18, 26)))
@often
def test_labels_are_scipys(mask: NDArray[np.uint8], connectivity: Any) -> None:
    wanted, count = ndimage.label(mask, ndimage.generate_binary_structure(3, STRUCTURES[connectivity]))
    components = Components(mask, connectivity=connectivity)
    assert components.count == count
    for dtype in (np.int32, np.uint32, np.uint16):
        np.testing.assert_array_equal(components.label(np.full(mask.shape, 9, dtype)), wanted)


@given(masks())
@often
def test_components_are_measured_as_their_labels_are(mask: NDArray[np.uint8]) -> None:
    labels, count = label_components(mask)
    affine = oracles.oblique((1.0, 1.3, 4.0), 1)
    wanted = measure_components(labels, count, affine, intensity=mask, threads=1)
    got = measure_components(Components(mask), count, affine, intensity=mask, threads=2)
    assert got.tobytes() == wanted.tobytes()


def interpolated(logits: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Trilinear in the order that the kernel promises: x, y, z; first + weight * (second - first); all in float64."""
    values = logits.astype(np.float64)
    for axis in (2, 1, 0):
        size_in, size_out = values.shape[axis], shape[axis]
        centres = (np.arange(size_out) + 0.5) * float(size_in) / float(size_out) - 0.5
        clamped = centres.clip(0.0, size_in - 1.0)
        first = clamped.astype(int)
        low, high = values.take(first, axis), values.take(np.minimum(first + 1, size_in - 1), axis)
        weight = (clamped - first).reshape([-1 if a == axis else 1 for a in range(3)])
        values = low + weight * (high - low)
    return values


@given(st.data(), st.sampled_from(("float32", "float16")))
@often
def test_a_mask_is_the_threshold_of_every_interpolated_logit(data: st.DataObject, dtype: str) -> None:
    """Bit for bit, although most of it is never interpolated: nothing that can cross the level is left out."""
    shape = (data.draw(sides), data.draw(sides), data.draw(widths))
    target = (data.draw(sides), data.draw(sides), data.draw(widths))
    level = data.draw(st.sampled_from((0.0, 0.40546510810816444, -2.0, 1e-3)))
    size = data.draw(st.sampled_from((1e-3, 1.0, 5.0, 1e4)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = rng.normal(-3 * size, size, shape).clip(-6e4, 6e4)
    for _ in range(data.draw(st.integers(0, 6))):
        z, y, x = (int(rng.integers(n)) for n in shape)
        logits[z : z + 2, y : y + 2, x : x + 20] = rng.choice((level, level + 1e-3, 4 * size, -60000.0, 60000.0))
    logits = logits.astype(dtype)
    wanted = interpolated(logits, target) > level
    for view in oracles.layouts(logits):
        out = np.full(target, 7, np.uint8)
        assert threshold_resample(view, out, level, threads=data.draw(st.integers(1, 3))) == wanted.sum()
        np.testing.assert_array_equal(out, wanted)


@given(st.data())
@often
def test_logits_of_any_size_are_cut_at_any_level(data: st.DataObject) -> None:
    """A level that is itself among the logits, and neighbours so large that their mean is rounded above them."""
    elements = st.floats(width=32).filter(np.isfinite) | st.sampled_from((1e30, -1e30, 1e-30, 0.0, 3e38))
    logits = data.draw(npst.arrays("float32", shapes, elements=elements))
    level = float(data.draw(st.sampled_from(sorted({float(v) for v in logits.ravel()}))))
    target = data.draw(shapes)
    out = np.empty(target, np.uint8)
    threshold_resample(logits, out, level)
    np.testing.assert_array_equal(out, interpolated(logits, target) > level)


@given(st.data(), st.sampled_from(VOXELS))
@often
def test_resampled_voxels_are_the_oracles(data: st.DataObject, dtype: str) -> None:
    shape = (data.draw(sides), data.draw(sides), data.draw(widths))
    target = (data.draw(sides), data.draw(sides), data.draw(widths))
    volume = np.random.default_rng(data.draw(st.integers(0, 99))).normal(50, 30, shape).clip(0, 120).astype(dtype)
    window: dict[str, Any] = {"lo": 10.0, "hi": 90.0, "shift": 50.0, "scale": 0.05}
    wanted = oracles.normalize(volume, target, **window)
    out = np.full(target, np.nan, np.float32)
    for view in oracles.layouts(volume):
        resample_normalize(view, out, threads=data.draw(st.integers(1, 3)), **window)
        np.testing.assert_allclose(out, wanted, atol=2e-6)


@given(st.data(), st.sampled_from(VOXELS))
@often
def test_statistics_are_numpys(data: st.DataObject, dtype: str) -> None:
    volume = data.draw(volumes(dtype))
    percents = data.draw(st.lists(st.floats(0, 100), max_size=5))
    exact = volume.astype(np.float64)
    low, high, mean, std, got = intensity_statistics(volume, percents, threads=data.draw(st.integers(1, 3)))
    assert (low, high) == (exact.min(), exact.max())
    wanted = np.percentile(exact, percents) if percents else []
    np.testing.assert_array_equal(got, wanted)
    longdouble = exact.astype(np.longdouble)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(mean, float(longdouble.mean()), rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_allclose(std, float(longdouble.std()), rtol=1e-10, atol=1e-12 * scale)


@given(npst.arrays("int8", st.tuples(st.integers(1, 14), st.just(3)), elements=st.integers(-4, 4)))
@often
def test_a_box_of_few_points(points: NDArray[np.int8]) -> None:
    """Points, lines, planes and solids, with repetitions: no random rotation gives a smaller one."""
    exact = points.astype(np.float64)
    box = min_volume_box(points)
    oracles.assert_box(exact, box, at_most=oracles.box_volume(exact, rotations=300, descents=1))


@given(npst.arrays("bool", st.tuples(sides, sides, sides), elements=st.booleans()), st.integers(0, 99))
@often
def test_a_box_of_voxels_is_no_larger_than_trimeshs(mask: NDArray[np.bool_], seed: int) -> None:
    affine = oracles.oblique((0.7, 1.3, 3.0), seed)
    labels, count = label_components(mask)
    for node in measure_components(labels, count, affine):
        points = oracles.to_mm(oracles.corners_zyx(labels == node["label"]), affine)
        box = node["box_centre_ras_mm"], node["box_axes_ras"], node["box_mm"]
        try:
            _, extents = trimesh.bounds.oriented_bounds(points)
        except QhullError:
            extents = np.full(3, np.inf)
        oracles.assert_box(points, box, at_most=float(np.prod(extents)))
        np.testing.assert_allclose(min_volume_box(points)[2].prod(), node["box_mm"].prod(), rtol=1e-9)
