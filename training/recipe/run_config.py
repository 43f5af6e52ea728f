"""The settings of a run, beside its cases; contradictions are refused here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import UsageError
from training.recipe.presets import Precision, Preset


@dataclass(frozen=True)
class RunConfig:
    """The settings of a run, beside its cases.

    Attributes:
        preset: everything that does not change from run to run.
        seed: of weights and batches.
        steps, minutes, epochs: where the run ends, and the schedule with it; at most one of them, none is the preset's.
        exact: FP32 on one thread, so that the run repeats to the bit.
        start: run, file or name of the weights that this run begins with, with a schedule of its own, or None.
        decoder_only: how many of the finest levels of the decoder learn, with the head; all else, batch statistics too,
            stays as it is in ``start``. None trains the whole network.
        teacher: run whose network is a second truth, or None.
        real: folder of real scans on which marks are counted after each validation, or None; it changes nothing else.
        precision: of Lightning, or None for the preset's.
        accelerator, devices: of Lightning.
    """

    preset: Preset
    seed: int = 1
    steps: int | None = None
    minutes: float | None = None
    epochs: int | None = None
    exact: bool = False
    start: Path | None = None
    decoder_only: int | None = None
    teacher: Path | None = None
    real: Path | None = None
    precision: Precision | None = None
    accelerator: str = "auto"
    devices: int = 1

    def __post_init__(self) -> None:
        if sum(budget is not None for budget in (self.steps, self.minutes, self.epochs)) > 1:
            raise UsageError("bad-budget", "got several of --steps, --minutes and --epochs, wanted at most one of them")
        if self.exact and self.minutes is not None:
            raise UsageError("bad-budget", "got --exact and --minutes, wanted --steps: a clock does not repeat")
        if self.exact and self.accelerator == "gpu":
            raise UsageError(
                "bad-device", "got --exact on a GPU, which repeats nothing to the bit; wanted --accelerator cpu"
            )
        if self.devices > 1 and self.minutes is not None:
            raise UsageError("bad-budget", "got --minutes and several devices, wanted --steps: each has its own clock")
        if self.exact and self.precision not in (None, "32-true"):
            raise UsageError("bad-precision", f"got --exact and --precision {self.precision}, wanted FP32")
        if self.teacher is not None and not self.preset.teaching:
            raise UsageError("bad-teacher", f"preset {self.preset.name} learns from no teacher; wanted edge")
        if self.decoder_only is not None and self.start is None:
            raise UsageError("bad-start", "got --decoder-only without --start: the rest would never learn anything")
        items_per_device(self.preset, self.devices)


def items_per_device(preset: Preset, world: int) -> int:
    """Return how many items of a batch each device trains on.

    Raises:
        UsageError: ``bad-batch`` when the batch cannot be shared out evenly.
    """
    if preset.batch % world:
        raise UsageError("bad-batch", f"a batch of {preset.batch} cannot be shared by {world} devices")
    return preset.batch // world
