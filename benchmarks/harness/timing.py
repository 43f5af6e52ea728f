"""Interleaved runs and the few numbers that are kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np

# Worker threads of the runtimes spin for some milliseconds after their last task, on the core of whoever comes next.
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
    """Median and the range that holds nine runs of ten.

    Raises:
        ValueError: for no runs at all: there is no number to give.
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
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Samples]:
    """Run everyone in turn, A B A B: a machine that slows down midway slows all of them.

    Args:
        contenders: name -> one run, which returns its own times.
        repeats: rounds that count, at least 1.
        warmups: rounds before them that do not.
        settle_s: pause before each run.
        log: told of each round.
    """
    kept: dict[str, Samples] = {name: {} for name in contenders}
    for turn in range(-warmups, repeats):
        log("warm-up" if turn < 0 else f"round {turn + 1} of {repeats}")
        for name, run in contenders.items():
            sleep(settle_s)
            times = run()
            if turn >= 0:
                for stage, milliseconds in times.items():
                    kept[name].setdefault(stage, []).append(milliseconds)
    return kept


def pool(parts: list[Samples]) -> Samples:
    """The runs of several studies as if of one."""
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
        """Time what is inside."""
        start = perf_counter()
        self._first = start if self._first is None else self._first
        yield
        end = perf_counter()
        self.times_ms[name] = (end - start) * 1e3
        self.times_ms["total"] = (end - self._first) * 1e3
