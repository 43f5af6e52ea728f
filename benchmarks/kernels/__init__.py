"""The compiled kernels against the libraries that are used for the same work.

    data       seeded inputs                judges     is the answer right?
    subjects   the kernels                  contest    one task on one input: judge, time, rows
    peers      the libraries                tasks      which kernel meets whom on what

No network runs, so no backend is needed.
"""

from __future__ import annotations

import SimpleITK as sitk  # noqa: N813
import torch

from benchmarks.harness.rows import Row
from benchmarks.harness.settings import Settings
from benchmarks.kernels.inputs import make_inputs
from benchmarks.kernels.tasks import contests


def run(settings: Settings) -> list[Row]:
    """Rows of all contests.

    Raises:
        WrongAnswerError: an input on which agreement proves nothing.
    """
    torch.set_num_threads(settings.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(settings.threads)
    return [row for contest in contests(settings, make_inputs(settings)) for row in contest.rows(settings)]
