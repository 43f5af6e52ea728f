"""A training run of seconds, and the same as a program that sends itself a signal at a step."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import conftest  # noqa: F401  # makes training/ importable, and the checkout's lnfast/ not

from lnfast.card import ModelCard
from training.data import phantom_seeds
from training.data.batches import CasePool
from training.data.case import Case
from training.data.phantom_source import PhantomSource
from training.fit.interrupt import StoppedError
from training.fit.run import RunConfig, fit
from training.fit.saving import CheckpointSaver
from training.recipe.card import draft_card
from training.recipe.presets import Preset, preset

STEPS = 16  # checkpoints at 4, 8, 9 (before the validation), 10 (after it), 12 ...
SHAPE_ZYX = (24, 64, 64)


def small_card(**changes: Any) -> ModelCard:
    """The card of a network whose grid is a thirtieth of the real one."""
    return draft_card(asdict(tiny(**changes)))


def tiny(**changes: Any) -> Preset:
    """Preset edge, cut down to steps of milliseconds."""
    small: dict[str, Any] = {
        "width": 2,
        "shape_zyx": SHAPE_ZYX,
        "patch_zyx": (24, 32, 32),
        "epoch_steps": 10,
        "checkpoint_steps": 4,
    }
    return replace(preset("edge", quick=True), **{**small, **changes})


def case_pool() -> CasePool:
    """Five times the same patient with a small field, one of them to validate on."""
    phantom = phantom_seeds.make_phantom(3, protocol=phantom_seeds.SMALL_FIELDS[0])
    cases = [Case(f"{n:05d}", phantom.volume, phantom.labels) for n in range(5)]
    return CasePool(small_card(), cases, cases[:1])


def phantoms(cache: Path, seeds: range = range(1003, 1004), *, complete: bool = True) -> PhantomSource:
    """One small phantom to train on and one to validate on."""
    return PhantomSource(cache, seeds, range(9003, 9004), complete, phantom_seeds.phantom_version())


def config(**changes: Any) -> RunConfig:
    """A run that repeats to the bit."""
    return RunConfig(**{"preset": tiny(), "seed": 3, "steps": STEPS, "exact": True, "accelerator": "cpu", **changes})


def ask_at(step: int, number: int, ask: Callable[[int], object] = signal.raise_signal) -> None:
    """From now on this process is asked by a signal when a run has made a step, before its checkpoint.

    Args:
        step: of the optimizer.
        number: of the signal.
        ask: raises it, or does what the system would.
    """
    honest = CheckpointSaver.on_train_batch_end

    def struck(keeper: CheckpointSaver, trainer: Any, *args: Any) -> None:
        if trainer.global_step == step:
            ask(number)
        honest(keeper, trainer, *args)

    CheckpointSaver.on_train_batch_end = struck  # type: ignore[method-assign]


def call_handler(number: int) -> None:
    """Call what is installed for a signal: a run that did not listen fails its test, and does not end all tests."""
    handler = signal.getsignal(number)
    assert callable(handler), f"nobody listens for signal {number}"
    handler(number, None)


if __name__ == "__main__":
    _run, _cache, _step, _number = sys.argv[1:]
    ask_at(int(_step), int(_number))
    try:
        fit(Path(_run), config(), phantoms(Path(_cache)))
    except StoppedError as stopped:
        sys.exit(128 + stopped.signal)
