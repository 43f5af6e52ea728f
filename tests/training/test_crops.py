"""Crops of the model grid: where they lie, how they are deformed, augmented and weighted."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402

from lnfast.errors import StudyError  # noqa: E402
from lnfast.geometry import Volume  # noqa: E402
from training.data.batches import CasePool  # noqa: E402
from training.data.case import Case  # noqa: E402
from training.data.crops import (  # noqa: E402
    BETWEEN,
    BORDERLINE,
    FEWEST_BRIGHT,
    IMAGE,
    TRUTH,
    CropMaker,
    bright_structure,
    cut_crop,
    draw_transform,
    empty_margins,
    footprint,
    highest_around,
    voxel_weights,
)
from training.data.intensity import TRANSFORMS, augment_intensity  # noqa: E402
from training.data.model_grid import BORDERLINE_MM, GridCase, between_nodes, to_model_grid, true_nodes  # noqa: E402
from training.recipe.card import FLOOR, TISSUE  # noqa: E402
from training.recipe.presets import EDGE, Crops  # noqa: E402


@pytest.fixture(scope="module")
def pool() -> CasePool:
    return runs.case_pool()


@pytest.fixture(scope="module")
def patient(pool: CasePool) -> GridCase:
    return to_model_grid(pool.training[0].load(), pool.card)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_each_way_of_lighting_keeps_air_dark_and_can_be_switched_off(name: str, patient: GridCase) -> None:
    image = patient.image[:, :32, :48].clone()
    off = dict.fromkeys(TRANSFORMS, 0.0)
    assert torch.equal(augment_intensity(image, Crops(**off), np.random.default_rng(0)), image)
    for seed in range(10):
        lit = augment_intensity(image, Crops(**{**off, name: 1.0}), np.random.default_rng(seed))
        assert lit.shape == image.shape and lit.dtype == torch.float32 and torch.isfinite(lit).all()
        assert not torch.equal(lit, image)
        assert float(lit[image < -0.8].mean()) < float(lit[image > 2].mean())
        again = augment_intensity(image, Crops(**{**off, name: 1.0}), np.random.default_rng(seed))
        torch.testing.assert_close(again, lit, rtol=0, atol=0)  # says where and by how much they differ


def test_an_unmoved_crop_is_the_voxels_themselves(patient: GridCase) -> None:
    shape = (patient.channels.shape[1], 32, 32)
    cut = cut_crop(patient.channels, np.eye(2), np.array((26.0, 30.0)), np.zeros(2), shape)
    torch.testing.assert_close(cut, patient.channels[:, :, 10:42, 14:46], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 20, 31), (2, 3, 2), (1, 1, 1)])
@pytest.mark.parametrize("reach", [1, 4])
def test_the_highest_around_a_voxel_is_that_of_max_pooling(shape: tuple[int, ...], reach: int) -> None:
    volume = torch.from_numpy(np.random.default_rng(3).standard_normal(shape, dtype=np.float32))
    before = volume.clone()
    assert torch.equal(
        highest_around(volume, reach), torch.nn.functional.max_pool2d(volume, 2 * reach + 1, stride=1, padding=reach)
    )
    assert torch.equal(volume, before)


def test_a_small_bright_structure_is_drawn_as_often_as_a_large_one_and_a_node_never() -> None:
    channels = torch.zeros(3, 16, 64, 64)
    image, truth = channels[0].fill_(FLOOR), channels[1]
    bright, bladder, lesion = FLOOR + 20 * (TISSUE - FLOOR), (slice(4, 12), slice(4, 40), slice(4, 40)), slice(50, 54)
    image[bladder] = bright
    image[6:9, lesion, lesion] = bright
    image[6:9, lesion, 10:14] = bright
    truth[6:9, lesion, 12:16] = 1.0  # it shares voxels with the structure before
    image[1, 60, 2 : 2 + FEWEST_BRIGHT - 1] = bright  # noise
    case, rng = GridCase(channels, truth > 2), np.random.default_rng(0)
    sizes = [len(bright_structure(case, rng)) for _ in range(400)]
    large, small = int(image[bladder].numel()), 3 * 4 * 4
    assert set(sizes) == {large, small}
    assert 160 < sizes.count(small) < 240
    image[:] = FLOOR
    assert bright_structure(case, rng).shape == (0, 3)


def test_crops_turn_scale_and_slide_as_far_as_the_preset_says() -> None:
    crops, determinants, angles = Crops(), [], []
    for seed in range(200):
        matrix, tilt = draw_transform(crops, np.random.default_rng(seed))
        determinants.append(np.log(np.linalg.det(matrix)) / 2)
        angles.append(np.rad2deg(np.arctan2(matrix[0, 1] / matrix[1, 1], 1.0)))
        assert (np.abs(tilt) <= crops.tilt_share).all()
    assert 0.9 * crops.scale_log < np.max(np.abs(determinants)) < crops.scale_log + crops.stretch_log
    assert 0.9 * crops.turn_deg < np.max(np.abs(angles)) < 1.35 * crops.turn_deg
    channels = torch.zeros(3, 16, 64, 64)
    channels[:, :, 30:34, 30:34] = 1.0  # a post, whose ends slide by 3.2 voxels
    cut = cut_crop(channels, np.eye(2), np.array((32.0, 32.0)), np.array((3.2, 0.0)), (16, 32, 32))
    rows = torch.arange(32.0)
    means = [float((cut[0, z].sum(1) * rows).sum() / cut[0, z].sum()) for z in (0, 15)]
    assert means[0] - means[1] == pytest.approx(6.4, abs=0.2)


def test_a_stack_of_fewer_slices_lies_whole_between_air(pool: CasePool) -> None:
    preset = runs.tiny(crops=Crops(depth=0.0, slide=0.0, rescale=1.0, noise=1.0, margins=0.0))
    wanted = preset.patch_zyx[0]
    maker, depth = CropMaker(pool.training, pool.card, preset, 3, 0), wanted - 5
    ramp = torch.arange(1.0, depth + 1)[None, :, None, None].expand(4, depth, 2, 2).contiguous()
    firsts = set()
    for seed in range(60):
        slices, beyond = maker._slices(ramp, 3.0, np.random.default_rng(seed))
        first = int((~beyond).nonzero()[0, 0])
        assert torch.equal(slices[:, first : first + depth], ramp) and int(beyond.sum()) == 5
        assert (slices[0, beyond] == FLOOR).all() and not slices[1:, beyond].any()
        firsts.add(first)
    assert firsts == set(range(6))
    patient = to_model_grid(pool.training[0].load(), pool.card)
    short = GridCase(patient.channels[:, :depth].contiguous(), patient.suspicious[:depth])
    crop = maker._cut(short, np.random.default_rng(0))
    air = (crop[0] == FLOOR).all(2).all(1)
    assert int(air.sum()) == 5, "as the runtime makes it, not augmented"


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5])
def test_slices_become_thicker_and_thinner(pool: CasePool, step: float) -> None:
    """A ramp along the slices has the slope of the step, about the middle of the stack."""
    preset = runs.tiny(crops=Crops(depth_log=abs(math.log(step)), depth=1.0, slide=0.0))
    depth = preset.patch_zyx[0]
    maker = CropMaker(pool.training, pool.card, preset, 3, 0)
    ramp = torch.arange(float(depth))[None, :, None, None].expand(4, depth, 2, 2)
    rng: Any = SimpleNamespace(
        integers=lambda low, high: low,
        random=lambda: 0.0,
        uniform=lambda low, high: math.log(step) if step != 1 else 0.0,
    )
    slices, beyond = maker._slices(ramp, depth / 2, rng)
    at = slices[0, :, 0, 0]
    middle = slice(depth // 3, depth - depth // 3)
    torch.testing.assert_close(at[middle].diff(), torch.full_like(at[middle].diff(), step))
    assert float(at[middle].mean()) == pytest.approx((depth - 1) / 2)
    assert bool(beyond.any()) == (step > 1)
    assert float(at[~beyond].min()) >= 0 and float(at[~beyond].max()) <= depth - 1


def test_a_crop_about_a_place_in_a_deeper_grid_has_its_slice(pool: CasePool) -> None:
    preset = runs.tiny(crops=Crops(depth=0.0, slide=0.0))
    maker, depth = CropMaker(pool.training, pool.card, preset, 3, 0), 5 * preset.patch_zyx[0]
    ramp = torch.arange(float(depth))[None, :, None, None].expand(4, depth, 2, 2)
    firsts = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z = float(rng.uniform(0, depth))
        slices = maker._slices(ramp, z, rng)[0][0, :, 0, 0]
        assert int(z) in slices.tolist() and torch.equal(slices.diff(), torch.ones(len(slices) - 1))
        firsts.add(int(slices[0]))
    assert len(firsts) > 20


def test_empty_margins_hold_air_and_no_node() -> None:
    sides = set()
    for seed in range(40):
        crop = empty_margins(torch.ones(3, 4, 40, 40), np.random.default_rng(seed))
        empty = crop[0] == -1.0
        assert torch.equal(crop[1] == 0, empty) and torch.equal(crop[2] == 0, empty) and empty.any()
        assert bool((crop[0, :, 16:24, 16:24] == 1).any()) or int(empty[0].sum()) > 600
        rows, columns = empty[0].all(1), empty[0].all(0)
        assert torch.equal(empty[0], rows[:, None] | columns[None])
        sides |= {name for name, at in (("top", rows[0]), ("bottom", rows[-1]), ("left", columns[0])) if bool(at)}
    assert sides == {"top", "bottom", "left"}


def test_half_of_the_margins_end_in_a_node_that_is_near_a_side() -> None:
    cut = 0
    for seed in range(200):
        crop = torch.zeros(3, 4, 90, 90)
        crop[1, 1:3, 5:12, 40:44] = 1.0
        left = empty_margins(crop, np.random.default_rng(seed))[1].sum()
        cut += 0 < int(left) < 2 * 7 * 4
    # One or two margins, a quarter of them at this side: half of these, and few of the others, cut the node.
    assert 25 < cut < 80


def test_a_crop_is_the_same_from_its_footprint_as_from_the_whole_plane() -> None:
    rng, shape, smaller = np.random.default_rng(0), (4, 24, 32), 0
    channels = torch.from_numpy(rng.random((4, 4, 60, 70), np.float32))
    for _ in range(50):
        matrix, tilt = draw_transform(Crops(), rng)
        tilt = tilt * (30, 35)
        centre = rng.uniform((-5, -5), (65, 75))
        rows, columns = footprint(matrix, centre, tilt, shape, channels.shape[1:])
        part = channels[:, :, rows, columns]
        smaller += part.shape[2] * part.shape[3] < 60 * 70
        cut = cut_crop(part, matrix, centre - (rows.start, columns.start), tilt, shape)
        torch.testing.assert_close(cut, cut_crop(channels, matrix, centre, tilt, shape), rtol=0, atol=1e-4)
    assert smaller > 40


def test_rims_count_more_only_where_a_borderline_node_ends() -> None:
    crop = torch.full((4, 4, 24, 24), TISSUE)
    crop[1:] = 0.0
    crop[TRUTH, :, 4:10, 4:10] = 1.0
    crop[TRUTH, :, 14:20, 14:20] = 1.0
    crop[BORDERLINE, :, 4:10, 4:10] = 1.0
    counts = voxel_weights(crop, replace(EDGE, rim=2.0))
    assert set(counts.unique().tolist()) == {1.0, 3.0}
    assert (counts[..., 12:, 12:] == 1).all() and (counts[..., 6:8, 6:8] == 1).all()
    assert (counts[..., 4, 4:10] == 3).all() and (counts[..., 3, 4:10] == 3).all() and (counts[..., 1, :] == 1).all()


def test_a_dark_hilum_counts_more_within_the_edge_and_background_does_not() -> None:
    crop = torch.full((4, 2, 30, 30), TISSUE)
    crop[1:] = 0.0
    crop[TRUTH, :, 8:20, 8:20] = 1.0
    crop[IMAGE, :, 8:20, 8:20] = FLOOR + 10 * (TISSUE - FLOOR)
    crop[IMAGE, :, 12:16, 12:20] = TISSUE  # opens at the right
    counts = voxel_weights(crop, replace(EDGE, hilum=2.0))
    expected = torch.ones(2, 30, 30)
    expected[:, 12:16, 12:19] = 3.0
    assert torch.equal(counts, expected)


def test_background_counts_more_only_between_two_nodes() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 40, 40), np.uint16)
    for label in range(1, 13):  # the later ones cut the earlier ones
        corner = rng.integers(0, (6, 34, 34))
        labels[tuple(slice(c, c + s) for c, s in zip(corner, rng.integers(1, (3, 7, 7)), strict=True))] = label
    labels[labels == 5] = 0  # a node that no centre of the grid lies in
    expected = np.zeros(labels.shape, bool)
    for z, y, x in np.argwhere(labels == 0):
        near = labels[max(0, z - 1) : z + 2, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        expected[z, y, x] = len(set(near[near > 0].tolist())) > 1
    assert expected.any()
    np.testing.assert_array_equal(between_nodes(labels), expected)
    crop = torch.full((4, 8, 40, 40), TISSUE)
    crop[1:3], crop[BETWEEN] = 0.0, torch.from_numpy(expected.astype(np.float32))
    assert torch.equal(voxel_weights(crop, replace(EDGE, between=8.0)), 1 + 8 * crop[BETWEEN])


def test_boxes_bring_image_truth_and_weights_of_other_crops(pool: CasePool) -> None:
    plain = runs.tiny(batch=4, crops=Crops(boxes=(0,)))
    boxed = runs.tiny(batch=4, crops=Crops(boxes=(2,)))
    changed = 0
    for step in range(6):
        bare, pasted = (CropMaker(pool.training, pool.card, of, 3, step) for of in (plain, boxed))
        for item in range(4):
            (image, truth, _), (other, other_truth, _) = bare.item(item), pasted.item(item)
            different = image != other
            changed += bool(different.any())
            assert float(different.float().mean()) < 0.9
            assert not ((truth != other_truth) & ~different).any()
    assert changed >= 20


def test_a_patient_that_cannot_be_prepared_gives_way_to_another(pool: CasePool) -> None:
    good = pool.training[0].load()
    flat = Case("flat", Volume(0 * good.volume.array, good.volume.grid), good.labels)
    preset = runs.tiny()
    for step in range(8):
        image, _, _ = CropMaker((good, flat), pool.card, preset, 3, step).item(0)
        assert torch.isfinite(image).all()
    with pytest.raises(StudyError, match="constant"):
        CropMaker((flat,), pool.card, preset, 3, 0).item(0)


def test_borderline_nodes_are_those_about_the_limit(pool: CasePool, patient: GridCase) -> None:
    case = pool.training[0].load()
    short_mm = np.array([node.box_mm[0] for node in true_nodes(case, "LPS").nodes])
    low, high = BORDERLINE_MM
    kinds = (short_mm >= low) & (short_mm <= high)
    assert kinds.any() and bool(patient.channels[2].any())
    assert not (patient.channels[2].bool() & (patient.truth == 0)).any()
