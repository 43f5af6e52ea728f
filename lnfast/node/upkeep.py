"""What is done now and then: retention, once an hour."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lnfast.errors import LnfastError
from lnfast.node.monitor.life import ThreadedPart

EVERY_S = 3600.0
_MOST_S = 1800.0  # to delete a full disk of files
_BEAT_S = 1.0
_logger = logging.getLogger("lnfast.node.upkeep")


class Upkeep(ThreadedPart):
    """A thread that does some work when it starts and then every hour.

    Args:
        work: returns how much was done, for the log; its errors are logged, and it is tried again the next time.
        every_s: from the end of one time to the beginning of the next.
    """

    def __init__(self, work: Callable[[], int], *, every_s: float = EVERY_S) -> None:
        super().__init__("lnfast-upkeep", self._run)
        self._work, self._every_s = work, every_s
        self._ending = threading.Event()

    def stop(self) -> None:
        """End, at most after what is being deleted."""
        self._ending.set()
        self._join(_BEAT_S)

    def _run(self) -> None:
        while not self._ending.is_set():
            with self._life.busy(_MOST_S):
                self._once()
            due = time.monotonic() + self._every_s
            while time.monotonic() < due and not self._ending.wait(_BEAT_S):
                self._life.beat()

    def _once(self) -> None:
        try:
            amount = self._work()
        except (LnfastError, OSError) as error:
            _logger.error("old exams could not be deleted", exc_info=error)
        else:
            if amount:
                _logger.info("old exams are deleted", extra={"amount": amount})
