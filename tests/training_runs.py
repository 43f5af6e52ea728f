"""A training run of seconds, and the same as a program that kills itself at a step."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import conftest  # noqa: F401  # makes training/ importable, and the checkout's lnfast/ not

from training import card as cards
from training import cohort
from training.callbacks import Keeper
from training.presets import Preset, preset
from training.run import RunConfig, fit
from training.source import Phantoms

STEPS, KILLED_AT = 16, 11  # checkpoints at 4, 8, 9 (before the validation), 10 (after it), 12 ...
SHAPE_ZYX = (16, 64, 64)
_draft = cards.draft


def small_card() -> Any:
    """The card of a network whose grid is a thousandth of the real one."""
    return replace(_draft(), shape_zyx=SHAPE_ZYX)


def tiny(**changes: Any) -> Preset:
    """Preset edge, cut down to steps of milliseconds."""
    small: dict[str, Any] = {
        "width": 2,
        "patch_zyx": (16, 32, 32),
        "epoch_steps": 10,
        "checkpoint_steps": 4,
        "mimics": 1,
        "recalibration": 1,
    }
    return replace(preset("edge", quick=True), **{**small, **changes})


def phantoms(cache: Path, seeds: range = range(1003, 1004), *, complete: bool = True) -> Phantoms:
    """One small phantom to train on and one to validate on."""
    return Phantoms(cache, seeds, range(9003, 9004), complete, cohort.version())


def config(**changes: Any) -> RunConfig:
    """A run that repeats to the bit."""
    return RunConfig(**{"preset": tiny(), "seed": 3, "steps": STEPS, "exact": True, "accelerator": "cpu", **changes})


def signal_at(step: int, number: int) -> None:
    """From now on this process gets a signal when a run has made a step, before its checkpoint."""
    honest = Keeper.on_train_batch_end

    def struck(keeper: Keeper, trainer: Any, *args: Any) -> None:
        if trainer.global_step == step:
            signal.raise_signal(number)
        honest(keeper, trainer, *args)

    Keeper.on_train_batch_end = struck  # type: ignore[method-assign]


if __name__ == "__main__":
    cards.draft = small_card
    signal_at(KILLED_AT, signal.SIGKILL)
    fit(Path(sys.argv[1]), config(), phantoms(Path(sys.argv[2])))
