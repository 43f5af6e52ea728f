"""File on disk to report on disk, study after study: the time that nearly every patient waits, not only the median.

The median is compared with peers in the group ``pipeline``; here no peer runs.
"""

from __future__ import annotations

import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.engines import STAGES, engine_name, load_subjects, time_engine
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_cohort
from benchmarks.harness.timing import Samples

STUDIES, QUICK_STUDIES = 200, 3
# Making a phantom takes as long as running several.
DISTINCT = 12
PERCENTILES = (50, 95, 99)
COLUMNS = ("subject", "studies", "stage", *(f"p{percent} ms" for percent in PERCENTILES))


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the table ``latency``: percentiles of each stage, linear between ranks, of what ``auto`` takes."""
    count = QUICK_STUDIES if settings.quick else STUDIES
    with tempfile.TemporaryDirectory(prefix="lnfast-latency-") as work, next(load_subjects(settings)) as engine:
        paths = write_cohort(settings, Path(work), min(count, DISTINCT))
        reports = [engine.run(path).report for path in paths]  # loads every window of these studies
        samples: Samples = {}
        for number, path in enumerate(islice(cycle(paths), count)):
            if number % 20 == 0:
                settings.progress(f"latency: study {number + 1} of {count}")
            for stage, ms in time_engine(engine, path, Path(work) / "out" / str(number)).items():
                samples.setdefault(stage, []).append(ms)
    studies = f"{count} runs of {len(paths)} phantoms in turn"
    rows = [
        [engine_name(reports[0]), studies, stage, *np.percentile(samples[stage], PERCENTILES).tolist()]
        for stage in STAGES
    ]
    return {"latency": {"columns": list(COLUMNS), "rows": rows}}
