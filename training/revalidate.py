"""Judges a snapshot again: at another threshold, on the cases that are the run's own to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnfast.errors import UsageError
from training import card as cards
from training import cohort
from training.case import Case
from training.snapshot import SNAPSHOT, network, save_tensors, sources_of
from training.source import phantoms_told
from training.validate import BFLOAT16, validate

PHANTOMS = range(9000, 9012)


def validate_again(
    run: Path, threshold: float, *, data: Path | None = None, seeds: range | None = None, cache: Path | None = None
) -> dict[str, Any]:
    """Validate a run's snapshot; the snapshot says what came out and on what from now on.

    Args:
        run: with a snapshot.
        threshold: probability at which a voxel is called node.
        data: folder of the run's own studies; the validation part of ``RUN/split.json`` is taken.
        seeds: phantoms of the present sources instead; `PHANTOMS` where neither is given and the run is of phantoms.
        cache: where phantoms lie; beside ``run`` where it is None.

    Raises:
        UsageError: ``reserved-seed``, ``two-sources``, ``bad-split``, ``leaked-cases``; ``no-cases`` when the run is
            of studies and nothing is given.
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    if data is not None and seeds is not None:
        raise UsageError("two-sources", "got --data and --validation, wanted one of them")
    model, meta = network(run)
    last = sources_of(meta)[-1]
    if data is None and seeds is None and last["kind"] == "folder":
        raise UsageError(
            "no-cases",
            f"{run} was trained on the data set {last['name']}; give its folder with --data, or --validation",
        )
    if data is not None:
        cases, validated_on = _own(run, meta, data)
    else:
        cases, validated_on = _phantoms(cache or run.parent / "phantoms", seeds or PHANTOMS)
    # On the CPU, which has no half precision; a snapshot that says nothing is older than the choice.
    precision = "32-true" if meta.get("precision") == "32-true" else BFLOAT16
    found = validate(model, cases, cards.draft(), threshold, precision).summary()
    said = {"validation": found, "threshold": threshold, "validated_on": validated_on}
    save_tensors(run / SNAPSHOT, model.state_dict(), meta | said)
    return found


def _own(run: Path, meta: dict[str, Any], folder: Path) -> tuple[Sequence[Case], dict[str, Any]]:
    from training.folder import validation_cases

    cases = validation_cases(run, meta, folder)
    if not cases:
        raise UsageError("no-cases", f"the split of {run} keeps no case for validation")
    return cases, {"kind": "folder", "name": folder.resolve().name, "cases": len(cases)}


def _phantoms(cache: Path, seeds: range) -> tuple[Sequence[Case], dict[str, Any]]:
    cohort.check_seeds(seeds, (cohort.VALIDATION_SEEDS,))
    folder = cohort.folder_of(cache)
    cases = [case for seed in cohort.generate(folder, seeds) if (case := cohort.load(folder, seed)) is not None]
    if not cases:
        raise UsageError("no-cases", "got no seed to validate on, wanted --validation FIRST-LAST")
    return cases, phantoms_told(seeds, cohort.version())
