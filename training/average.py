"""The mean of several snapshots' weights, with batch statistics of its own.

What is learned last is the phantom: a run's figures on phantoms rise to its end while it marks less in people. The mean
of the weights that a run began with and of those that it ended with holds much of both. Its batch statistics are no
mean of anything: each of its layers sees what its other layers make of a crop, so they are measured anew, over crops
as the training has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnfast.errors import UsageError
from training import card as cards
from training import cohort
from training.case import Entry
from training.earlier import weights_of
from training.loaders import Batches, Share, Studies
from training.presets import Preset, preset
from training.snapshot import SNAPSHOT, build, learned_from, load_weights, save_tensors

# Of batches; a layer's mean and variance hardly change after half as many.
BATCHES = 60


def average(
    out: Path, given: Sequence[Path], shares: Sequence[float], *, seeds: range, cache: Path, batches: int = BATCHES
) -> dict[str, Any]:
    """Write a run with the averaged snapshot, which `validate`, `export` and `weights` take.

    Args:
        out: folder of the run.
        given: runs, files of weights or names, all of the preset ``edge``'s network.
        shares: how much each counts; they are scaled to a sum of 1.
        seeds: of training phantoms, whose crops the batch statistics are measured on.
        cache: where phantoms lie; made there where they are missing.
        batches: how many to measure.

    Returns:
        The snapshot's header.

    Raises:
        UsageError: ``bad-shares``; ``other-network`` for weights of several networks; ``reserved-seed``.
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    if len(shares) != len(given) or len(given) < 2 or min(shares) < 0 or not sum(shares) > 0:
        raise UsageError("bad-shares", f"got {len(given)} weights and shares {list(shares)}, wanted a share for each")
    recipe = preset("edge")
    loaded = [load_weights(weights_of(one)) for one in given]
    kinds = {(meta["config"].get("network", "unet"), meta["config"]["width"]) for _, meta in loaded}
    if kinds != {(recipe.network, recipe.width)}:
        raise UsageError("other-network", f"got weights of {sorted(kinds)}, wanted {recipe.network} {recipe.width}")
    cohort.check_seeds(seeds, (cohort.TRAINING_SEEDS,))
    folder = cohort.folder_of(cache)
    cases = [case for seed in cohort.generate(folder, seeds) if (case := cohort.stored(folder, seed)) is not None]
    last = max((meta for _, meta in loaded), key=lambda meta: int(meta.get("step", 0)))
    weights = [share / sum(shares) for share in shares]
    model = build(given[-1], _mean([tensors for tensors, _ in loaded], weights), last)
    measure_statistics(model, recipe, cases, batches)
    meta = {**last, "sources": _distinct([meta for _, meta in loaded]), "averaged": weights}
    if "normalization" not in meta["config"]:  # bare tensors say no more than what network they are of
        meta["config"] = asdict(recipe)
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / SNAPSHOT, model.state_dict(), meta)
    return meta


def measure_statistics(model: nn.Module, recipe: Preset, cases: Sequence[Entry], batches: int, seed: int = 0) -> None:
    """Measure mean and variance of every batch normalization anew, in place; evaluation mode afterwards.

    Args:
        model: with batch normalization.
        recipe: says grid, normalization and crops.
        cases: to cut from.
        batches: how many.
        seed: of the crops.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    card = cards.draft({"shape_zyx": recipe.shape_zyx, "normalization": recipe.normalization})
    maker = Batches(Studies(card, cases, cases[:1]), recipe, seed, Share(recipe.batch), lambda: 0)
    model.train()
    with torch.inference_mode():
        for index in range(batches):
            model(maker.make(index).image.contiguous(memory_format=torch.channels_last_3d))
    model.eval()
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def _mean(loaded: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Of floating-point tensors; counters are the last one's."""
    found = {}
    for name, value in loaded[-1].items():
        if not value.is_floating_point():
            found[name] = value
            continue
        parts = (weight * one[name].double() for weight, one in zip(weights, loaded, strict=True))
        found[name] = torch.stack(list(parts)).sum(0).float()
    return found


def _distinct(metas: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What any of them learned from, each source once."""
    found: list[dict[str, Any]] = []
    for meta in metas:
        found += [source for source in learned_from(meta) if source not in found]
    return found
