"""The Lightning module: the network, its loss, its optimizer, and its validation."""

from __future__ import annotations

import copy
from dataclasses import astuple, replace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lnfast.errors import LnfastError
from training.data.batches import Batch, CasePool
from training.fit.validation import ValidationCounts, validate_case
from training.model.loss import Teacher, coarse_loss, node_loss
from training.model.networks import build_network
from training.recipe.presets import Preset


class Segmenter(LightningModule):
    """A network that is trained on batches of `training.data.batches` and validated on whole studies.

    Args:
        preset: says network, loss and optimizer.
        pool: shared with the loader; copies of this module share them too.
        threshold: probability at which validation cuts.
        teacher: of a run before, or None.

    Attributes:
        counts: after a validation, the sum over the validation cases of all devices.
    """

    def __init__(self, preset: Preset, pool: CasePool, threshold: float, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.preset, self.pool, self.threshold, self.teacher = preset, pool, threshold, teacher
        self.card = replace(pool.card, threshold=threshold)
        self.net = build_network(preset.network, preset.width)
        self.loss = node_loss(preset.loss)
        self._validated_net: list[nn.Module] = []  # in a list, lest its weights count as this module's
        self.counts = ValidationCounts()

    @property
    def validated_net(self) -> nn.Module:
        """The network that was validated last, in evaluation mode."""
        return self._validated_net[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one micro-batch."""
        image, truth, weight, index = batch
        step, part = divmod(index, self.trainer.accumulate_grad_batches)
        if (step, part) != (self.global_step, batch_idx % self.trainer.accumulate_grad_batches):
            raise LnfastError(
                "batches-slipped",
                f"got micro-batch {part} of step {step} at step {self.global_step}; our own fault, please report it",
            )
        image = image.contiguous(memory_format=torch.channels_last_3d)
        outputs = self.net(image)
        logits, coarse = outputs if isinstance(outputs, tuple) else (outputs, None)
        with torch.autocast(self.device.type, enabled=False):
            loss = self.loss(logits.float(), truth, weight)
            if coarse is not None:
                loss = loss + self.preset.coarse * coarse_loss(self.loss, coarse.float(), truth)
        if self.teacher is not None:
            share = self.preset.teaching
            loss = (1 - share) * loss + share * self.teacher.loss(image, logits.float())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam or AdamW; the rate is set before each step by `training.fit.schedule.Budget`."""
        rate, decay, learned = (
            self.preset.learning_rate,
            self.preset.weight_decay,
            [p for p in self.net.parameters() if p.requires_grad],
        )
        if decay is None:
            return torch.optim.Adam(learned, lr=rate)
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))

    def on_validation_epoch_start(self) -> None:
        """Take a copy of the (averaged) network."""
        self._validated_net = [copy.deepcopy(self.net).eval()]
        share_buffers(self.validated_net)
        self.counts = ValidationCounts()

    def validation_step(self, index: int, batch_idx: int) -> None:
        """Add the counts of one validation case."""
        case = self.pool.validation[index].load()
        self.counts += validate_case(self.validated_net, case, self.card, str(self.trainer.precision))

    def on_validation_epoch_end(self) -> None:
        """Sum the counts over devices; Dice goes to early stopping and to the progress bar."""
        counts = torch.tensor(astuple(self.counts), dtype=torch.int64, device=self.device)
        summed: Any = self.trainer.strategy.reduce(counts, reduce_op="sum")
        self.counts = ValidationCounts(*(int(n) for n in summed))
        self.log("dice", float(self.counts.summary()["dice"] or 0.0), prog_bar=True, logger=False)


def share_buffers(net: nn.Module) -> None:
    """Validate with the batch statistics of the first device, with which the weights are written.

    Each device has seen other items since statistics were last shared, at the beginning of its last micro-batch.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in net.buffers():
            torch.distributed.broadcast(buffer, 0)
