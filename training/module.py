"""What Lightning runs: the network, its loss, its optimizer, and how it is judged."""

from __future__ import annotations

import copy
from dataclasses import astuple
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from lnfast.errors import LnfastError
from training.loaders import Batch, Studies
from training.loss import Teacher, node_loss
from training.presets import Preset
from training.stop import Asked
from training.unet import UNet
from training.validate import Score, judge, recalibrate


class Segmenter(LightningModule):
    """A U-Net that is trained on batches of `training.loaders` and judged on whole held-out studies.

    Args:
        preset: says width, loss and optimizer.
        studies: shared with the loader; copies of this module share them too.
        seed: of what is drawn to measure the batch statistics.
        threshold: probability at which validation cuts.
        teacher: of a run before, or None.
        asked: whether to stop, or None where nobody asks.

    Attributes:
        score: after a validation, the sum over the held-out studies of all devices.
    """

    def __init__(
        self,
        preset: Preset,
        studies: Studies,
        seed: int,
        threshold: float,
        teacher: Teacher | None = None,
        asked: Asked | None = None,
    ) -> None:
        super().__init__()
        self.preset, self.studies, self.seed, self.threshold = preset, studies, seed, threshold
        self.teacher, self.asked = teacher, asked or Asked()
        self.net = UNet(preset.width).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.loss = node_loss(preset.loss)
        self._judged: list[UNet] = []  # in a list, lest its weights count as this module's
        self.score = Score()

    @property
    def judged(self) -> UNet:
        """After a validation, the network that was judged: its own batch statistics, evaluation mode."""
        return self._judged[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one micro-batch."""
        image, truth, index = batch
        step, part = divmod(index, self.trainer.accumulate_grad_batches)
        if (step, part) != (self.global_step, batch_idx % self.trainer.accumulate_grad_batches):
            raise LnfastError(
                "batches-slipped",
                f"got micro-batch {part} of step {step} at step {self.global_step}; our own fault, please report it",
            )
        image = image.contiguous(memory_format=torch.channels_last_3d)
        logits = self.net(image)
        with torch.autocast(self.device.type, enabled=False):
            loss: Tensor = self.loss(logits.float(), truth)
        if self.teacher is not None:
            share = self.preset.teaching
            loss = (1 - share) * loss + share * self.teacher.loss(image, logits.float())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; the rate is set before each step by `training.callbacks.Budget`."""
        return torch.optim.Adam(self.net.parameters(), lr=self.preset.learning_rate)

    def on_validation_epoch_start(self) -> None:
        """Take a copy of the (averaged) network and measure its batch statistics on whole studies."""
        self._judged = [copy.deepcopy(self.net).eval()]
        if self.preset.recalibration:
            studies = self.studies
            recalibrate(
                self.judged,
                studies.cases,
                studies.card,
                self.preset.recalibration,
                self.seed,
                str(self.trainer.precision),
                lambda: self.asked.check_alone(self.trainer),
            )
        share_buffers(self.judged)
        self.score = Score()

    def validation_step(self, index: int, batch_idx: int) -> None:
        """Add one held-out study to the score."""
        precision = str(self.trainer.precision)
        self.score += judge(self.judged, self.studies.held[index], self.studies.card, self.threshold, precision)

    def on_validation_epoch_end(self) -> None:
        """Add up over devices; Dice goes to early stopping and to the progress bar."""
        counts = torch.tensor(astuple(self.score), dtype=torch.int64, device=self.device)
        summed: Any = self.trainer.strategy.reduce(counts, reduce_op="sum")
        self.score = Score(*(int(n) for n in summed))
        self.log("dice", float(self.score.summary()["dice"] or 0.0), prog_bar=True, logger=False)


def share_buffers(net: UNet) -> None:
    """Several devices judge by the batch statistics of the first: those that the snapshot is written with.

    Each has learned from other items since statistics were last shared, at the beginning of its last micro-batch.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, 0)
