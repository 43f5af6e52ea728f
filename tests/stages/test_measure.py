"""Millimetres that can be worked out by hand, and the same ones however the voxels are stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import hypot
from typing import Any, Literal

import numpy as np
import pytest
from blocks import affine_of, block, stored_in_all_ways

import lnfast.header_noise
import lnfast.measure
from lnfast.errors import ModelError, StudyError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import LymphNode, Rules, largest, measure_nodes, n_stage, n_stage_by_rule
from lnfast_ext import label_components


@dataclass(frozen=True)
class Scaled:
    volume: Volume
    slope: float
    inter: float


def measure_one(labels: Volume, rules: Rules | None = None, **more: Any) -> LymphNode:
    (node,) = measure_nodes(labels, 1, rules or Rules(), **more)
    return node


@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (12, -7, 20)])
def test_a_block_has_the_measures_of_a_block(turn_deg: tuple[float, ...]) -> None:
    affine = affine_of((1.25, 1.0, 6.0), *turn_deg)
    node = measure_one(block((2, 5, 5), affine))
    assert node.voxels == 50
    assert node.slices == 2
    assert node.volume_mm3 == pytest.approx(375.0)
    assert node.box_mm == pytest.approx((5.0, 6.25, 12.0))
    assert node.short_axis_mm == node.box_mm[0]
    assert node.axial_long_mm == pytest.approx(hypot(5.0, 6.25))
    assert node.axial_short_mm == pytest.approx(2 * 5.0 * 6.25 / hypot(5.0, 6.25))
    centre = affine @ (7.0, 6.0, 3.5, 1.0)
    assert node.centroid_ras_mm == pytest.approx(centre[:3])
    assert node.box_centre_ras_mm == pytest.approx(centre[:3])
    x, y, z = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in range(3))
    assert [abs(np.dot(*pair)) for pair in zip(node.box_axes_ras, (y, x, z), strict=True)] == pytest.approx([1, 1, 1])


def test_one_voxel_is_a_node() -> None:
    node = measure_one(block((1, 1, 1), affine_of((1.5, 1.5, 6.0))))
    assert node.box_mm == pytest.approx((1.5, 1.5, 6.0))
    assert node.axial_long_mm == pytest.approx(hypot(1.5, 1.5))


def test_a_node_of_one_thick_slice_is_slice_limited() -> None:
    node = measure_one(block((1, 8, 8), affine_of((1.5, 1.5, 6.0))))
    assert node.short_axis_mm == pytest.approx(6.0)
    assert node.slice_limited
    assert not measure_one(block((3, 4, 4), affine_of((1.5, 1.5, 6.0)))).slice_limited


@pytest.mark.parametrize("turn_deg", [(0, 0, 0), (14, -9, 17)])
def test_storage_order_changes_no_measure(turn_deg: tuple[float, ...]) -> None:
    rng = np.random.default_rng(5)
    mask = rng.random((7, 16, 18)) > 0.9
    grid = Grid(mask.shape, affine_of((1.5, 1.25, 5.0), *turn_deg))
    image = rng.integers(0, 2000, mask.shape).astype(np.int16)
    logits = rng.normal(size=(8, 16, 16)).astype(np.float32)

    def measured(stored_mask: Volume, stored_image: Volume) -> list[LymphNode]:
        labels, count = label_components(stored_mask.array.astype(np.uint8))
        volume = Volume(labels, stored_mask.grid)
        study = Scaled(stored_image, 0.5, 10.0)
        nodes = measure_nodes(volume, count, Rules(), intensity=study, logits=logits)
        assert [node.id for node in nodes] == list(range(1, count + 1))
        return sorted(nodes, key=lambda node: tuple(round(part, 6) for part in node.centroid_ras_mm))

    wanted = measured(Volume(mask, grid), Volume(image, grid))
    assert len(wanted) > 10
    ways = list(zip(stored_in_all_ways(Volume(mask, grid)), stored_in_all_ways(Volume(image, grid)), strict=True))
    assert len(ways) == 48
    exact = ("voxels", "slices", "suspicious", "slice_limited")
    close = (
        "volume_mm3",
        "box_mm",
        "axial_short_mm",
        "axial_long_mm",
        "ellipsoid_short_mm",
        "centroid_ras_mm",
        "mean_intensity",
    )
    for stored in ways:
        for node, reference in zip(measured(*stored), wanted, strict=True):
            assert all(getattr(node, name) == getattr(reference, name) for name in exact)
            for name in (*close, "mean_probability"):
                assert getattr(node, name) == pytest.approx(getattr(reference, name), abs=1e-9), name
            # Two different boxes may be equally small, so the box is compared by what it is: it holds the centroid.
            assert np.prod(node.box_mm) == pytest.approx(np.prod(reference.box_mm))


def test_means_are_in_the_study_s_own_units() -> None:
    labels = block((2, 2, 2), affine_of((2.0, 2.0, 4.0)))
    image = np.full(labels.array.shape, 7, np.int16)
    image[labels.array == 1] = np.arange(8)
    logits = np.full((6, 10, 11), np.log(3.0), np.float32)
    node = measure_one(labels, intensity=Scaled(Volume(image, labels.grid), 2.0, 100.0), logits=logits)
    assert node.mean_intensity == pytest.approx(2.0 * 3.5 + 100.0)
    assert node.mean_probability == pytest.approx(0.75)
    bare = measure_one(labels)
    assert bare.mean_intensity is None
    assert bare.mean_probability is None


@pytest.mark.parametrize(
    ("edge_mm", "stage"),
    [(8.0, "N0"), (8.0 + 5e-7, "N0"), (8.0 + 2e-6, "N1"), (7.999, "N0"), (8.001, "N1")],
)
def test_the_limit_itself_is_not_over_the_limit(edge_mm: float, stage: str) -> None:
    node = measure_one(block((5, 5, 5), affine_of((edge_mm / 5,) * 3)))
    assert node.short_axis_mm == pytest.approx(edge_mm, abs=1e-12)
    assert node.suspicious == (stage == "N1")
    assert n_stage([node], Rules()) == stage


@pytest.mark.parametrize(("short_axis", "suspicious"), [("box", False), ("axial", True)])
def test_the_chosen_rule_decides_and_both_are_said(short_axis: Literal["box", "axial"], suspicious: bool) -> None:
    rules = Rules(short_axis=short_axis)
    node = measure_one(block((4, 5, 5), affine_of((1.5, 1.5, 6.0))), rules)
    assert node.box_mm[0] == pytest.approx(7.5)
    assert node.axial_short_mm == pytest.approx(hypot(7.5, 7.5))
    assert node.short_axis_mm == node.short_mm(short_axis)
    assert node.suspicious == suspicious
    assert n_stage([node], rules) == ("N1" if suspicious else "N0")
    assert n_stage_by_rule([node], rules) == {"box": "N0", "axial": "N1", "ellipsoid": None}


def test_a_limit_of_one_s_own() -> None:
    labels = block((5, 5, 5), affine_of((1.2, 1.2, 1.2)))
    assert measure_one(labels, Rules(suspicious_mm=5.9)).suspicious
    assert not measure_one(labels, Rules(suspicious_mm=6.0)).suspicious


def test_no_node_is_a_result() -> None:
    labels = Volume(np.zeros((4, 5, 6), np.uint16), Grid((4, 5, 6), affine_of((1, 1, 4))))
    assert measure_nodes(labels, 0, Rules()) == ()
    assert n_stage((), Rules()) == "N0"
    assert largest(()) is None


def test_the_largest_has_the_greatest_short_axis_then_the_greatest_volume() -> None:
    labels = np.zeros((20, 30, 30), np.uint16)
    labels[0:4, 0:4, 0:20] = 1
    labels[6:11, 0:5, 0:5] = 2
    labels[6:11, 10:15, 0:7] = 3
    labels[14:19, 10:15, 0:7] = 4
    nodes = measure_nodes(Volume(labels, Grid(labels.shape, affine_of((1, 1, 1)))), 4, Rules())
    first = largest(nodes)
    assert first is not None
    assert first.id == 3


def test_what_cannot_be_measured_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = block((2, 3, 3), affine_of((1.5, 1.5, 6.0)))
    real = lnfast.measure.measure_components
    for name in ("box_mm", "axial_short_mm", "centroid_ras_mm", "box_axes_ras", "volume_mm3"):

        def broken(*args: Any, name: str = name, **kwargs: Any) -> Any:
            rows = real(*args, **kwargs)
            rows[name] = np.nan
            return rows

        monkeypatch.setattr(lnfast.measure, "measure_components", broken)
        with pytest.raises(StudyError, match="not-measured"):
            measure_one(labels)


def test_an_intensity_that_overflows_is_an_error() -> None:
    labels = block((2, 3, 3), affine_of((1.5, 1.5, 6.0)))
    image = Volume(np.full(labels.array.shape, 100, np.int16), labels.grid)
    with pytest.raises(StudyError, match="not-measured"):
        measure_one(labels, intensity=Scaled(image, 1e308, 0.0))


def test_slices_are_axial_or_it_is_an_error() -> None:
    with pytest.raises(ModelError, match="bad-card"):
        measure_one(block((2, 3, 3), affine_of((1.5, 1.5, 6.0))), orientation="SLP")


@pytest.mark.parametrize(
    "wrong",
    [{"short_axis": "longest"}, {"suspicious_mm": 0.0}, {"suspicious_mm": float("nan")}, {"connectivity": 6}],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="bad-rules"):
        Rules(**wrong)


def test_a_node_is_plain_python() -> None:
    node = measure_one(block((2, 5, 5), affine_of((1.25, 1.0, 6.0))))

    def types(value: Any) -> set[type]:
        return set().union(*map(types, value)) if isinstance(value, tuple) else {type(value)}

    assert types(tuple(asdict(node).values())) <= {int, float, bool, type(None)}
    assert [field.name for field in fields(LymphNode)][:2] == ["id", "volume_mm3"]


def test_float32_rounding_of_a_header_does_not_choose_among_equal_boxes() -> None:
    lattice = affine_of((400 / 240, 400 / 240, 7.0), 11.0, 3.0, -6.0)
    # Its boxes along the pixels and along their diagonals have one volume: 5 x 6.67 x 7 mm and 4.71 x 7 x 7.07 mm.
    shape = np.array([[[0, 1, 0, 1], [1, 1, 1, 0], [0, 1, 0, 0]]], np.uint16)
    exact = measure_one(Volume(shape, Grid(shape.shape, lattice)))
    for seed in range(20):
        noise = np.random.default_rng(seed).uniform(-1, 1, (4, 4)) * 6e-8
        noise[3] = 0
        rounded = measure_one(Volume(shape, Grid(shape.shape, lattice * (1 + noise))))
        assert rounded.box_mm == pytest.approx(exact.box_mm, rel=1e-6)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 3.0), (2.0, 2.0, 4.0), (2.0, 2.0, 3.0), (5 / 3, 1.5, 2.5)])
def test_a_study_measures_alike_as_array_and_as_file(spacing: tuple[float, float, float]) -> None:
    """A file holds the affine as float32, whose rounding must not choose among boxes of equal volume."""
    rng = np.random.default_rng(3)
    grid_of = {
        kind: [Grid((6, 9, 9), kind(affine_of(spacing, tilt, 0.0, 0.0))) for tilt in (5.0, 11.0, 16.0, 18.5, 25.0)]
        for kind in (np.float64, np.float32)
    }
    z, y, x = np.indices((6, 9, 9)) - np.array((2.5, 4, 4)).reshape(3, 1, 1, 1)
    limited = 0
    for turn in range(150):
        a, b, c, d, e = rng.uniform((1.2, 1.5, 1.5, -0.8, -0.8), (2.6, 4.0, 4.0, 0.8, 0.8))
        mask = ((z / a) ** 2 + ((y + d * z) / b) ** 2 + ((x + e * z) / c) ** 2 <= 1).astype(np.uint16)
        array, file = (measure_one(Volume(mask, grids[turn % 5])) for grids in grid_of.values())
        assert file.box_mm == pytest.approx(array.box_mm, rel=3e-6)
        assert file.axial_short_mm == pytest.approx(array.axial_short_mm, rel=3e-6)
        assert (file.suspicious, file.slice_limited) == (array.suspicious, array.slice_limited)
        limited += array.slice_limited
    assert 0 < limited < 150


def test_a_real_difference_between_axes_is_kept() -> None:
    uneven = affine_of((1.6, 1.6001, 6.0), 5.0, 0.0, 0.0)
    np.testing.assert_allclose(lnfast.header_noise.without_header_noise(uneven), uneven, atol=1e-12)
    sheared = uneven.copy()
    sheared[0, 1] += 1e-4
    assert lnfast.header_noise.without_header_noise(sheared) is sheared


def measured_block(rules: Rules, **more: Any) -> Any:
    array = np.zeros((8, 16, 16), np.uint16)
    array[3:5, 6:10, 6:10] = 1
    return measure_nodes(Volume(array, Grid(array.shape, affine_of((2.0, 2.0, 6.0)))), 1, rules, **more)


def test_the_ellipsoid_stands_beside_the_other_rules_and_can_decide() -> None:
    logits = np.full((16, 16, 16), -20.0, np.float32)
    logits[5:11, 5:11, 5:11] = 20.0
    (node,) = measured_block(Rules(), logits=logits)
    (chosen,) = measured_block(Rules(short_axis="ellipsoid"), logits=logits)
    assert node.ellipsoid_short_mm == pytest.approx(2 * np.sqrt(5 / 12) * 12.0)
    assert node.short_axis_mm == node.box_mm[0] == pytest.approx(8.0)
    assert (node.suspicious, chosen.suspicious) == (False, True)
    assert chosen.short_axis_mm == chosen.short_mm("ellipsoid") == node.ellipsoid_short_mm
    assert n_stage_by_rule([node], Rules()) == {"box": "N0", "axial": "N1", "ellipsoid": "N1"}


def test_a_label_map_has_no_ellipsoid() -> None:
    (node,) = measured_block(Rules())
    assert node.ellipsoid_short_mm is None
    assert node.short_mm("ellipsoid") is None
    assert n_stage_by_rule([node], Rules())["ellipsoid"] is None
    with pytest.raises(UsageError, match=r"bad-rules.*label map"):
        measured_block(Rules(short_axis="ellipsoid"))
