"""What is done now and then: retention, once an hour."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lnfast.errors import LnfastError
from lnfast.node.monitor.life import Life

EVERY_S = 3600.0
_MOST_S = 1800.0  # to delete a full disk of files
_BEAT_S = 1.0
_logger = logging.getLogger("lnfast.node.upkeep")


class Upkeep:
    """A thread that does some work when it starts and then every hour.

    Args:
        work: returns how much was done, for the log; its errors are logged, and it is tried again the next time.
        every_s: from the end of one time to the beginning of the next.
    """

    def __init__(self, work: Callable[[], int], *, every_s: float = EVERY_S) -> None:
        self._work, self._every_s = work, every_s
        self._ending = threading.Event()
        self._life = Life("lnfast-upkeep")
        self._thread = threading.Thread(target=self._run, name="lnfast-upkeep", daemon=True)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread."""
        return (self._thread,)

    @property
    def lives(self) -> tuple[Life, ...]:
        """Its signs of life."""
        return (self._life,)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at most after what is being deleted."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_BEAT_S)

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
