"""What changes during a run: learning rate, batch statistics, averaged weights, cases. All of it survives a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from training.model.networks import freeze_norms

TAKE_CASES_EVERY = 40  # optimizer steps
WARM_UP = 0.03


class Budget(Callback):
    """Sets the learning rate by the share of the budget that is used, and ends the run with it.

    Args:
        highest: learning rate.
        schedule: as in `Preset`.
        steps: optimizer steps, or None.
        minutes: wall clock with validations, over all tries, or None; exactly one of the two is given.
    """

    def __init__(self, highest: float, schedule: str, steps: int | None, minutes: float | None) -> None:
        self.highest, self.schedule, self.steps, self.minutes = highest, schedule, steps, minutes
        self._before_s, self._since = 0.0, time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds over all calls of `fit`, without what an interrupted one did after its last checkpoint."""
        return self._before_s + time.monotonic() - self._since

    def progress(self, step: int) -> float:
        """Return the share of the budget that is used, 0-1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, self.elapsed_s / 60 / float(self.minutes or 1))

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = time.monotonic()
        trainer.should_stop = trainer.should_stop or self.progress(trainer.global_step) >= 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        rate = self.highest * (cosine(self.progress(trainer.global_step)) if self.schedule == "cosine" else 1.0)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if stepped(trainer, batch_idx) and self.progress(trainer.global_step) >= 1:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed_s": self.elapsed_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before_s, self._since = state_dict["elapsed_s"], time.monotonic()


class FreezeNorms(Callback):
    """Freezes batch statistics for the last part of the budget, as validation and inference use them.

    Args:
        budget: knows how far the run is.
        share: of the budget, after which that begins.
    """

    def __init__(self, budget: Budget, share: float) -> None:
        self.budget, self.share = budget, share

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.budget.progress(trainer.global_step) >= self.share:
            freeze_norms(pl_module.net)  # at each step: after a validation Lightning sets all to training


class WeightAverage(WeightAveraging):
    """Moving average of the weights; Lightning validates it and keeps it in the checkpoint.

    Args:
        decay: share of the old. Early on the average follows faster, else it would remember the random start.
    """

    state_key = "Average"  # in checkpoints, also those of earlier versions

    def __init__(self, decay: float) -> None:
        def average(slow: list[Tensor], fast: list[Tensor], count: Tensor) -> None:
            updates = int(count)
            torch._foreach_lerp_(slow, fast, 1 - min(decay, (1 + updates) / (10 + updates)))

        super().__init__(use_buffers=False, multi_avg_fn=average)


class PhantomIntake(Callback):
    """Adds the cases that have been made in the meantime."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if stepped(trainer, batch_idx) and trainer.global_step % TAKE_CASES_EVERY == 0:
            self.look()


def stepped(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether this micro-batch was the last of an optimizer step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def cosine(progress: float) -> float:
    """Return the share of the highest learning rate: warm-up, then half a cosine to zero."""
    if progress < WARM_UP:
        return max(0.02, progress / WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
