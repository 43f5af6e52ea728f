"""File on disk to report on disk, study after study: what nearly every patient waits, and not only the usual one.

The usual one is compared with peers in the group ``pipeline``; here nobody else runs.
"""

from __future__ import annotations

import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.engines import STAGES, name_of, subjects, timed_engine
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_cohort
from benchmarks.harness.timing import Samples

STUDIES, QUICK_STUDIES = 200, 3
# To make a phantom takes as long as to run some.
DISTINCT = 12
PERCENTILES = (50, 95, 99)
COLUMNS = ("subject", "studies", "stage", *(f"p{percent} ms" for percent in PERCENTILES))


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """The table ``latency``: percentiles of each stage, linear between ranks, of what ``auto`` takes."""
    count = QUICK_STUDIES if settings.quick else STUDIES
    with tempfile.TemporaryDirectory(prefix="lnfast-latency-") as work, next(subjects(settings)) as engine:
        paths = write_cohort(settings, Path(work), min(count, DISTINCT))
        reports = [engine.run(path).report for path in paths]  # loads every window that they need
        samples: Samples = {}
        for number, path in enumerate(islice(cycle(paths), count)):
            if number % 20 == 0:
                settings.log(f"latency: study {number + 1} of {count}")
            for stage, ms in timed_engine(engine, path, Path(work) / "out" / str(number)).items():
                samples.setdefault(stage, []).append(ms)
    studies = f"{count} runs of {len(paths)} phantoms in turn"
    rows = [
        [name_of(reports[0]), studies, stage, *np.percentile(samples[stage], PERCENTILES).tolist()] for stage in STAGES
    ]
    return {"latency": {"columns": list(COLUMNS), "rows": rows}}
