"""Hard-mimic sampling: now and then the network is asked what it falls for, and patches are laid there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from training.mine import mine, mined
from training.module import Segmenter
from training.stop import Asked
from training.unet import UNet


class Mimics(Callback):
    """Mines some of the training cases, others each time, and hands what was found to the sampler.

    Args:
        folder: keeps what was found, a file a time, so that an interrupted run goes on with the same.
        studies: cases a time.
        every: epochs between two times.
        asked: whether to stop.
        start: network to ask before the first step, or None.
    """

    def __init__(self, folder: Path, studies: int, every: int, asked: Asked, start: UNet | None = None) -> None:
        self.folder, self.studies, self.every, self.asked, self.start = folder, studies, every, asked, start
        self.rounds: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: Segmenter) -> None:
        if self.start is not None and not self.rounds:
            self._ask(trainer, pl_module, self.start.to(pl_module.device))
        self.start = None
        for name in self.rounds:
            pl_module.studies.replace_mimics(mined(self.folder / name))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Segmenter) -> None:
        if (trainer.current_epoch + 1) % self.every == 0 and not trainer.should_stop:
            self._ask(trainer, pl_module, pl_module.judged)
            pl_module.studies.replace_mimics(mined(self.folder / self.rounds[-1]))

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": list(self.rounds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rounds = list(state_dict["rounds"])

    def _ask(self, trainer: Trainer, pl_module: Segmenter, net: UNet) -> None:
        name = f"step-{trainer.global_step:08d}.npz"
        studies = pl_module.studies
        if trainer.is_global_zero:
            mine(
                self.folder / name,
                net,
                studies.cases,
                studies.card,
                studies=self.studies,
                first=len(self.rounds) * self.studies,
                threshold=pl_module.threshold,
                precision=str(trainer.precision),
                check=lambda: self.asked.check_alone(trainer),
            )
        trainer.strategy.barrier("mimics")
        self.rounds.append(name)
