"""Log lines that a peer can cause as often as it likes: each kind at most every few seconds, against floods."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

EVERY_S = 10.0
_MOST_KINDS = 1000  # a scan from many addresses


class SeldomLogger:
    """Logs warnings of connections; safe from many threads.

    Args:
        logger: that gets them.
        clock: monotonic seconds.
    """

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._clock = logger, clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}  # when it was logged, and how often not since

    def warn(self, message: str, *, code: str, peer: str) -> None:
        """Log a warning, unless one of this code and peer was logged just now; the next one says how many were not."""
        with self._lock:
            now = self._clock()
            logged, left_out = self._kinds.get((code, peer), (-EVERY_S, 0))
            if now - logged < EVERY_S:
                self._kinds[code, peer] = logged, left_out + 1
                return
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            self._kinds[code, peer] = now, 0
        extra = {"code": code, "peer": peer, **({"amount": left_out} if left_out else {})}
        self._logger.warning(message, extra=extra)
