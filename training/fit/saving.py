"""Checkpoints, from which a run resumes, and validated weights, which `export` uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint

from training.data.batches import BatchShare
from training.fit.checkpoint_io import SAVER_STATE_KEY, checkpoints
from training.fit.interrupt import StopRequest
from training.fit.schedule import stepped
from training.model.weights_file import save_weights
from training.recipe.presets import Preset


class SignalListener(Callback):
    """Installs the signal handler before anything that takes long.

    Args:
        stop_request: whether to stop.
    """

    def __init__(self, stop_request: StopRequest) -> None:
        self.stop_request = stop_request

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.stop_request.listen()


class CheckpointSaver(Checkpoint):
    """Writes checkpoints: every so many steps, before and after each validation, and when a stop is requested.

    Args:
        folder: of the checkpoints; the newest two stay.
        every: optimizer steps.
        stop_request: whether to stop.
    """

    state_key = SAVER_STATE_KEY  # in checkpoints, also those of earlier versions

    def __init__(self, folder: Path, every: int, stop_request: StopRequest) -> None:
        self.folder, self.every, self.stop_request = folder, every, stop_request
        self.finished = False
        self.share: BatchShare | None = None  # set before the first step

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.finished

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Lightning would skip the validation of an epoch whose checkpoint was written at its very last batch.
        if not stepped(trainer, batch_idx) or trainer.is_last_batch or trainer.should_stop:
            return
        left = int(trainer.num_training_batches) - batch_idx - 1
        due = trainer.global_step % self.every == 0 or left == trainer.accumulate_grad_batches
        self.stop_request.share_between_devices(trainer)
        if due or self.stop_request.signal is not None:
            self.save(trainer)
        self.stop_request.raise_if_requested()

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.stop_request.raise_on_single_device(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.finished = trainer.should_stop
        self.save(trainer)
        self.stop_request.share_between_devices(trainer)
        self.stop_request.raise_if_requested()

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


class WeightsSaver(Callback):
    """Writes the validated weights, which `export` uses: the last or the best, as the preset says.

    Args:
        path: of ``snapshot.safetensors``.
        preset: says which.
        header: what the header says beside the score.
    """

    state_key = "Snapshots"  # in checkpoints, also those of earlier versions

    def __init__(self, path: Path, preset: Preset, header: Callable[[int], dict[str, Any]]) -> None:
        self.path, self.preset, self.header = path, preset, header
        self.best = -1.0

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        summary = pl_module.counts.summary()
        dice = float(summary["dice"] or 0.0)
        if self.preset.keep == "best" and dice <= self.best:
            return
        self.best = max(self.best, dice)
        if trainer.is_global_zero:
            header = self.header(trainer.global_step) | {
                "validation": summary,
                "threshold": pl_module.threshold,
                "torch": torch.__version__,
            }
            save_weights(self.path, pl_module.validated_net.state_dict(), header)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
