"""Validation of a run's weights, at a threshold, on phantoms or on the run's own validation cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lnfast.errors import UsageError
from training.data import phantom_cache, phantom_seeds
from training.data.case import LoadableCase
from training.data.phantom_source import phantom_provenance
from training.data.provenance import sources_of
from training.fit.devices import cpu_has_bfloat16
from training.fit.real_scans import count_marks, read_scans
from training.fit.validation import BFLOAT16, validate
from training.model.weights_file import WEIGHTS_FILE, load_network, save_weights
from training.recipe.card import draft_card

PHANTOMS = range(9000, 9012)


def validate_run(
    run: Path,
    threshold: float,
    *,
    peak: float | None = None,
    data: Path | None = None,
    seeds: range | None = None,
    cache: Path | None = None,
    real: Path | None = None,
) -> dict[str, Any]:
    """Validate a run's weights, and write figures, threshold, peak and cases into their header.

    Args:
        run: with validated weights.
        threshold, peak: as in `lnfast.card.ModelCard`.
        data: folder of the run's own studies; the validation part of ``RUN/split.json`` is taken.
        seeds: phantoms of the present sources instead; `PHANTOMS` where neither is given and the run is of phantoms.
        cache: where phantoms lie; beside ``run`` where it is None.
        real: folder of real scans to look at too (`training.fit.real_scans`); the counts are returned and not
            written into the header.

    Raises:
        UsageError: ``reserved-seed``, ``two-sources``, ``bad-split``, ``leaked-cases``, ``bad-spots``; ``no-cases``
            when the run is of studies and nothing is given.
        ModelError: ``no-snapshot``, ``bad-snapshot``; ``bad-card`` for a peak below the threshold.
    """
    if data is not None and seeds is not None:
        raise UsageError("two-sources", "got --data and --validation, wanted one of them")
    model, header = load_network(run)
    last = sources_of(header)[-1]
    if data is None and seeds is None and last["kind"] == "folder":
        raise UsageError(
            "no-cases",
            f"{run} was trained on the data set {last['name']}; give its folder with --data, or --validation",
        )
    if data is not None:
        cases, validated_on = _own(run, header, data)
    else:
        cases, validated_on = _phantoms(cache or run.parent / "phantoms", seeds or PHANTOMS)
    # On the CPU, which has no half precision; a header that does not say is older than the choice.
    precision = "32-true" if header.get("precision") == "32-true" or not cpu_has_bfloat16() else BFLOAT16
    card = draft_card(header["config"], threshold, peak)
    scans = () if real is None else read_scans(real, card)
    summary: dict[str, Any] = validate(model, cases, card, precision).summary()
    # Weights that were not trained by `fit` do not say which torch they are of; `export` names one.
    names = {"torch": header.get("torch", torch.__version__)}
    changes = names | {"validation": summary, "threshold": threshold, "peak": peak, "validated_on": validated_on}
    save_weights(run / WEIGHTS_FILE, model.state_dict(), header | changes)
    return summary | ({"real": count_marks(model, scans, card, precision)} if scans else {})


def _own(run: Path, header: dict[str, Any], folder: Path) -> tuple[Sequence[LoadableCase], dict[str, Any]]:
    from training.data.own_studies import validation_cases

    cases = validation_cases(run, header, folder)
    if not cases:
        raise UsageError("no-cases", f"the split of {run} keeps no case for validation")
    return cases, {"kind": "folder", "name": folder.resolve().name, "cases": len(cases)}


def _phantoms(cache: Path, seeds: range) -> tuple[Sequence[LoadableCase], dict[str, Any]]:
    phantom_seeds.check_seeds(seeds, (phantom_seeds.VALIDATION_SEEDS,))
    folder = phantom_cache.cache_folder(cache)
    cases = [
        case
        for seed in phantom_cache.make_phantoms(folder, seeds)
        if (case := phantom_cache.cached_phantom(folder, seed)) is not None
    ]
    if not cases:
        raise UsageError("no-cases", "got no seed to validate on, wanted --validation FIRST-LAST")
    return cases, phantom_provenance(seeds, phantom_seeds.phantom_version())
