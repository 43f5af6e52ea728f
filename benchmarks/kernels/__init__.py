"""The compiled kernels against the libraries that are used for the same work.

    inputs     seeded inputs                checks     is the answer right?
    subjects   the kernels                  benchmark  one task on one input: check, time, make rows
    peers      the libraries                tasks      which kernel is compared with which library on which input

No network runs, so no backend is needed.
"""

from __future__ import annotations

import SimpleITK as sitk  # noqa: N813
import torch

from benchmarks.harness.rows import Row
from benchmarks.harness.settings import Settings
from benchmarks.kernels.inputs import make_inputs
from benchmarks.kernels.tasks import kernel_benchmarks


def run(settings: Settings) -> list[Row]:
    """Return the rows of all tasks and inputs.

    Raises:
        WrongAnswerError: an input on which agreement proves nothing.
    """
    torch.set_num_threads(settings.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(settings.threads)
    return [row for task in kernel_benchmarks(settings, make_inputs(settings)) for row in task.rows(settings)]
