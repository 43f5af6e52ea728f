"""Whether a thread still makes progress, so that a node never looks alive and does nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IDLE_S = 20.0  # every loop of the node comes round at least each second


class Life:
    """The last sign of life of one thread; it gives the signs, others ask.

    Args:
        name: of the thread.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._due = clock() + IDLE_S

    def beat(self) -> None:
        """Show that the thread came round its loop; to be called at least every second."""
        self._due = self._clock() + IDLE_S

    def allow(self, seconds: float) -> None:
        """Announce that the next sign may take some seconds, such as the answer of a peer."""
        self._due = self._clock() + seconds

    @contextmanager
    def busy(self, most_s: float) -> Iterator[None]:
        """Announce work in which no sign can be given, such as a run of the engine or a wait for a peer.

        Args:
            most_s: after which the thread counts as stuck.
        """
        self.allow(most_s)
        try:
            yield
        finally:
            self.beat()

    def overdue(self) -> bool:
        """Whether the next sign is later than it may be."""
        return self._clock() > self._due


class ThreadedPart:
    """A part of the node that works in one thread.

    Args:
        name: of the thread.
        work: what runs in it, from `start` on; it gives signs of life.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._life = Life(name)
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread, started or not."""
        return (self._thread,)

    @property
    def lives(self) -> tuple[Life, ...]:
        """The thread's signs of life."""
        return (self._life,)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def _join(self, most_s: float) -> None:
        """Wait for the end of the thread, where it was started."""
        if self._thread.ident is not None:
            self._thread.join(most_s)
