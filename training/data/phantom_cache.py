"""The phantoms that are trained and validated on, made once and kept on disk.

A cache holds a folder for each version of the phantom and the cohort, so that no run mixes patients of two of them:
CACHE/<version>/<seed>.npz.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from lnfast.atomic import replacing_file
from lnfast.geometry import Grid, Volume
from training.data.case import Case
from training.data.phantom_seeds import check_seeds, phantom_of, phantom_version


def cache_folder(cache: Path) -> Path:
    """Return the folder of a cache that holds the phantoms of the present version."""
    return cache / phantom_version()


def make_phantoms(folder: Path, seeds: Iterable[int]) -> Iterator[int]:
    """Make the phantoms that are not in the folder yet; yields each seed when its file is complete.

    Raises:
        UsageError: ``reserved-seed``, before anything is made.
    """
    seeds = list(seeds)
    check_seeds(seeds)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = _path(folder, seed)
        if not path.exists():
            phantom = phantom_of(seed)
            with replacing_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, array=phantom.volume.array, affine=phantom.volume.grid.affine, labels=phantom.labels)
        yield seed


def make_phantoms_in_background(folder: Path, seeds: Iterable[int]) -> BaseProcess:
    """Start `make_phantoms` in a separate process of low priority, which ends with this one."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_make_at_low_priority, args=(folder, list(seeds), phantom_version(), os.getpid()), daemon=True
    )
    process.start()
    return process


@dataclass(frozen=True)
class CachedPhantom:
    """A phantom on the disk. A thousand of them would fill the memory; reading one takes milliseconds.

    Attributes:
        path: its file.
    """

    path: Path

    @property
    def name(self) -> str:
        """The seed in five digits."""
        return self.path.stem

    def load(self) -> Case:
        """Read the phantom."""
        with np.load(self.path, allow_pickle=False) as file:
            array, affine, labels = file["array"], file["affine"], file["labels"]
        return Case(self.name, Volume(array, Grid(array.shape, affine)), labels)


def cached_phantom(folder: Path, seed: int) -> CachedPhantom | None:
    """Return a phantom of the folder, or None where it has not been made yet.

    Raises:
        UsageError: ``reserved-seed``.
    """
    check_seeds([seed])
    path = _path(folder, seed)
    return CachedPhantom(path) if path.exists() else None


def missing_seeds(folder: Path, seeds: Iterable[int]) -> list[int]:
    """Return the seeds whose phantoms are not in the folder."""
    return [seed for seed in seeds if not _path(folder, seed).exists()]


def _make_at_low_priority(folder: Path, seeds: list[int], wanted: str, parent: int) -> None:
    os.nice(10)
    # Ctrl-C goes to all of a terminal's processes; the training saves itself and ends this one without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if phantom_version() != wanted:
        return  # The version was raised since the run began: another patient would come out of the same seed.
    for _ in make_phantoms(folder, seeds):
        if os.getppid() != parent:
            return


def _path(folder: Path, seed: int) -> Path:
    return folder / f"{seed:05d}.npz"
