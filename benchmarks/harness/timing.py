"""Interleaved runs and their percentiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np

# Worker threads of the runtimes spin for some milliseconds after their last task, on the core of the next contender.
SETTLE_S = 0.05

Times = dict[str, float]  # stage -> milliseconds of one run
Samples = dict[str, list[float]]  # stage -> milliseconds of every run


@dataclass(frozen=True)
class Summary:
    """Milliseconds over ``n`` runs; percentiles are linear between ranks, as numpy's default."""

    n: int
    median: float
    p5: float
    p95: float


def summarize(milliseconds: list[float]) -> Summary:
    """Return the median and the range that holds nine runs of ten.

    Raises:
        ValueError: no runs: there is no number to return.
    """
    if not milliseconds:
        raise ValueError("got no runs to summarize, wanted at least one")
    p5, median, p95 = np.percentile(milliseconds, (5, 50, 95))
    return Summary(len(milliseconds), float(median), float(p5), float(p95))


def interleave(
    contenders: Mapping[str, Callable[[], Times]],
    *,
    repeats: int,
    warmups: int,
    settle_s: float = SETTLE_S,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Samples]:
    """Run all contenders in turn, A B A B: a machine that slows down midway slows all of them.

    Args:
        contenders: name -> one run, which returns its own times.
        repeats: measured rounds, at least 1.
        warmups: rounds before them, not measured.
        settle_s: pause before each run.
        progress: called before each round.

    Returns:
        Of each contender, milliseconds of every run by stage.
    """
    samples: dict[str, Samples] = {name: {} for name in contenders}
    for turn in range(-warmups, repeats):
        progress("warm-up" if turn < 0 else f"round {turn + 1} of {repeats}")
        for name, run in contenders.items():
            sleep(settle_s)
            times = run()
            if turn >= 0:
                for stage, milliseconds in times.items():
                    samples[name].setdefault(stage, []).append(milliseconds)
    return samples


def pool(parts: list[Samples]) -> Samples:
    """Return the runs of several studies as if of one study."""
    pooled: Samples = {}
    for part in parts:
        for stage, milliseconds in part.items():
            pooled.setdefault(stage, []).extend(milliseconds)
    return pooled


class Stopwatch:
    """Wall-clock milliseconds by stage, and of everything from the first stage to the last as ``total``."""

    def __init__(self) -> None:
        self.times_ms: Times = {}
        self._first: float | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of the ``with`` statement."""
        start = perf_counter()
        self._first = start if self._first is None else self._first
        yield
        end = perf_counter()
        self.times_ms[name] = (end - start) * 1e3
        self.times_ms["total"] = (end - self._first) * 1e3
