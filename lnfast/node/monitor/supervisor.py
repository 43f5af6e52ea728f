"""Watches the threads of the node: one that ended or hangs is found within a second, whatever it was that it did."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from lnfast.node.monitor.health import Finding
from lnfast.node.monitor.life import Life

_PACKAGE = Path(__file__).parents[2]
_logger = logging.getLogger("lnfast.node")


class Part(Protocol):
    """A part of the node that has threads."""

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """Those that run from `start` to `stop`."""

    @property
    def lives(self) -> tuple[Life, ...]:
        """Their signs of life, in the same order."""


class Supervisor:
    """The threads without which the node is no node.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: list[tuple[threading.Thread, Life]] = []
        self._stuck_since: float | None = None

    def watch(self, parts: Iterable[Part]) -> None:
        """Watch the threads of parts that have been started."""
        for part in parts:
            self._watched += zip(part.threads, part.lives, strict=True)

    def dead(self) -> list[str]:
        """Names of the threads that have ended."""
        return [thread.name for thread, _ in self._watched if not thread.is_alive()]

    def stuck(self) -> list[str]:
        """Names of the threads that have given no sign for longer than they may."""
        return [thread.name for thread, life in self._watched if thread.is_alive() and life.overdue()]

    def findings(self) -> list[Finding]:
        """What is wrong with the threads."""
        return [
            *(Finding("thread-died", f"the thread {name} has ended by a fault") for name in self.dead()),
            *(Finding("thread-stuck", f"the thread {name} gives no sign of life") for name in self.stuck()),
        ]

    def alive(self) -> list[tuple[dict[str, str], float]]:
        """For the metric ``thread_alive``."""
        return [
            ({"thread": thread.name}, float(thread.is_alive() and not life.overdue())) for thread, life in self._watched
        ]

    def stuck_for_s(self) -> float:
        """Return for how long some thread has been stuck; 0 while none is. To be called about once a second."""
        stuck = self.stuck()
        if not stuck:
            self._stuck_since = None
            return 0.0
        if self._stuck_since is None:
            self._stuck_since = self._clock()
            for name in stuck:
                _logger.error("a thread gives no sign of life", extra={"thread_name": name, "at": self._place(name)})
        return self._clock() - self._stuck_since

    def _place(self, name: str) -> str:
        """Return the innermost line of lnfast at which a thread is now."""
        number = next((thread.ident for thread, _ in self._watched if thread.name == name), None)
        frame = sys._current_frames().get(number or 0)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(_PACKAGE):
                return f"{path.relative_to(_PACKAGE).as_posix()}:{frame.f_lineno}"
            frame = frame.f_back
        return "?"
