"""Phantoms as a source of cases, made before the training or during it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnfast.card import ModelCard
from lnfast.errors import UsageError
from training.console import print_message
from training.data import phantom_cache
from training.data.batches import CasePool
from training.data.case import LoadableCase
from training.data.phantom_seeds import TRAINING_SEEDS, VALIDATION_SEEDS, check_seeds, numbered_version, phantom_version
from training.data.source import PriorRun


@dataclass(frozen=True)
class PhantomSource:
    """Phantoms of two ranges of seeds.

    Attributes:
        cache: folder with a folder for each version.
        seeds: to train on.
        validation: to validate on.
        complete: wait for all of them, so that a run repeats; else those that are missing are made beside the
            training and taken in as they appear.
        version: of the phantoms; a resumed run keeps its own.
    """

    cache: Path
    seeds: range
    validation: range
    complete: bool
    version: str

    def describe(self, run: Path, earlier: Sequence[PriorRun]) -> dict[str, Any]:
        """Return seeds and version; where the cache is makes no difference.

        Raises:
            UsageError: ``reserved-seed``.
        """
        check_seeds(self.seeds, (TRAINING_SEEDS,))
        check_seeds(self.validation, (VALIDATION_SEEDS,))
        return {
            "kind": "phantoms",
            "seeds": [self.seeds.start, self.seeds.stop, self.seeds.step],
            "validation": [self.validation.start, self.validation.stop, self.validation.step],
            "version": self.version,
        }

    def open(self, run: Path, card: ModelCard) -> CasePool:
        """Find the phantoms that are there, and make those that are not.

        Raises:
            UsageError: ``reserved-seed``; ``phantoms-changed`` when some are missing and the sources would now make
                others of the same seeds.
        """
        check_seeds(self.seeds, (TRAINING_SEEDS,))
        check_seeds(self.validation, (VALIDATION_SEEDS,))
        folder = self.cache / self.version
        missing = phantom_cache.missing_seeds(folder, [*self.validation, *self.seeds])
        if missing and numbered_version(self.version) != phantom_version():
            raise UsageError(
                "phantoms-changed",
                f"{len(missing)} phantoms of version {self.version} are missing in {self.cache} and lnfast.phantom is "
                f"now {phantom_version()}; begin another run, or go back to the sources that this one began with",
            )
        # Training cannot begin without all validation phantoms, and as many others as an epoch's first steps need.
        needed = [*self.validation, *(self.seeds if self.complete else self.seeds[:8])]
        absent = set(missing) & set(needed)
        for done, seed in enumerate(
            phantom_cache.make_phantoms(folder, [seed for seed in needed if seed in absent]), 1
        ):
            print_message(f"phantom {seed}, {done} of {len(absent)}")
        if not self.complete and set(missing) - absent:
            phantom_cache.make_phantoms_in_background(folder, [seed for seed in missing if seed not in absent])
        return CasePool(card, self._stored(self.seeds), self._stored(self.validation))

    def save_into(self, run: Path) -> None:
        """Do nothing: seeds and version are in ``run.json``."""

    def take_new_cases(self, pool: CasePool) -> None:
        """Add the phantoms that have been made in the meantime, in the order of their seeds."""
        if len(pool.training) < len(self.seeds):
            pool.training = self._stored(self.seeds)

    def provenance(self, pool: CasePool) -> dict[str, Any]:
        """Return the seeds of the phantoms that were there, which may be fewer than the range."""
        seeds = sorted(int(case.name) for case in pool.training)
        return phantom_provenance(seeds, self.version) | {"ranges": _ranges(seeds)}

    def validated_on(self, pool: CasePool) -> dict[str, Any]:
        """Return the validation seeds."""
        return phantom_provenance([int(case.name) for case in pool.validation], self.version)

    def _stored(self, seeds: range) -> tuple[LoadableCase, ...]:
        entries = (phantom_cache.cached_phantom(self.cache / self.version, seed) for seed in seeds)
        return tuple(entry for entry in entries if entry is not None)


def phantom_provenance(seeds: Sequence[int], version: str) -> dict[str, Any]:
    """Return what a header says about phantoms; its ``seeds`` are the first and the one after the last."""
    return {"kind": "phantoms", "seeds": [min(seeds), max(seeds) + 1], "version": version, "cases": len(seeds)}


def _ranges(seeds: Sequence[int]) -> list[list[int]]:
    """Return sorted seeds as [first, one after the last] of each stretch without a gap."""
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and ranges[-1][1] == seed:
            ranges[-1][1] += 1
        else:
            ranges.append([seed, seed + 1])
    return ranges
