"""One task on one input: every implementation answers, the answers are checked, then all are timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.rows import Row, RowKey, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Times, interleave
from benchmarks.kernels.checks import Check, CheckResult, least_alike, same_bits

# The kernels' threads end with the call; torch's spin for some milliseconds, on the core of the next implementation.
SETTLE_S = 0.01
# A sleeping core takes a millisecond or two to wake up: as long as a whole kernel.
WARM_S = 0.02
FLOOR = "floor"

Implementation = Callable[[Any], Any]  # an input to an answer


def _unchanged(answer: Any) -> Any:
    return answer


@dataclass(frozen=True)
class KernelSubject:
    """An implementation by our kernels.

    Attributes:
        make: returns an implementation with buffers of its own for a number of threads.
        threaded: does the number make a difference?
        convert: an answer to the form that the checks take; not timed.
    """

    make: Callable[[int], Implementation]
    threaded: bool
    convert: Implementation = _unchanged


@dataclass(frozen=True)
class KernelTask:
    """Work that several implementations do.

    Attributes:
        stage: its name in the rows.
        subjects, peers: by name.
        check: compares a subject's answer with a peer's.
        floor: reads and writes the bytes that any implementation must read and write, and does nothing else.
        targets: the wanted ratio of a subject with a peer, by the peer's name.
    """

    stage: str
    subjects: Mapping[str, KernelSubject]
    peers: Mapping[str, Implementation]
    check: Check
    floor: Implementation
    targets: Mapping[str, float]


@dataclass(frozen=True)
class _Comparison:
    subject: str
    peer: str
    check: Check
    target: float | None


class KernelBenchmark:
    """A task on an input.

    Args:
        task: the work.
        study: the input's name in the rows.
        items: arguments of each implementation, one after another; a row's times are those of all of them.
        threads: of every implementation that can have several.
    """

    def __init__(self, task: KernelTask, study: str, items: Sequence[Any], threads: int) -> None:
        self._task, self._study, self._items = task, study, items
        self._implementations: dict[str, Implementation] = {}
        self._converters: dict[str, Implementation] = {}
        self._comparisons: list[_Comparison] = []
        for name, subject in task.subjects.items():
            self._implementations[name] = subject.make(threads)
            self._converters[name] = subject.convert
            for peer in task.peers:
                self._comparisons.append(_Comparison(name, peer, task.check, task.targets.get(peer)))
            if subject.threaded and threads > 1:
                single = f"{name}, 1 thread"
                self._implementations[single] = subject.make(1)
                self._converters[single] = subject.convert
                self._comparisons.append(_Comparison(name, single, same_bits, None))
        self._implementations |= task.peers

    def rows(self, settings: Settings) -> list[Row]:
        """Check the answers, time the implementations and return the rows.

        Raises:
            WrongAnswerError: answers that prove nothing.
        """
        results = self._check()
        for comparison, result in zip(self._comparisons, results, strict=True):
            message = f"{self._task.stage}, {self._study}: {result['verdict']} as {comparison.peer}"
            settings.progress(f"kernels: {message}")
        runs = {name: partial(_timed, run, self._items) for name, run in self._implementations.items()}
        runs[FLOOR] = partial(_timed, self._task.floor, self._items)
        samples = interleave(runs, repeats=settings.kernel_repeats, warmups=settings.warmups, settle_s=SETTLE_S)
        times = {name: [ms for series in by_item.values() for ms in series] for name, by_item in samples.items()}
        return [
            make_row(
                RowKey("kernels", self._study, self._task.stage, comparison.subject, comparison.peer),
                times[comparison.subject],
                times[comparison.peer],
                result,
                floor=times[FLOOR],
                target=comparison.target,
            )
            for comparison, result in zip(self._comparisons, results, strict=True)
        ]

    def _check(self) -> list[CheckResult]:
        """For each comparison the result of the item that agrees least."""
        by_item = []
        for item in self._items:
            answers = {
                name: self._converters.get(name, _unchanged)(run(item)) for name, run in self._implementations.items()
            }
            by_item.append([c.check(item, answers[c.subject], answers[c.peer]) for c in self._comparisons])
        return [least_alike(results) for results in zip(*by_item, strict=True)]


def read(*arrays: NDArray[Any]) -> None:
    """Read every byte once: contiguous arrays of a multiple of eight bytes."""
    for array in arrays:
        array.reshape(-1).view(np.uint64).max()


def _timed(run: Implementation, items: Sequence[Any]) -> Times:
    """Run untimed for `WARM_S`, then time each item: in a pipeline, too, cores are awake and caches hold the input."""
    warm_until = perf_counter() + WARM_S
    run(items[0])
    while perf_counter() < warm_until:
        run(items[0])
    times = {}
    for index, item in enumerate(items):
        start = perf_counter()
        answer = run(item)
        times[str(index)] = (perf_counter() - start) * 1e3
        del answer  # its memory is freed outside the time
    return times
