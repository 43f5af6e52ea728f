"""Batches, how they are shared and resumed, and the augmentation of whole studies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")

import training_runs as runs  # noqa: E402

from training.data.affine import random_affine  # noqa: E402
from training.data.batches import Batches, BatchShare, CasePool  # noqa: E402
from training.data.case import Case  # noqa: E402
from training.recipe.presets import Augmentation  # noqa: E402


@pytest.fixture(scope="module")
def pool() -> CasePool:
    return runs.case_pool()


def batches(pool: CasePool, share: BatchShare | None = None, position: int = 0, **changes: Any) -> Batches:
    return Batches(pool, runs.tiny(**changes), 3, share or BatchShare(2), lambda: position)


def blob(place: tuple[int, int, int]) -> Any:
    """A ball of three voxels in a study of 32 x 64 x 64, as input and as truth."""
    axes = np.meshgrid(*(np.arange(n) for n in (32, 64, 64)), indexing="ij")
    square = sum((axis - at) ** 2 for axis, at in zip(axes, place, strict=True))
    ball = torch.from_numpy(np.exp(-square / 9.0).astype(np.float32))
    return torch.stack((ball, ball))[None]


def centre(volume: Any) -> Any:
    """Of mass, in voxels from the study's middle."""
    mass = volume.double().numpy()
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in mass.shape), indexing="ij")
    return np.array([(mass * axis).sum() / mass.sum() for axis in axes])


@pytest.mark.parametrize(
    ("augmentation", "farthest"),
    [
        (Augmentation(0, 0, 0), (0, 0, 0)),
        (Augmentation(0, 0, 0.1), (3.2, 6.4, 6.4)),
        # A point 12 voxels from the middle along y: a turn about x or z moves it by 12 sin 5 degrees, a shear likewise.
        (Augmentation(5, 0, 0), (1.1, 0.2, 1.1)),
        (Augmentation(0, 5, 0), (1.1, 0.2, 1.1)),
    ],
)
def test_augmentation_moves_studies_as_far_as_the_paper_says(
    augmentation: Augmentation, farthest: tuple[float, ...]
) -> None:
    full = blob((16, 44, 32))
    start = centre(full[0, 0])
    shifts = []
    for seed in range(14):
        after = random_affine(full, augmentation, np.random.default_rng(seed))
        assert after.shape == full.shape and torch.equal(after[0, 0], after[0, 1])
        shifts.append(np.abs(centre(after[0, 0]) - start))
    assert (np.max(shifts, axis=0) <= np.array(farthest) + 0.1).all()
    assert (np.max(shifts, axis=0) >= 0.7 * np.array(farthest) - 0.15).all()
    again = random_affine(full, augmentation, np.random.default_rng(13))
    assert torch.equal(after, again)


def test_a_batch_repeats_and_depends_on_seed_and_step(pool: CasePool) -> None:
    source = batches(pool)
    first, again, different = source.make(5), source.make(5), source.make(6)
    assert first[0].shape == first[1].shape == (2, 1, 24, 32, 32) and first.position == 5
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], different[0])
    assert float(first.truth.min()) >= 0 and float(first.truth.max()) <= 1
    assert first.weight.shape == first.truth.shape and torch.equal(first.weight, again.weight)
    assert not torch.equal(first[0], Batches(pool, runs.tiny(), 4, BatchShare(2), lambda: 0).make(5)[0])


def test_devices_share_a_step_that_is_the_same_as_on_one(pool: CasePool) -> None:
    whole = batches(pool, BatchShare(4), batch=4).make(2)[0]
    ranks = [batches(pool, BatchShare(1, rank, 2), batch=4) for rank in (0, 1)]
    assert [rank.accumulation for rank in ranks] == [2, 2]
    parts = [rank.make(2 * 2 + part)[0] for part in (0, 1) for rank in ranks]
    assert torch.equal(torch.cat(parts), whole)
    assert sorted(item for r in range(2) for part in range(2) for item in BatchShare(1, r, 2).items(part)) == [
        0,
        1,
        2,
        3,
    ]


def test_a_resumed_epoch_continues_at_its_next_batch(pool: CasePool) -> None:
    full = [(batch.position, batch.image) for batch in batches(pool, epoch_steps=4, position=4)]
    rest = [(batch.position, batch.image) for batch in batches(pool, epoch_steps=4, position=6)]
    assert [index for index, _ in full] == [4, 5, 6, 7] and [index for index, _ in rest] == [6, 7]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(full[2:], rest, strict=True))


def test_whole_studies_come_once_an_epoch(pool: CasePool, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def whole_study(case: Case, card: Any) -> Any:
        names.append(case.name)
        return torch.zeros(1, 1, 24, 64, 64), torch.zeros(1, 1, 24, 64, 64)

    monkeypatch.setattr("training.data.batches.whole_study", whole_study)
    epochs = batches(
        pool, BatchShare(1), crops=None, patch_zyx=None, epoch_steps=None, batch=2, augmentation=Augmentation()
    )
    assert epochs.epoch_steps == 3
    for index in range(2 * len(epochs)):
        assert epochs.make(index)[0].shape == (1, 1, 24, 64, 64)
    for epoch in (names[:6], names[6:]):
        assert sorted(epoch[:5]) == [f"{n:05d}" for n in range(5)] and epoch[5] == epoch[0]
    assert names[:5] != names[6:11]
