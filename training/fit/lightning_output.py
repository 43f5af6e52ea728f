"""Lightning's output: its announcements are silenced, its curves and its progress bar adapted."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
_MODULES = r"(pytorch_lightning|lightning_fabric|lightning_utilities|torchmetrics)\b"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's loggers and the warnings that are raised in its own modules, and no others."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=_MODULES)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class TensorBoardCurves(TensorBoardLogger):
    """TensorBoard's event files in ``RUN/tensorboard``, without Lightning's other files.

    Args:
        run: folder of the run.
        step: what was logged after it belongs to an interrupted try, and is hidden.
    """

    def __init__(self, run: Path, step: int) -> None:
        super().__init__(run, name="tensorboard", version="", purge_step=step + 1)

    @rank_zero_only
    def save(self) -> None:
        """Flush; Lightning's own would add a YAML file of hyperparameters, of which there are none."""
        self.experiment.flush()


class ProgressBar(RichProgressBar):
    """Lightning's progress bar on standard error, without a number of epochs, which the budget decides."""

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}"
