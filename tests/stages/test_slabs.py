"""Slabs of a deep grid, and that a study of many thin slices is analysed in them as on one grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_model import bright_model

from lnfast.backends import Candidate
from lnfast.card import load_model
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.network import Network
from lnfast.phantom import make_phantom
from lnfast.postprocess import segment
from lnfast.preprocess import write_input, write_slabs
from lnfast.slabs import FINEST_STEP_MM, add_slab, grid_for, slabs_of
from lnfast.window import Window

NETWORK = (32, 256, 256)


def grid_of(slices: int, slice_mm: float) -> Grid:
    return Grid((slices, 240, 240), np.diag((1.5, 1.5, slice_mm, 1.0)))


@pytest.mark.parametrize(
    ("slices", "slice_mm", "depth"),
    [
        (1, 8.0, 32),
        (28, 5.0, 32),
        (40, 4.0, 32),
        (41, 4.0, 48),
        (48, 4.0, 48),
        (49, 4.0, 64),
        (64, 3.0, 64),
        (64, 2.5, 48),  # 64 steps would be of 2.5 mm
        (200, 0.8, 48),
        (60, 0.8, 32),
        (47, 3.0, 32),  # 48 steps would be of 2.9 mm
    ],
)
def test_depth(slices: int, slice_mm: float, depth: int) -> None:
    assert grid_for(grid_of(slices, slice_mm), NETWORK, kept=False) == (depth, 256, 256)
    kept = slices if slices < 32 else depth
    assert grid_for(grid_of(slices, slice_mm), NETWORK, kept=True) == (kept, 256, 256)


def test_no_step_is_finer_than_the_finest_and_header_noise_decides_nothing() -> None:
    for slices in range(1, 400, 3):
        for slice_mm in (0.4, 0.8, 1.2, 1.25, 1.6, 2.0, 2.5, 3.0, 5.0):
            depth = grid_for(grid_of(slices, slice_mm), NETWORK, kept=False)[0]
            assert depth == 32 or slices * slice_mm / depth >= FINEST_STEP_MM - 1e-9
            assert depth == 32 or (depth % 16 == 0 and depth < slices + 16)
            for noise in (-1e-7, 1e-7):
                assert grid_for(grid_of(slices, slice_mm * (1 + noise)), NETWORK, kept=False)[0] == depth


def test_slabs_overlap_by_half() -> None:
    assert slabs_of(NETWORK, NETWORK) == (Window.whole(NETWORK),)
    assert slabs_of((20, 256, 256), NETWORK) == (Window.whole((20, 256, 256)),)
    assert [slab.start_zyx[0] for slab in slabs_of((80, 256, 256), NETWORK)] == [0, 16, 32, 48]


@pytest.mark.parametrize(("depth", "of_network"), [(16, 16), (24, 16), (40, 16), (14, 5), (9, 3), (4, 1)])
def test_joined(depth: int, of_network: int) -> None:
    """Slice by slice in float64: two slabs share a slice as their distances to their own cut faces."""
    grid, network = (depth, 3, 2), (of_network, 3, 2)
    rng = np.random.default_rng(depth)
    slabs = slabs_of(grid, network)
    answers = [rng.normal(0, 5, network).astype(np.float32) for _ in slabs]
    joined = np.zeros(grid, np.float32)
    for slab, answer in zip(slabs, answers, strict=True):
        add_slab(joined, slab, answer)
    for z in range(depth):
        inside = [
            (min(z - slab.start_zyx[0], slab.stop_zyx[0] - 1 - z) + 0.5, answer[z - slab.start_zyx[0]])
            for slab, answer in zip(slabs, answers, strict=True)
            if slab.start_zyx[0] <= z < slab.stop_zyx[0]
        ]
        assert 1 <= len(inside) <= 2
        wanted = sum(weight * part.astype(np.float64) for weight, part in inside) / sum(weight for weight, _ in inside)
        np.testing.assert_allclose(joined[z], wanted, atol=1e-5)


def test_one_slab_is_the_answer_itself() -> None:
    answer = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    joined = np.zeros((4, 3, 2), np.float32)
    add_slab(joined, Window.whole((4, 3, 2)), answer)
    assert np.array_equal(joined, answer)


@pytest.mark.parametrize("slices", ["resampled", "kept"])
def test_thin_slices_are_analysed_as_on_one_deep_grid(tmp_path: Path, slices: str) -> None:
    """The network marks what is bright and sees one voxel around, so only slices at faces of slabs differ a little."""
    model = load_model(bright_model(tmp_path / "bright", slices))
    phantom = make_phantom(5, "achieva", "n1")
    affine = phantom.volume.grid.affine.copy()
    affine[:3, 2] /= 2
    thin = Volume(
        np.repeat(phantom.volume.array, 2, axis=0),
        Grid((2 * len(phantom.volume.array), *phantom.volume.array.shape[1:]), affine),
    )
    card = model.card
    deep = grid_for(thin.grid, card.shape_zyx, kept=card.keeps_slices)
    assert deep[0] >= 2 * card.shape_zyx[0]
    network = Network(model, Candidate("onnxruntime", "cpu", "fp32", "test"))
    answer = network.answer(thin, Rules())
    assert answer.window == Window.whole(deep) and answer.shape_zyx == deep
    assert set(answer.timings_ms) == {"preprocess", "infer", "postprocess", "measure"}
    whole = np.empty(deep, np.float32)
    write_input(thin, replace(card, shape_zyx=deep), whole)
    slab_input = np.empty(card.shape_zyx, np.float32)
    written = []
    for slab in write_slabs(thin, card, slab_input):
        np.testing.assert_allclose(slab_input, whole[slab.start_zyx[0] : slab.stop_zyx[0]], atol=1e-5)
        written.append(slab)
    assert tuple(written) == slabs_of(deep, card.shape_zyx)
    padded = np.pad(whole, 1)
    total = sum(
        padded[z : z + deep[0], y : y + deep[1], x : x + deep[2]] for z in range(3) for y in range(3) for x in range(3)
    )
    labels = segment(((total / 27) * 0.5 - 0.75).astype(np.float32), thin.grid, replace(card, shape_zyx=deep)).labels
    wanted = labels.array > 0
    squeezed = network.answer(thin, Rules(), window=Window.whole(card.shape_zyx))
    dice = [
        2 * (got & wanted).sum() / (got.sum() + wanted.sum())
        for got in (answer.labels.array > 0, squeezed.labels.array > 0)
    ]
    assert dice[0] > 0.99 and dice[1] < 0.95
