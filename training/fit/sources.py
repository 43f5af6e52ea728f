"""The source of cases that the command line names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import UsageError
from training.data import phantom_seeds
from training.data.own_studies import OwnStudies
from training.data.phantom_source import PhantomSource
from training.data.source import CaseSource
from training.fit.run_settings import read_run_settings

# Phantoms of small fields, each made and validated in a fraction of a second.
QUICK_SEEDS, QUICK_VALIDATION = range(1003, 1027, 8), range(9003, 9004)


@dataclass(frozen=True)
class SourceOptions:
    """What the command line says about cases.

    Attributes:
        phantoms, validation: seeds to train and to validate on, or None.
        data: folder of the user's own studies, or None.
        cache: folder of phantoms; beside the run where it is None.
        seed: of the split.
        quick: whether to use the phantoms of the quick run where no seeds are given.
        complete: as of `PhantomSource`.
    """

    phantoms: range | None
    data: Path | None
    validation: range | None
    cache: Path | None
    seed: int
    quick: bool
    complete: bool


def source_of(run: Path, options: SourceOptions) -> CaseSource:
    """Return the source of cases that the command line names.

    Raises:
        UsageError: ``no-cases``, ``two-sources``, ``bad-run``.
    """
    if options.data is not None:
        if options.phantoms is not None or options.validation is not None:
            raise UsageError("two-sources", "got --data and phantoms, wanted one of them")
        return OwnStudies(options.data, options.seed)
    if options.phantoms is None and not options.quick:
        raise UsageError("no-cases", "wanted --phantoms FIRST-LAST or --data FOLDER to train on")
    version = phantom_seeds.phantom_version()
    if (known := read_run_settings(run)) is not None:
        version = known["cases"].get("version", version)
    return PhantomSource(
        options.cache or run.parent / "phantoms",
        options.phantoms or QUICK_SEEDS,
        options.validation or (QUICK_VALIDATION if options.quick else range(9000, 9012)),
        options.complete,
        version,
    )
