"""One run on disk: what `fit` composes.

RUN/run.json               what the run is; another one is refused here
RUN/split.json             which of somebody's own studies serve for what
RUN/checkpoints/step-*/    where to go on from: the newest two
RUN/snapshot.safetensors   judged weights with statistics of whole studies: what `export` takes
RUN/mimics/step-*.npz      what the network took for nodes
RUN/log.jsonl              a line every so many steps: loss; a line a validation
RUN/tensorboard/           the same as curves
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from lnfast.errors import BackendError, UsageError
from training import card as cards
from training import cohort
from training.callbacks import Average, Budget, Intake, Journal, Keeper, Snapshots, checkpoints
from training.checkpoint import SafeCheckpointIO
from training.loaders import Loaders, Share, Studies
from training.loss import Teacher
from training.mimics import Mimics
from training.module import Segmenter
from training.presets import Preset
from training.quiet import Bar, Curves, lightning
from training.snapshot import load_tensors, save_tensors, sources_of, write_json
from training.source import Source
from training.stop import Asked
from training.unet import UNet
from training.validate import validate

THRESHOLD = 0.5
# What a whole study needs on a GPU at the paper's width in half precision: about 1.2 kB a voxel for activations that
# are kept for the way back, by counting them.
STUDY_BYTES = 12e9


@dataclass(frozen=True)
class RunConfig:
    """What a run is, beside its cases.

    Attributes:
        preset: everything that does not change from run to run.
        seed: of weights and batches.
        steps, minutes, epochs: where the run ends, and the schedule with it; at most one of them, none is the preset's.
        exact: FP32 on one thread, so that the run repeats to the bit.
        start: run whose snapshot this one goes on from, with a schedule of its own, or None.
        teacher: run whose snapshot is a second truth, or None.
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
    teacher: Path | None = None
    precision: str | None = None
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


def fit(run: Path, config: RunConfig, source: Source) -> None:
    """Train to the end of the budget, going on from the newest checkpoint where there is one.

    Raises:
        UsageError: ``bad-batch``, ``no-cases``, ``other-run``, ``other-width``, ``reserved-seed``.
        BackendError: ``no-device``.
        training.stop.StoppedError: a signal asked to stop; the run is saved.
    """
    if accelerator_of(config) == "cuda" and torch.cuda.device_count() < config.devices:
        raise BackendError(
            "no-device",
            f"wanted {config.devices} CUDA device(s), found {torch.cuda.device_count()}; try --accelerator cpu",
        )
    with lightning(), _threads(config.exact):
        run.mkdir(parents=True, exist_ok=True)
        _check_same(run, config, source)
        studies = source.open(run)
        if not studies.cases or not studies.held:
            raise UsageError("no-cases", "there is no case to train on or none to validate on")
        with Asked() as asked:
            _Fit(run, config, source, studies, asked).train()


def validate_again(run: Path, cache: Path, seeds: range, threshold: float) -> dict[str, Any]:
    """Validate a run's snapshot at another threshold or on other phantoms; the snapshot says that from now on.

    Raises:
        UsageError: ``reserved-seed``.
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    cohort.check_seeds(seeds, (cohort.VALIDATION_SEEDS,))
    model, meta = network(run)
    folder = cohort.folder_of(cache)
    cases = [case for seed in cohort.generate(folder, seeds) if (case := cohort.load(folder, seed)) is not None]
    found = validate(model, cases, cards.draft(), threshold).summary()
    save_tensors(run / "snapshot.safetensors", model.state_dict(), meta | {"validation": found, "threshold": threshold})
    return found


def network(run: Path) -> tuple[UNet, dict[str, Any]]:
    """The snapshot of a run in evaluation mode, and its header."""
    tensors, meta = load_tensors(run / "snapshot.safetensors")
    model = UNet(meta["config"]["width"]).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    model.load_state_dict(tensors)
    return model.eval(), meta


class _Fit:
    """The parts of one call of `fit`."""

    def __init__(self, run: Path, config: RunConfig, source: Source, studies: Studies, asked: Asked) -> None:
        self.run, self.config, self.source, self.studies, self.asked = run, config, source, studies, asked
        preset = config.preset
        self.newest = (checkpoints(run / "checkpoints") or [None])[-1]
        self.start, self.before = network(config.start) if config.start is not None else (None, {})
        torch.manual_seed(config.seed)
        teacher = Teacher(network(config.teacher)[0]) if config.teacher is not None else None
        self.module = Segmenter(preset, studies, config.seed, THRESHOLD, teacher)
        if self.start is not None:
            if self.start.width != preset.width:
                raise UsageError("other-width", f"{config.start} has width {self.start.width}, wanted {preset.width}")
            self.module.net.load_state_dict(self.start.state_dict())
        highest = preset.learning_rate if self.start is None else preset.learning_rate_again
        self.budget = Budget(highest, preset.schedule, self._steps(), config.minutes)

    def train(self) -> None:
        config, preset = self.config, self.config.preset
        trainer = self._trainer()
        if config.exact and trainer.strategy.root_device.type != "cpu":
            raise UsageError(
                "bad-device", "got --exact on a GPU, which repeats nothing to the bit; add --accelerator cpu"
            )
        if len(self.studies.held) < trainer.world_size:
            raise UsageError(
                "no-cases", f"wanted at least as many cases to validate on as devices: {trainer.world_size}"
            )
        micro = micro_of(preset, trainer.world_size, trainer.strategy.root_device)
        trainer.accumulate_grad_batches = Share(micro, 0, trainer.world_size).accumulation(preset.batch)
        workers = 1 if trainer.strategy.root_device.type == "cpu" else min(8, os.cpu_count() or 1)
        loaders = Loaders(self.studies, preset, config.seed, micro, workers)
        trainer.fit(self.module, datamodule=loaders, ckpt_path=self.newest)

    def _steps(self) -> int | None:
        if self.config.minutes is not None:
            return None
        preset = self.config.preset
        epoch = preset.epoch_steps or -(-len(self.studies.cases) // preset.batch)
        return self.config.steps or epoch * (self.config.epochs or preset.epochs)

    def _trainer(self) -> Trainer:
        config = self.config
        bar = sys.stderr.isatty()
        return Trainer(
            accelerator=accelerator_of(config),
            devices=config.devices,
            precision=precision_of(config),
            logger=Curves(self.run, int(self.newest.name.split("-")[1]) if self.newest else 0),
            callbacks=self._callbacks(bar),
            plugins=[SafeCheckpointIO()],
            default_root_dir=self.run,
            gradient_clip_val=config.preset.clip,
            max_epochs=-1,  # the budget ends the run
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )

    def _callbacks(self, bar: bool) -> list[Callback]:
        preset, run = self.config.preset, self.run
        found: list[Callback] = [self.budget]
        if preset.average is not None:
            found.append(Average(preset.average))
        found.append(Intake(lambda: self.source.look(self.studies)))
        found.append(Journal(run / "log.jsonl", self.budget, loud=not bar))
        found.append(Snapshots(run / "snapshot.safetensors", preset, self._meta))
        if preset.mimics:
            found.append(Mimics(run / "mimics", preset.mimics, preset.mine_every, self.start))
        if preset.patience is not None:
            found.append(EarlyStopping("dice", mode="max", patience=preset.patience, check_on_train_epoch_end=False))
        if bar:
            found.append(Bar())
        found.append(Keeper(run / "checkpoints", preset.checkpoint_steps, self.asked))
        return found

    def _meta(self, step: int) -> dict[str, Any]:
        """What a snapshot says of the run, with the runs that it goes on from counted in."""
        before, config = self.before, self.config
        sources = sources_of(before) + [self.source.meta(self.studies)] if before else [self.source.meta(self.studies)]
        return {
            "config": {"seed": config.seed, **asdict(config.preset)},
            "step": before.get("step", 0) + step,
            "minutes": round(before.get("minutes", 0.0) + self.budget.elapsed_s / 60, 1),
            "rounds": before.get("rounds", 0) + 1,
            "sources": sources,
        }


def precision_of(config: RunConfig) -> str:
    """What is asked for, else what the device is good at: CPUs have bfloat16 and no half precision."""
    if config.exact:
        return "32-true"
    wanted = config.precision or config.preset.precision
    return "bf16-mixed" if wanted == "16-mixed" and accelerator_of(config) == "cpu" else wanted


def accelerator_of(config: RunConfig) -> str:
    """Lightning's name of what is asked for; other GPUs than CUDA's have not been tried."""
    if config.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() and not config.exact else "cpu"
    return {"gpu": "cuda"}.get(config.accelerator, config.accelerator)


def micro_of(preset: Preset, world: int, device: torch.device) -> int:
    """Items in memory at a time: the preset's, or as many as the device holds; a divisor of each device's share.

    Raises:
        UsageError: ``bad-batch`` when the batch cannot be shared out evenly.
    """
    if preset.batch % world:
        raise UsageError("bad-batch", f"a batch of {preset.batch} cannot be shared by {world} devices")
    share = preset.batch // world
    most = preset.micro or 1
    if preset.micro is None and device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        most = max(1, int(memory / (STUDY_BYTES * preset.width / 32)))
    return max(n for n in range(1, min(most, share) + 1) if share % n == 0)


def _check_same(run: Path, config: RunConfig, source: Source) -> None:
    """Write what the run is, or compare it with what it was.

    Raises:
        UsageError: ``other-run``, naming what differs.
    """
    said = asdict(config) | {"start": str(config.start), "teacher": str(config.teacher), "cases": source.describe()}
    for name in ("accelerator", "devices"):
        del said[name]  # a run may go on elsewhere
    now = json.loads(json.dumps(said))
    path = run / "run.json"
    if not path.exists():
        if rank_zero_only.rank == 0:
            write_json(path, now)
        return
    was = json.loads(path.read_text(encoding="utf-8"))
    differ = sorted(name for name in now.keys() | was.keys() if now.get(name) != was.get(name))
    if differ:
        told = "; ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in differ)
        raise UsageError("other-run", f"{run} is of another run ({told}); give another folder")


@contextmanager
def _threads(one: bool) -> Iterator[None]:
    """Several threads add up in any order, and sums then differ in their last bits."""
    before = torch.get_num_threads()
    if one:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
