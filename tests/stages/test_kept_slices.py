"""A model that keeps a study's slices: they lie in the middle of the network's input, and the rest of it is air."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_model import bright_model
from numpy.typing import NDArray

from lnfast.backends import Candidate
from lnfast.card import ModelCard, load_model
from lnfast.engine import Engine
from lnfast.errors import ModelError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.network import Network
from lnfast.phantom import make_phantom
from lnfast.postprocess import segment
from lnfast.preprocess import normalization, write_input, write_slabs
from lnfast.window import Window
from training.recipe.card import card_dict, draft_card

ONNX_RUNTIME = Candidate("onnxruntime", "cpu", "fp32", "test")


def card_of(depth: int, slices: str, normalized: str = "body") -> ModelCard:
    return draft_card({"shape_zyx": (depth, 24, 40), "normalization": normalized, "slices": slices})


def study(slices: int, seed: int = 0) -> Volume:
    """A body of noise in air, feet first, whose slices differ in brightness."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 20, (slices, 30, 36)).astype(np.int16)
    array[:, 6:24, 6:30] += (100 + 10 * np.arange(slices)[:, None, None]).astype(np.int16)
    affine = np.diag((-2.0, -2.0, 5.0, 1.0))
    return Volume(array, Grid(array.shape, affine))


def in_plane(array: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Bilinear, pixel by pixel, over the same edges."""
    out = np.empty((len(array), height, width))
    for y in range(height):
        for x in range(width):
            rows, columns = (
                np.clip((place + 0.5) * native / size - 0.5, 0, native - 1)
                for place, native, size in ((y, array.shape[1], height), (x, array.shape[2], width))
            )
            y0, x0 = int(rows), int(columns)
            y1, x1 = min(y0 + 1, array.shape[1] - 1), min(x0 + 1, array.shape[2] - 1)
            fy, fx = rows - y0, columns - x0
            upper = (1 - fx) * array[:, y0, x0] + fx * array[:, y0, x1]
            lower = (1 - fx) * array[:, y1, x0] + fx * array[:, y1, x1]
            out[:, y, x] = (1 - fy) * upper + fy * lower
    return out


@pytest.mark.parametrize("normalized", ["body", "zscore"])
@pytest.mark.parametrize(("slices", "depth", "first"), [(7, 12, 2), (8, 12, 2), (1, 12, 5), (12, 12, 0)])
def test_each_slice_is_its_own_and_beyond_them_is_air(slices: int, depth: int, first: int, normalized: str) -> None:
    card, volume = card_of(depth, "kept", normalized), study(slices)
    out = np.full(card.shape_zyx, np.nan, np.float32)
    (slab,) = write_slabs(volume, card, out)
    assert slab == Window.whole((slices, 24, 40)) and np.shares_memory(slab.part_of(out), out)
    norm = normalization(volume, card)
    scaled = (np.clip(volume.array.astype(np.float64), norm.lo, norm.hi) - norm.shift) * norm.scale
    np.testing.assert_allclose(out[first : first + slices], in_plane(scaled, 24, 40), atol=2e-5)
    np.testing.assert_array_equal(slab.part_of(out), out[first : first + slices])
    air = np.delete(out, np.arange(first, first + slices), axis=0)
    np.testing.assert_allclose(air, scaled.min(), atol=1e-6)
    if normalized == "body":
        assert (air == -1.0).all()


def test_a_study_of_more_slices_is_treated_as_without() -> None:
    volume = study(14)
    kept, resampled = (np.empty((12, 24, 40), np.float32) for _ in range(2))
    windows = [list(write_slabs(volume, card_of(12, s), out)) for s, out in (("kept", kept), ("resampled", resampled))]
    assert windows[0] == windows[1] == [Window.whole((12, 24, 40))]
    np.testing.assert_array_equal(kept, resampled)


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_model(tmp_path_factory.mktemp("kept") / "bright", "kept")


def test_a_study_is_answered_on_its_own_slices(bright: Path) -> None:
    """The network's sum over 3 x 3 x 3 voxels, computed here over the study's slices between air."""
    model = load_model(bright)
    phantom = make_phantom(5, "achieva", "n1").volume
    volume = Volume(phantom.array[3:22], Grid((19, *phantom.grid.shape[1:]), phantom.grid.affine))
    network = Network(model, ONNX_RUNTIME)
    answer = network.answer(volume, Rules())
    assert answer.window == Window.whole((19, 64, 64)) and answer.shape_zyx == model.card.shape_zyx
    x = np.empty(model.card.shape_zyx, np.float32)
    (slab,) = write_slabs(volume, model.card, x)
    padded = np.pad(x, 1)
    depth, height, width = x.shape
    total = sum(
        padded[z : z + depth, y : y + height, w : w + width] for z in range(3) for y in range(3) for w in range(3)
    )
    logits = slab.part_of(((total / 27) * 0.5 - 0.75).astype(np.float32))
    own = replace(model.card, shape_zyx=logits.shape)
    expected = segment(logits, volume.grid, own)
    assert expected.count == len(answer.nodes) > 3
    assert (expected.labels.array > 0).tolist() == (answer.labels.array > 0).tolist()
    resampled = Network(replace(model, card=replace(model.card, slices="resampled")), ONNX_RUNTIME)
    assert not np.array_equal(resampled.answer(volume, Rules()).labels.array > 0, answer.labels.array > 0)


def test_an_engine_proves_itself_on_the_probes_own_slices(bright: Path) -> None:
    with Engine(bright, backend="openvino", precision="fp32") as engine:
        assert engine.self_test.dice > 0.99 and engine.self_test.nodes > 0


def test_a_window_of_the_networks_grid_becomes_one_of_the_studys() -> None:
    window = Window((32, 256, 256), (0, 16, 0), (32, 192, 256))
    assert window.with_slices(19) == Window((19, 256, 256), (0, 16, 0), (19, 192, 256))
    assert window.with_slices(32) == window


def test_a_card_whose_slices_are_resampled_takes_no_grid_of_fewer() -> None:
    volume, window = study(7), Window.whole((7, 24, 40))
    for card, fits in ((card_of(12, "kept"), True), (card_of(12, "resampled"), False)):
        out, logits = np.empty((12, 24, 40), np.float32), np.full((7, 24, 40), -9.0, np.float32)
        if fits:
            write_input(volume, card, out, window=window)
            assert segment(logits, volume.grid, card, window=window).count == 0
            continue
        with pytest.raises(UsageError, match="bad-window"):
            write_input(volume, card, out, window=window)
        with pytest.raises(UsageError, match="bad-window"):
            segment(logits, volume.grid, card, window=window)


def test_the_card_says_whether_slices_are_kept() -> None:
    entries = card_dict({"shape_zyx": (12, 24, 40), "normalization": "body", "slices": "kept"})
    kept = ModelCard.from_json(json.dumps(entries))
    assert kept.slices == "kept" and kept.least_grid_zyx == (1, 24, 40)
    del entries["input"]["slices"]
    unsaid = ModelCard.from_json(json.dumps(entries))
    assert unsaid.slices == "resampled" and unsaid.least_grid_zyx == (12, 24, 40)
    assert kept.decisive != unsaid.decisive
    entries["input"]["slices"] = "some"
    with pytest.raises(ModelError, match="bad-card"):
        ModelCard.from_json(json.dumps(entries))
