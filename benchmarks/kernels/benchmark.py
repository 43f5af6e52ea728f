"""One task on one input: everyone answers, the answers are judged, then everyone is timed, and rows are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.rows import Pair, Row, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import Times, interleave
from benchmarks.kernels.checks import Agreed, Judge, least_alike, same_bits

# The kernels' threads end with the call; torch's spin for some milliseconds, on the core of whoever comes next.
SETTLE_S = 0.01
# A core that slept takes a millisecond or two to come to the help of another: as long as a whole kernel.
WARM_S = 0.02
FLOOR = "floor"

Side = Callable[[Any], Any]  # an input to an answer


def _as_it_is(answer: Any) -> Any:
    return answer


@dataclass(frozen=True)
class Subject:
    """One of ours.

    Attributes:
        make: a number of threads to a side that has buffers of its own.
        threaded: does the number make a difference?
        show: an answer as the judges take it; what this costs is not the side's.
    """

    make: Callable[[int], Side]
    threaded: bool
    show: Side = _as_it_is


@dataclass(frozen=True)
class Task:
    """What is to be done.

    Attributes:
        stage: its name in the rows.
        subjects, peers: by name.
        judge: of a subject's answer against a peer's.
        floor: reads and writes the bytes that cannot be left unread or unwritten, and does nothing else.
        targets: how many times as fast as a peer a subject should be, by the peer's name.
    """

    stage: str
    subjects: Mapping[str, Subject]
    peers: Mapping[str, Side]
    judge: Judge
    floor: Side
    targets: Mapping[str, float]


@dataclass(frozen=True)
class _Match:
    subject: str
    peer: str
    judge: Judge
    target: float | None


class Contest:
    """A task on an input.

    Args:
        task: what is done.
        study: the input's name in the rows.
        items: what each side is called with, one after another; a row's times are those of all of them.
        threads: of every side that can have several.
    """

    def __init__(self, task: Task, study: str, items: Sequence[Any], threads: int) -> None:
        self._task, self._study, self._items = task, study, items
        self._sides: dict[str, Side] = {}
        self._shown: dict[str, Side] = {}
        self._matches: list[_Match] = []
        for name, subject in task.subjects.items():
            self._sides[name] = subject.make(threads)
            self._shown[name] = subject.show
            for peer in task.peers:
                self._matches.append(_Match(name, peer, task.judge, task.targets.get(peer)))
            if subject.threaded and threads > 1:
                alone = f"{name}, 1 thread"
                self._sides[alone] = subject.make(1)
                self._shown[alone] = subject.show
                self._matches.append(_Match(name, alone, same_bits, None))
        self._sides |= task.peers

    def rows(self, settings: Settings) -> list[Row]:
        """Judge, time, sum up.

        Raises:
            WrongAnswerError: answers that prove nothing.
        """
        agreed = self._agreed()
        for match, one in zip(self._matches, agreed, strict=True):
            settings.log(f"kernels: {self._task.stage}, {self._study}: {one['verdict']} as {match.peer}")
        runs = {name: partial(_timed, side, self._items) for name, side in self._sides.items()}
        runs[FLOOR] = partial(_timed, self._task.floor, self._items)
        samples = interleave(runs, repeats=settings.kernel_repeats, warmups=settings.warmups, settle_s=SETTLE_S)
        times = {name: [ms for series in by_item.values() for ms in series] for name, by_item in samples.items()}
        return [
            make_row(
                Pair("kernels", self._study, self._task.stage, match.subject, match.peer),
                times[match.subject],
                times[match.peer],
                one,
                floor=times[FLOOR],
                target=match.target,
            )
            for match, one in zip(self._matches, agreed, strict=True)
        ]

    def _agreed(self) -> list[Agreed]:
        """For each match the item that agrees least."""
        by_item = []
        for item in self._items:
            answers = {name: self._shown.get(name, _as_it_is)(side(item)) for name, side in self._sides.items()}
            by_item.append([m.judge(item, answers[m.subject], answers[m.peer]) for m in self._matches])
        return [least_alike(of_match) for of_match in zip(*by_item, strict=True)]


def read(*arrays: NDArray[Any]) -> None:
    """Read every byte once: contiguous arrays of a multiple of eight bytes."""
    for array in arrays:
        array.reshape(-1).view(np.uint64).max()


def _timed(side: Side, items: Sequence[Any]) -> Times:
    """Untimed for a while, then item by item: in a pipeline, too, cores are awake and caches hold what comes next."""
    awake = perf_counter() + WARM_S
    side(items[0])
    while perf_counter() < awake:
        side(items[0])
    times = {}
    for index, item in enumerate(items):
        start = perf_counter()
        answer = side(item)
        times[str(index)] = (perf_counter() - start) * 1e3
        del answer  # memory is given back outside the time
    return times
