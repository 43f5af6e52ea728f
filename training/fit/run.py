"""One training run: `fit` composes everything that a run folder holds.

RUN/run.json                the settings that identify the run; another run is refused in this folder
RUN/split.json              the split of the user's own studies
RUN/start.safetensors       a copy of the weights that the run began with; teacher.safetensors likewise
RUN/checkpoints/step-*/     the newest two checkpoints, from which the run is resumed
RUN/snapshot.safetensors    the validated weights, which `export` uses
RUN/log.jsonl               the loss, a line every 20 steps, and a line for each validation
RUN/tensorboard/            the same as curves
"""

from __future__ import annotations

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
from training.data.batches import BatchDataModule, BatchShare, CasePool
from training.data.provenance import learned_from, sources_of
from training.data.source import CaseSource
from training.fit.checkpoint_io import SafeCheckpointIO, batch_share_of, newest_readable
from training.fit.devices import accelerator_of, micro_batch_of, precision_of
from training.fit.interrupt import StopRequest
from training.fit.leftovers import remove_leftovers
from training.fit.lightning_output import ProgressBar, TensorBoardCurves, quiet_lightning
from training.fit.prior_weights import PriorWeights, find_prior_weights
from training.fit.real_scans import RealScan, read_scans
from training.fit.run_log import RunLog
from training.fit.run_settings import check_same_run, settings_of
from training.fit.saving import CheckpointSaver, SignalListener, WeightsSaver
from training.fit.schedule import Budget, FreezeNorms, PhantomIntake, WeightAverage
from training.fit.segmenter import Segmenter
from training.json_file import write_json
from training.model.loss import Teacher
from training.model.networks import learn_decoder_only
from training.model.weights_file import WEIGHTS_FILE
from training.recipe.card import draft_card
from training.recipe.run_config import RunConfig

__all__ = ["RunConfig", "fit", "micro_batch_of", "precision_of"]

THRESHOLD = 0.5


def fit(run: Path, config: RunConfig, source: CaseSource) -> None:
    """Train until the budget is used, from the newest checkpoint where there is one.

    Nothing is written into ``run`` before everything was checked.

    Raises:
        UsageError: ``no-cases``, ``other-run``, ``other-network``, ``bad-spots``, ``reserved-seed``, ``leaked-cases``,
            ``bad-run``.
        ModelError: ``no-snapshot``, ``bad-snapshot``, ``bad-checkpoint``.
        BackendError: ``no-device``.
        training.fit.interrupt.StoppedError: a signal asked to stop; the run is saved.
    """
    if accelerator_of(config) == "cuda" and torch.cuda.device_count() < config.devices:
        raise BackendError(
            "no-device",
            f"wanted {config.devices} CUDA device(s), found {torch.cuda.device_count()}; try --accelerator cpu",
        )
    with quiet_lightning(), _threads(config.exact):
        start, teacher = (
            find_prior_weights(run, "start", config.start),
            find_prior_weights(run, "teacher", config.teacher),
        )
        if start is not None:
            _check_network(start, config)
        card = draft_card(asdict(config.preset))
        scans = () if config.real is None else read_scans(config.real, card)
        cases = source.describe(run, [prior for prior in (start, teacher) if prior is not None])
        settings = settings_of(config, start, teacher, cases)
        check_same_run(run, settings)
        pool = source.open(run, card)
        if not pool.training or not pool.validation:
            raise UsageError("no-cases", "there is no case to train on or none to validate on")
        with StopRequest() as stop_request:
            _Fit(run, config, source, pool, stop_request, start, teacher, scans).train(settings)


@dataclass(eq=False)
class _Fit:
    """One call of `fit`.

    Attributes:
        run: folder of the run.
        config, source, pool: what is trained, and on which cases.
        stop_request: whether a signal asks to stop.
        start, teacher: weights that the run builds on.
        scans: real ones, on which marks are counted after each validation.
    """

    run: Path
    config: RunConfig
    source: CaseSource
    pool: CasePool
    stop_request: StopRequest
    start: PriorWeights | None
    teacher: PriorWeights | None
    scans: tuple[RealScan, ...]

    def __post_init__(self) -> None:
        preset = self.config.preset
        self.newest = newest_readable(self.run / "checkpoints")
        torch.manual_seed(self.config.seed)
        teacher = Teacher(self.teacher.network()) if self.teacher is not None else None
        self.module = Segmenter(preset, self.pool, THRESHOLD, teacher)
        if self.start is not None:
            self.module.net.load_state_dict(self.start.network().state_dict())
        if self.config.decoder_only is not None:
            learn_decoder_only(self.module.net, self.config.decoder_only)
        highest = preset.learning_rate if self.start is None else preset.learning_rate_again
        self.budget = Budget(highest, preset.schedule, self._steps(), self.config.minutes)

    def train(self, settings: dict[str, Any]) -> None:
        config, preset = self.config, self.config.preset
        trainer = self._trainer()
        world = trainer.world_size
        if len(self.pool.validation) < world:
            raise UsageError("no-cases", f"wanted at least as many cases to validate on as devices: {world}")
        share = self._share(world, micro_batch_of(preset, world, trainer.strategy.root_device, precision_of(config)))
        self.keeper.share = share
        trainer.accumulate_grad_batches = share.accumulation(preset.batch)
        workers = 1 if trainer.strategy.root_device.type == "cpu" else min(8, os.cpu_count() or 1)
        loaders = BatchDataModule(self.pool, preset, config.seed, share.micro, workers)
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._keep(settings)
        trainer.fit(self.module, datamodule=loaders, ckpt_path=self.newest)

    def _share(self, world: int, micro: int) -> BatchShare:
        """Return the checkpoint's share: Dice and batch statistics are computed over so many items at a time.

        Raises:
            UsageError: ``other-run`` for another number of devices.
        """
        was = batch_share_of(self.newest) if self.newest is not None else None
        if was is None:
            return BatchShare(micro, 0, world)
        if was["world"] != world:
            raise UsageError(
                "other-run",
                f"{self.run} was begun on {was['world']} device(s), is {world}; add --devices {was['world']}",
            )
        return BatchShare(was["micro"], 0, world)

    def _keep(self, settings: dict[str, Any]) -> None:
        """Write what identifies the run, after all checks."""
        self.run.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.run)
        self.source.save_into(self.run)
        for prior in (self.start, self.teacher):
            if prior is not None:
                prior.copy_into(self.run)
        if not (self.run / "run.json").exists():
            write_json(self.run / "run.json", settings)

    def _steps(self) -> int | None:
        if self.config.minutes is not None:
            return None
        preset = self.config.preset
        epoch = preset.epoch_steps or -(-len(self.pool.training) // preset.batch)
        return self.config.steps or epoch * (self.config.epochs or preset.epochs)

    def _trainer(self) -> Trainer:
        config = self.config
        bar = sys.stderr.isatty()
        return Trainer(
            accelerator=accelerator_of(config),
            devices=config.devices,
            precision=precision_of(config),
            logger=TensorBoardCurves(self.run, int(self.newest.name.split("-")[1]) if self.newest else 0),
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
        callbacks: list[Callback] = [SignalListener(self.stop_request), self.budget]
        if preset.average is not None:
            callbacks.append(WeightAverage(preset.average))
        share = preset.freeze_norms if self.start is None else preset.freeze_norms_again
        if self.config.decoder_only is not None:
            share = 0.0
        if share is not None:
            callbacks.append(FreezeNorms(self.budget, share))
        callbacks.append(PhantomIntake(lambda: self.source.take_new_cases(self.pool)))
        callbacks.append(RunLog(run / "log.jsonl", self.budget, loud=not bar, scans=self.scans))
        callbacks.append(WeightsSaver(run / WEIGHTS_FILE, preset, self._meta))
        if preset.patience is not None:
            callbacks.append(
                EarlyStopping("dice", mode="max", patience=preset.patience, check_on_train_epoch_end=False)
            )
        if bar:
            callbacks.append(ProgressBar())
        self.keeper = CheckpointSaver(run / "checkpoints", preset.checkpoint_steps, self.stop_request)
        return [*callbacks, self.keeper]

    def _meta(self, step: int) -> dict[str, Any]:
        """Return the header of the run's weights, including the runs that it builds on."""
        before, config = self.start.header if self.start is not None else {}, self.config
        sources = sources_of(before) if before else []
        taught_by = [*before.get("taught_by", []), *(learned_from(self.teacher.header) if self.teacher else [])]
        header = {
            "config": {"seed": config.seed, "decoder_only": config.decoder_only, **asdict(config.preset)},
            "step": before.get("step", 0) + step,
            "minutes": round(before.get("minutes", 0.0) + self.budget.elapsed_s / 60, 1),
            "rounds": before.get("rounds", 0) + 1,
            "sources": [*sources, self.source.provenance(self.pool)],
            "precision": precision_of(config),
            "validated_on": self.source.validated_on(self.pool),
        }
        return header | ({"taught_by": taught_by} if taught_by else {})


def _check_network(start: PriorWeights, config: RunConfig) -> None:
    """Refuse weights of another network than the preset's.

    Raises:
        UsageError: ``other-network``.
    """
    preset, found_network = config.preset, start.config
    wanted, got = (preset.network, preset.width), (found_network.get("network", "unet"), found_network["width"])
    if got != wanted:
        raise UsageError(
            "other-network",
            f"{config.start} is of network {got[0]} of width {got[1]}, wanted {wanted[0]} of width {wanted[1]}",
        )


@contextmanager
def _threads(single: bool) -> Iterator[None]:
    """Use one thread: several add up in any order, and sums then differ in their last bits."""
    before = torch.get_num_threads()
    if single:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
