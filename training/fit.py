"""The training loop: seeded, resumable, ended by steps or by the clock."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lnfast.card import ModelCard
from lnfast.errors import UsageError
from training import data
from training.cohort import Case
from training.loss import node_loss
from training.unet import UNet

EMA_DECAY = 0.99
WARM_UP = 0.03


@dataclass(frozen=True)
class FitConfig:
    """What a run is; the checkpoint refuses another.

    Attributes:
        seed: of weights and batches.
        width: of the U-Net.
        learning_rate: the highest; warm-up, then a cosine to zero. The paper's 1e-4 is for 300 epochs on GPUs.
        batch: patches a step.
        patch_zyx: voxels of a patch, multiples of 8.
        steps: where the schedule ends, or None.
        minutes: of wall clock where the schedule ends, or None; exactly one of the two is given.
        bf16: autocast, twice as fast. Its weight gradients differ in their last bits between two equal calls (oneDNN
            of torch 2.13), so a run that must repeat to the bit is FP32.
    """

    seed: int = 1
    width: int = 8
    learning_rate: float = 2e-3
    batch: int = 2
    patch_zyx: tuple[int, int, int] = data.PATCH_ZYX
    steps: int | None = None
    minutes: float | None = None
    bf16: bool = True

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("bad-budget", "wanted exactly one of steps and minutes")


class Fit:
    """Weights, their moving average, the optimizer and where the run stands.

    Args:
        config: what the run is.
        cases: training cases; more may be appended while it runs.
        card: says the network's grid.
    """

    def __init__(self, config: FitConfig, cases: Sequence[Case], card: ModelCard) -> None:
        torch.manual_seed(config.seed)
        self.config, self.cases, self.card = config, cases, card
        self.model = UNet(config.width).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.loss = node_loss()
        self.step, self.elapsed_s = 0, 0.0

    def begin_with(self, tensors: dict[str, Tensor]) -> None:
        """Take another run's weights as the starting point; the schedule and the optimizer start anew."""
        self.model.load_state_dict(tensors)
        self.average.load_state_dict(tensors)

    @property
    def progress(self) -> float:
        """Share of the budget that is used, 0-1."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        return min(1.0, self.elapsed_s / 60 / float(self.config.minutes or 1))

    def train(self, until: int | None = None, after: Callable[[float], None] = lambda loss: None) -> None:
        """Run until the budget (or step ``until``) is used up; ``after`` gets the loss of each step."""
        # The next batch is made while this one is learned from.
        with ThreadPoolExecutor(1) as maker:
            ahead = maker.submit(self._batch, self.step)
            while self.progress < 1 and (until is None or self.step < until):
                start = time.perf_counter()
                image, truth = ahead.result()
                ahead = maker.submit(self._batch, self.step + 1)
                loss = self._learn(image, truth)
                self.step += 1
                self.elapsed_s += time.perf_counter() - start
                after(loss)
            ahead.cancel()

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        # The list of cases may grow between two steps; a batch sees one state of it.
        return data.batch(
            tuple(self.cases), self.card, self.config.seed, step, self.config.batch, self.config.patch_zyx
        )

    def _learn(self, image: Tensor, truth: Tensor) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * _schedule(self.progress)
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16):
            logits = self.model(image.contiguous(memory_format=torch.channels_last_3d))
        loss: Tensor = self.loss(logits.float(), truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        # Early on the average follows fast, else it would remember the random start.
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        return float(loss.detach())

    def save(self, folder: Path) -> None:
        """Write ``last.safetensors`` and ``last.json``; a kill at any moment leaves the old pair or the new one."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in state.items()}
        meta = {"config": asdict(self.config), "step": self.step, "elapsed_s": self.elapsed_s}
        save_tensors(folder / "last.safetensors", tensors, meta)

    def resume(self, folder: Path) -> None:
        """Go on from `save`.

        Raises:
            UsageError: ``other-run`` when the checkpoint was written under another configuration.
        """
        tensors, meta = load_tensors(folder / "last.safetensors")
        config = meta["config"] | {"patch_zyx": tuple(meta["config"]["patch_zyx"])}
        if config != asdict(self.config):
            raise UsageError("other-run", f"the checkpoint is of the run {config}, wanted {asdict(self.config)}")
        self.model.load_state_dict(part(tensors, "model."))
        self.average.load_state_dict(part(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part(tensors, "adam.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.step, self.elapsed_s = meta["step"], meta["elapsed_s"]


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """One safetensors file with a JSON header, written beside and renamed."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    contiguous = {name: value.detach().contiguous() for name, value in tensors.items()}
    save_file(contiguous, temporary, metadata={"lnfast": json.dumps(meta)})
    temporary.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote: tensors and header."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()["lnfast"])
    return load_file(path), meta


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _schedule(progress: float) -> float:
    if progress < WARM_UP:
        return max(0.02, progress / WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
