"""Batches, prepared in advance. The content of a batch depends on the seed, the step and the cases alone.

Item ``i`` of step ``s`` is the same whether one device learns from all of them or several share them, at once or a
few at a time, and whether the run was stopped before it or not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from lnfast.card import ModelCard
from training.data.affine import random_affine
from training.data.case import LoadableCase
from training.data.crops import CropMaker
from training.data.model_grid import whole_study
from training.recipe.presets import Preset


class Batch(NamedTuple):
    """Micro-batch ``position`` of a run: image, soft truth and weights of voxels, ``(n, 1, z, y, x)`` float32."""

    image: Tensor
    truth: Tensor
    weight: Tensor
    position: int


Item = tuple[Tensor, Tensor, Tensor]


class CasePool:
    """The cases of a run; training cases may be added while batches are made of them.

    Args:
        card: fixes the model grid.
        training, validation: cases of either kind.
    """

    def __init__(self, card: ModelCard, training: Sequence[LoadableCase], validation: Sequence[LoadableCase]) -> None:
        self.card, self.validation = card, tuple(validation)
        # Replaced whole, never changed: a thread that makes a batch sees one state of it.
        self.training = tuple(training)

    def __deepcopy__(self, memo: dict[int, Any]) -> CasePool:
        return self  # a copy of the network needs no copy of the patients


@dataclass(frozen=True)
class BatchShare:
    """Which items of each step this process trains on.

    Attributes:
        micro: items at a time.
        rank, world: this process among all of them.
    """

    micro: int
    rank: int = 0
    world: int = 1

    def accumulation(self, batch: int) -> int:
        """Return the number of micro-batches in a step."""
        return batch // (self.micro * self.world)

    def items(self, part: int) -> range:
        """Return the items of micro-batch ``part`` of a step."""
        first = (part * self.world + self.rank) * self.micro
        return range(first, first + self.micro)


class Batches:
    """One epoch of micro-batches, from the micro-batch on that ``position`` returns.

    Args:
        pool: whose training cases batches are made of.
        preset: says how.
        seed: of the run.
        share: of this process.
        position: index of the next micro-batch in the whole run.
        workers: threads that prepare as many micro-batches ahead.
    """

    def __init__(
        self,
        pool: CasePool,
        preset: Preset,
        seed: int,
        share: BatchShare,
        position: Callable[[], int],
        workers: int = 1,
    ) -> None:
        self.pool, self.preset, self.seed, self.share = pool, preset, seed, share
        self.position, self.workers = position, workers
        self.accumulation = share.accumulation(preset.batch)

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of an epoch."""
        return self.preset.epoch_steps or math.ceil(len(self.pool.training) / self.preset.batch)

    def __len__(self) -> int:
        return self.epoch_steps * self.accumulation

    def __iter__(self) -> Iterator[Batch]:
        first = self.position()
        last = (first // len(self) + 1) * len(self)
        # Each on one core beside the training, whose own threads are more.
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as maker:
            ahead = deque(maker.submit(self.make, i) for i in range(first, min(first + self.workers, last)))
            for index in range(first, last):
                batch = ahead.popleft().result()
                if index + self.workers < last:
                    ahead.append(maker.submit(self.make, index + self.workers))
                yield batch

    def make(self, index: int) -> Batch:
        """Make micro-batch ``index`` of the run."""
        step, part = divmod(index, self.accumulation)
        item = self._items(step)
        image, truth, weight = (torch.cat(parts) for parts in zip(*map(item, self.share.items(part)), strict=True))
        return Batch(image, truth, weight, index)

    def _items(self, step: int) -> Callable[[int], Item]:
        """Return the function that makes an item of a step, by its number in the batch."""
        if self.preset.crops is not None:
            return CropMaker(self.pool.training, self.pool.card, self.preset, self.seed, step).item
        return partial(self._whole, self.pool.training, step)

    def _whole(self, cases: Sequence[LoadableCase], step: int, item: int) -> Item:
        # Every case once an epoch; the last batch is filled up with the first ones.
        epoch, place = divmod(step, self.epoch_steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(cases))
        case = cases[order[(place * self.preset.batch + item) % len(cases)]].load()
        full = torch.cat(whole_study(case, self.pool.card), dim=1)
        if self.preset.augmentation is not None:
            full = random_affine(full, self.preset.augmentation, np.random.default_rng([self.seed, step, item]))
        return full[:, :1], full[:, 1:], torch.ones(1, 1, 1, 1, 1)


class BatchDataModule(LightningDataModule):
    """Gives Lightning `Batches` and the indices of the validation cases, each process its share.

    Args:
        pool, preset, seed: as for `Batches`.
        micro: items at a time.
        workers: as for `Batches`.
    """

    def __init__(self, pool: CasePool, preset: Preset, seed: int, micro: int, workers: int) -> None:
        super().__init__()
        self.pool, self.preset, self.seed, self.micro, self.workers = pool, preset, seed, micro, workers

    def train_dataloader(self) -> Batches:
        """Return batches from the present step on; checkpoints are only written between two optimizer steps."""
        trainer: Any = self.trainer
        share = BatchShare(self.micro, trainer.global_rank, trainer.world_size)
        accumulation = trainer.accumulate_grad_batches
        return Batches(
            self.pool, self.preset, self.seed, share, lambda: trainer.global_step * accumulation, self.workers
        )

    def val_dataloader(self) -> range:
        """Return indices, because Lightning would copy whole studies to the device."""
        trainer: Any = self.trainer
        return range(trainer.global_rank, len(self.pool.validation), trainer.world_size)
