"""What happens between steps: schedule, checkpoints, log, snapshots, new cases. All of it goes on after a kill."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging
from torch import Tensor

from training.data.batches import Share
from training.files import write_text
from training.fit.checkpoint_io import checkpoints
from training.fit.interrupt import Asked
from training.fit.real_scans import RealScan, look
from training.fit.segmenter import Segmenter
from training.model.networks import freeze_norms
from training.model.weights_file import save_tensors
from training.recipe.presets import Preset

LOG_EVERY, LOOK_EVERY = 20, 40
WARM_UP = 0.03


class Listener(Callback):
    """Begins to listen for signals before anything that takes its time.

    Args:
        asked: whether to stop.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.asked.listen()


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
        """Seconds over all tries; what an interrupted one did after its last checkpoint is not among them."""
        return self._before_s + time.monotonic() - self._since

    def progress(self, step: int) -> float:
        """Share of the budget that is used, 0-1."""
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
    """Leaves the batch statistics as they are for the last part of the budget: what is judged then uses them.

    Args:
        budget: knows how far the run is.
        share: of the budget, after which that begins.
    """

    def __init__(self, budget: Budget, share: float) -> None:
        self.budget, self.share = budget, share

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.budget.progress(trainer.global_step) >= self.share:
            freeze_norms(pl_module.net)  # at each step: after a validation Lightning sets all to training


class Average(WeightAveraging):
    """Moving average of the weights; Lightning validates it and keeps it in the checkpoint.

    Args:
        decay: share of the old. Early on the average follows faster, else it would remember the random start.
    """

    def __init__(self, decay: float) -> None:
        def average(slow: list[Tensor], fast: list[Tensor], count: Tensor) -> None:
            updates = int(count)
            torch._foreach_lerp_(slow, fast, 1 - min(decay, (1 + updates) / (10 + updates)))

        super().__init__(use_buffers=False, multi_avg_fn=average)


class Keeper(Checkpoint):
    """Checkpoints: every so many steps, before and after each validation, and when the run is asked to stop.

    Args:
        folder: of the checkpoints; the newest two stay.
        every: optimizer steps.
        asked: whether to stop.
    """

    def __init__(self, folder: Path, every: int, asked: Asked) -> None:
        self.folder, self.every, self.asked = folder, every, asked
        self.finished = False
        self.share: Share | None = None  # set before the first step

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.finished

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Lightning would skip the validation of an epoch whose checkpoint was written at its very last batch.
        if not stepped(trainer, batch_idx) or trainer.is_last_batch or trainer.should_stop:
            return
        left = int(trainer.num_training_batches) - batch_idx - 1
        due = trainer.global_step % self.every == 0 or left == trainer.accumulate_grad_batches
        self.asked.share(trainer)
        if due or self.asked.signal is not None:
            self.save(trainer)
        self.asked.check()

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.asked.check_alone(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.finished = trainer.should_stop
        self.save(trainer)
        self.asked.share(trainer)
        self.asked.check()

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint of this step and remove all but the one before."""
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:08d}")
        if trainer.is_global_zero:
            for old in checkpoints(self.folder)[:-2]:
                trainer.strategy.remove_checkpoint(old)

    def state_dict(self) -> dict[str, Any]:
        share = None if self.share is None else {"micro": self.share.micro, "world": self.share.world}
        return {"finished": self.finished, "share": share}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.finished = state_dict["finished"]


class Journal(Callback):
    """Loss and validation: ``log.jsonl``, TensorBoard, and standard error where there is no progress bar.

    Args:
        path: of ``log.jsonl``.
        budget: knows the time.
        loud: whether lines go to standard error.
        scans: real ones, which are looked at after each validation.
    """

    def __init__(self, path: Path, budget: Budget, loud: bool, scans: Sequence[RealScan] = ()) -> None:
        self.path, self.budget, self.loud, self.scans = path, budget, loud, scans
        self._sum, self._count = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Forget what was logged after the checkpoint that the run goes on from: it is about to happen again."""
        if trainer.is_global_zero and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= trainer.global_step]
            if len(kept) < len(lines):
                write_text(self.path, "".join(line + "\n" for line in kept))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._sum = self._sum + outputs["loss"].detach()  # a tensor: a GPU is not waited for at each step
        self._count += 1
        step = trainer.global_step
        if stepped(trainer, batch_idx) and step % LOG_EVERY == 0:
            loss = float(self._sum) / self._count
            self._sum, self._count = 0.0, 0
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._write(trainer, {"loss": loss}, {"loss": loss, "learning_rate": rate})

    def on_validation_end(self, trainer: Trainer, pl_module: Segmenter) -> None:
        found = pl_module.score.summary()
        curves = {f"validation/{k}": float(v) for k, v in found.items() if v is not None}
        line: dict[str, Any] = {"validation": found}
        if self.scans and trainer.is_global_zero:
            line["real"] = look(pl_module.judged, self.scans, pl_module.card, str(trainer.precision))
            curves |= {f"real/{name}-{at}": float(n) for at, of in line["real"].items() for name, n in of.items()}
        self._write(trainer, line, curves)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": float(self._sum), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sum, self._count = state_dict["sum"], state_dict["count"]

    def _write(self, trainer: Trainer, said: dict[str, Any], curves: dict[str, float]) -> None:
        step = trainer.global_step
        if trainer.logger is not None:
            trainer.logger.log_metrics(curves, step)
        if not trainer.is_global_zero:
            return
        line = {"step": step, "minutes": self.budget.elapsed_s / 60, **said}
        text = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        if self.loud:
            print(text, file=sys.stderr, flush=True)


class Snapshots(Callback):
    """Writes the judged network, which is what `export` takes: the last or the best, as the preset says.

    Args:
        path: of ``snapshot.safetensors``.
        preset: says which.
        meta: what the header says beside the score.
    """

    def __init__(self, path: Path, preset: Preset, meta: Callable[[int], dict[str, Any]]) -> None:
        self.path, self.preset, self.meta = path, preset, meta
        self.best = -1.0

    def on_validation_end(self, trainer: Trainer, pl_module: Segmenter) -> None:
        found = pl_module.score.summary()
        dice = float(found["dice"] or 0.0)
        if self.preset.keep == "best" and dice <= self.best:
            return
        self.best = max(self.best, dice)
        if trainer.is_global_zero:
            meta = self.meta(trainer.global_step) | {
                "validation": found,
                "threshold": pl_module.threshold,
                "torch": torch.__version__,
            }
            save_tensors(self.path, pl_module.judged.state_dict(), meta)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class Intake(Callback):
    """Looks for cases that have been made in the meantime."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if stepped(trainer, batch_idx) and trainer.global_step % LOOK_EVERY == 0:
            self.look()


def stepped(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this micro-batch was the last of an optimizer step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def cosine(progress: float) -> float:
    """Share of the highest learning rate: warm-up, then half a cosine to zero."""
    if progress < WARM_UP:
        return max(0.02, progress / WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def _step_of(line: str) -> float:
    """The step of a line of the log; infinity for half a line, which a lost machine may leave."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
