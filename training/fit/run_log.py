"""``log.jsonl`` and TensorBoard's curves of a run."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from lnfast.atomic import write_file
from training.fit.real_scans import RealScan, count_marks
from training.fit.schedule import Budget, stepped

LOG_EVERY = 20  # optimizer steps


class RunLog(Callback):
    """Logs loss and validation to ``log.jsonl``, TensorBoard, and standard error where there is no progress bar.

    Args:
        path: of ``log.jsonl``.
        budget: knows the time.
        loud: whether lines go to standard error.
        scans: real ones, which are looked at after each validation.
    """

    state_key = "Journal"  # in checkpoints, also those of earlier versions

    def __init__(self, path: Path, budget: Budget, loud: bool, scans: Sequence[RealScan] = ()) -> None:
        self.path, self.budget, self.loud, self.scans = path, budget, loud, scans
        self._sum, self._count = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Remove the lines after the checkpoint that the run resumes from: those steps are about to be repeated."""
        if trainer.is_global_zero and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            earlier_lines = [line for line in lines if _step_of(line) <= trainer.global_step]
            if len(earlier_lines) < len(lines):
                write_file(self.path, "".join(line + "\n" for line in earlier_lines).encode())

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._sum = self._sum + outputs["loss"].detach()  # a tensor: a GPU is not waited for at each step
        self._count += 1
        step = trainer.global_step
        if stepped(trainer, batch_idx) and step % LOG_EVERY == 0:
            loss = float(self._sum) / self._count
            self._sum, self._count = 0.0, 0
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._write(trainer, {"loss": loss}, {"loss": loss, "learning_rate": rate})

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        summary = pl_module.counts.summary()
        curves = {f"validation/{k}": float(v) for k, v in summary.items() if v is not None}
        line: dict[str, Any] = {"validation": summary}
        if self.scans and trainer.is_global_zero:
            line["real"] = count_marks(pl_module.validated_net, self.scans, pl_module.card, str(trainer.precision))
            curves |= {f"real/{name}-{at}": float(n) for at, of in line["real"].items() for name, n in of.items()}
        self._write(trainer, line, curves)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": float(self._sum), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sum, self._count = state_dict["sum"], state_dict["count"]

    def _write(self, trainer: Trainer, entries: dict[str, Any], curves: dict[str, float]) -> None:
        step = trainer.global_step
        if trainer.logger is not None:
            trainer.logger.log_metrics(curves, step)
        if not trainer.is_global_zero:
            return
        line = {"step": step, "minutes": self.budget.elapsed_s / 60, **entries}
        text = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        if self.loud:
            print(text, file=sys.stderr, flush=True)


def _step_of(line: str) -> float:
    """Return the step of a line of the log; infinity for half a line, which a power cut may leave."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
