"""The source of cases that the command line names."""

from __future__ import annotations

from pathlib import Path

from lnfast.errors import UsageError
from training.data import phantom_seeds
from training.data.own_studies import OwnStudies
from training.data.phantom_source import PhantomSource
from training.data.source import Source
from training.fit.run_settings import read_run_settings

# Phantoms of small fields, each made and validated in a fraction of a second.
QUICK_SEEDS, QUICK_VALIDATION = range(1003, 1027, 8), range(9003, 9004)


def source_of(
    run: Path,
    *,
    phantoms: range | None,
    data: Path | None,
    validation: range | None,
    cache: Path | None,
    seed: int,
    quick: bool,
    complete: bool,
) -> Source:
    """Return the source of cases that the command line names.

    Raises:
        UsageError: ``no-cases``, ``two-sources``, ``bad-run``.
    """
    if data is not None:
        if phantoms is not None or validation is not None:
            raise UsageError("two-sources", "got --data and phantoms, wanted one of them")
        return OwnStudies(data, seed)
    if phantoms is None and not quick:
        raise UsageError("no-cases", "wanted --phantoms FIRST-LAST or --data FOLDER to train on")
    version = phantom_seeds.phantom_version()
    if (known := read_run_settings(run)) is not None:
        version = known["cases"].get("version", version)
    return PhantomSource(
        cache or run.parent / "phantoms",
        phantoms or QUICK_SEEDS,
        validation or (QUICK_VALIDATION if quick else range(9000, 9012)),
        complete,
        version,
    )
