"""One run on disk: cases come in, checkpoints, snapshots and the log go out.

RUN/last.safetensors       where to go on from
RUN/snapshot.safetensors   averaged weights with statistics of whole studies: what `export` takes
RUN/mimics.npz             what the run that this one goes on from took for nodes
RUN/log.jsonl              a line every so many steps: loss; a line a snapshot: validation
"""

from __future__ import annotations

import copy
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lnfast.errors import UsageError
from training import card as cards
from training.case import Case
from training.cohort import load
from training.fit import Fit, FitConfig, load_tensors, save_tensors
from training.mine import mine
from training.unet import UNet
from training.validate import recalibrate, validate

LOG_EVERY, LOOK_EVERY = 20, 40
RECALIBRATION_VOLUMES = 16


@dataclass(frozen=True)
class Session:
    """Where a run lies and how often it looks up.

    Attributes:
        run: folder of the run.
        cohort: folder of cases; those that are still missing are taken in when they appear.
        seeds: training cases.
        validation: validation cases.
        snapshot_minutes: between two snapshots.
        threshold: probability at which validation cuts.
        start: run whose snapshot this one goes on from, with a schedule of its own; None starts from random weights.
        mine: of how many cases the mimics that the start's network falls for are trained on more often.
    """

    run: Path
    cohort: Path
    seeds: range
    validation: range
    snapshot_minutes: float = 8.0
    threshold: float = 0.5
    start: Path | None = None
    mine: int = 0

    def fit(self, config: FitConfig) -> None:
        """Train to the end of the budget, going on from ``last`` where there is one.

        Raises:
            UsageError: ``no-cases``, ``reserved-seed``, ``other-run``.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        card = cards.draft()
        cases: dict[int, Case] = {}
        self._take_in(cases, self.seeds)
        held: dict[int, Case] = {}
        self._take_in(held, self.validation)
        if not cases or not held:
            raise UsageError(
                "no-cases", f"{self.cohort} has no case to train or none to validate on; run `cohort` first"
            )
        present = list(cases.values())
        fit = Fit(config, present, card)
        before: dict[str, Any] = {"step": 0, "minutes": 0.0, "rounds": 0, "seeds": [0, 0]}
        if self.start is not None:
            tensors, meta = load_tensors(self.start / "snapshot.safetensors")
            before = {key: meta.get(key, value) for key, value in before.items()} | {"rounds": meta.get("rounds", 1)}
            fit.begin_with(tensors)
            found = self.run / "mimics.npz"
            present[:] = mine(found, fit.average.eval(), present, card, studies=self.mine, threshold=self.threshold)
            cases |= {int(case.name): case for case in present}
        if (self.run / "last.safetensors").exists():
            fit.resume(self.run)
        losses: list[float] = []
        due = time.monotonic() + 60 * self.snapshot_minutes

        def after(loss: float) -> None:
            nonlocal due
            losses.append(loss)
            if fit.step % LOG_EVERY == 0:
                self._log({"step": fit.step, "minutes": fit.elapsed_s / 60, "loss": sum(losses) / len(losses)})
                losses.clear()
            if fit.step % LOOK_EVERY == 0 and len(present) < len(self.seeds):
                self._take_in(cases, self.seeds)
                present[:] = [cases[seed] for seed in sorted(cases)]
            if time.monotonic() > due:
                fit.save(self.run)
                self._snapshot(fit, list(held.values()), before)
                due = time.monotonic() + 60 * self.snapshot_minutes

        fit.train(after=after)
        fit.save(self.run)
        self._snapshot(fit, list(held.values()), before)

    def _snapshot(self, fit: Fit, held: list[Case], before: dict[str, Any]) -> None:
        start = time.perf_counter()
        model = copy.deepcopy(fit.average)
        recalibrate(model, fit.cases, fit.card, RECALIBRATION_VOLUMES, fit.config.seed)
        found = validate(model, held, fit.card, self.threshold).summary()
        fit.elapsed_s += time.perf_counter() - start
        # Of the cases that were there, which may be fewer than were asked for.
        seeds = {int(case.name) for case in fit.cases} | set(range(*before["seeds"]))
        meta = {
            "config": asdict(fit.config),
            "step": before["step"] + fit.step,
            "minutes": round(before["minutes"] + fit.elapsed_s / 60, 1),
            "rounds": before["rounds"] + 1,
            "cases": len(seeds),
            "seeds": [min(seeds), max(seeds) + 1],
            "torch": torch.__version__,
            "validation": found,
            "threshold": self.threshold,
        }
        save_tensors(self.run / "snapshot.safetensors", model.state_dict(), meta)
        self._log({"step": fit.step, "minutes": fit.elapsed_s / 60, "validation": found})

    def _take_in(self, cases: dict[int, Case], seeds: range) -> None:
        for seed in seeds:
            if seed not in cases and (case := load(self.cohort, seed)) is not None:
                cases[seed] = case

    def _log(self, line: dict[str, Any]) -> None:
        text = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()})
        with (self.run / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, file=sys.stderr, flush=True)


def validate_again(run: Path, cohort: Path, seeds: range, threshold: float) -> dict[str, Any]:
    """Validate a run's snapshot at another threshold or on other cases; the snapshot says that from now on.

    Raises:
        UsageError: ``no-cases``, ``reserved-seed``.
    """
    tensors, meta = load_tensors(run / "snapshot.safetensors")
    model = UNet(meta["config"]["width"]).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    model.load_state_dict(tensors)
    cases = [case for seed in seeds if (case := load(cohort, seed)) is not None]
    if not cases:
        raise UsageError("no-cases", f"{cohort} has none of the cases {seeds[0]}-{seeds[-1]}; run `cohort` first")
    found = validate(model.eval(), cases, cards.draft(), threshold).summary()
    save_tensors(run / "snapshot.safetensors", tensors, meta | {"validation": found, "threshold": threshold})
    return found
