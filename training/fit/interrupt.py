"""Ctrl-C and SIGTERM stop a run after it has saved its state."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


class StoppedError(Exception):
    """A signal stopped the run, which can be resumed from its last checkpoint.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class StopRequest:
    """Records a signal to stop. A second one has its usual effect.

    Outside the main thread there are no signals, and no request is recorded.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *of_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Install the handler, after Lightning's own, which would stop between two parts of a step."""
        for number in self._before:
            signal.signal(number, self._record)

    def share_between_devices(self, trainer: Trainer) -> None:
        """Share the request, so that all devices stop after the same step."""
        if trainer.world_size > 1:
            import torch  # not above: the command line names the error of this module, and its --help is instant

            number = torch.tensor(self.signal or 0, device=trainer.strategy.root_device)
            self.signal = int(trainer.strategy.reduce(number, reduce_op="max")) or None

    def raise_if_requested(self) -> None:
        """Raise if a stop was requested; called where it is safe to stop.

        Raises:
            StoppedError: a signal asked.
        """
        if self.signal is not None:
            raise StoppedError(self.signal)

    def raise_on_single_device(self, trainer: Trainer) -> None:
        """Raise as `raise_if_requested` does, if there is no other device.

        Others may not have as much to do at this place, and would wait for this one.

        Raises:
            StoppedError: a signal asked.
        """
        if trainer.world_size == 1:
            self.raise_if_requested()

    def _record(self, number: int, frame: Any) -> None:
        self.signal = number
        for known, handler in self._before.items():
            signal.signal(known, handler)
