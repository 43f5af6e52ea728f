"""The mean of several weights, with newly measured batch statistics.

What a network learns last is the phantom: a run's figures on phantoms rise to its end, while it marks less in people.
The mean of the weights at its beginning and at its end keeps much of both. Its batch statistics are not the mean of the
others': the input of each layer depends on all layers before it. So they are measured anew, on training crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from lnfast.errors import UsageError
from training.data import phantom_cache, phantom_seeds
from training.data.batches import Batches, BatchShare, CasePool
from training.data.provenance import learned_from
from training.fit.prior_weights import weights_path
from training.model.weights_file import WEIGHTS_FILE, load_initial_weights, network_from, save_weights
from training.recipe.card import draft_card
from training.recipe.presets import preset

# Taken from the header of the weights that were trained longest; none of them says how the mean was validated.
_KEPT = ("config", "step", "minutes", "rounds", "precision")


def average(
    out: Path, origins: Sequence[Path], shares: Sequence[float], *, seeds: range, cache: Path, batches: int
) -> dict[str, Any]:
    """Write a run with averaged weights, which must be validated before they can be exported.

    Args:
        out: folder of the run.
        origins: runs, files of weights or names, all of the preset ``edge``'s network.
        shares: how much each counts; they are scaled to a sum of 1.
        seeds: of training phantoms, whose crops the batch statistics are measured on.
        cache: where phantoms lie; made there where they are missing.
        batches: how many to measure; of 0 the statistics are the mean as well, which suits runs that learned most of
            their steps with statistics that stayed as they were.

    Returns:
        The header of the weights.

    Raises:
        UsageError: ``bad-shares``; ``other-network`` for weights of several networks; ``reserved-seed``.
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    if len(shares) != len(origins) or len(origins) < 2 or min(shares) < 0 or not sum(shares) > 0:
        raise UsageError("bad-shares", f"got {len(origins)} weights and shares {list(shares)}, wanted a share for each")
    recipe = preset("edge")
    loaded = [load_initial_weights(weights_path(origin)) for origin in origins]
    kinds = {(header["config"].get("network", "unet"), header["config"]["width"]) for _, header in loaded}
    if kinds != {(recipe.network, recipe.width)}:
        raise UsageError("other-network", f"got weights of {sorted(kinds)}, wanted {recipe.network} {recipe.width}")
    phantom_seeds.check_seeds(seeds, (phantom_seeds.TRAINING_SEEDS,))
    last = max((header for _, header in loaded), key=lambda header: int(header.get("step", 0)))
    weights = [share / sum(shares) for share in shares]
    model = network_from(origins[-1], _mean([tensors for tensors, _ in loaded], weights), last)
    if batches:
        folder = phantom_cache.cache_folder(cache)
        made = (phantom_cache.cached_phantom(folder, seed) for seed in phantom_cache.make_phantoms(folder, seeds))
        cases = [case for case in made if case is not None]
        pool = CasePool(draft_card(asdict(recipe)), cases, cases[:1])
        maker = Batches(pool, recipe, 0, BatchShare(recipe.batch), lambda: 0)
        update_bn((maker.make(index).image for index in range(batches)), model)
    header = {"step": 0, "minutes": 0.0, "rounds": 0} | {key: last[key] for key in _KEPT if key in last}
    header |= {"sources": _distinct([header for _, header in loaded]), "averaged": weights, "torch": torch.__version__}
    # Bare tensors say no more than what network they are of, and statistics are those of this input.
    header["config"] = {"seed": 0, **header["config"], **asdict(recipe)}
    out.mkdir(parents=True, exist_ok=True)
    save_weights(out / WEIGHTS_FILE, model.state_dict(), header)
    return header


def _mean(loaded: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of floating-point tensors; counters are those of the last weights."""
    mean = {}
    for name, value in loaded[-1].items():
        if not value.is_floating_point():
            mean[name] = value
            continue
        parts = (weight * tensors[name].double() for weight, tensors in zip(weights, loaded, strict=True))
        mean[name] = torch.stack(list(parts)).sum(0).float()
    return mean


def _distinct(headers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what any of them was trained on, each source once."""
    sources: list[dict[str, Any]] = []
    for header in headers:
        sources += [source for source in learned_from(header) if source not in sources]
    return sources
