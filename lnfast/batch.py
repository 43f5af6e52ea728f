"""Overlap the reading, the analysis and the writing of many studies: two generators for `Engine.run_many`.

read_ahead      a thread reads the next inputs while the caller works on this one
write_behind    a thread writes the previous result while the next one is computed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# Inputs read ahead of the network: one is read while one is inferred. More would hold more memory and gain nothing,
# since reading is faster than the network.
READ_AHEAD = 2

Item = TypeVar("Item")
Output = TypeVar("Output")
Name = TypeVar("Name")


def read_ahead(items: Iterator[Item], read: Callable[[Item], Output]) -> Generator[Output, None, None]:
    """Read items in order, in a thread of their own, up to `READ_AHEAD` of them before they are asked for.

    Args:
        items: taken one by one in that thread, so that an item which is still to come delays none before it.
        read: called in that thread. What it raises ends the iteration at its item.

    Yields:
        What ``read`` returns. Closing the generator waits for the item that is being read and cancels the others.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="lnfast-read") as reader:
        pending = deque(reader.submit(_read_next, items, read) for _ in range(READ_AHEAD))
        try:
            while result := pending.popleft().result():
                pending.append(reader.submit(_read_next, items, read))
                yield result[0]
        finally:
            for future in pending:
                future.cancel()


def _read_next(items: Iterator[Item], read: Callable[[Item], Output]) -> tuple[Output] | None:
    """Read the next item; None after the last."""
    for item in items:
        return (read(item),)
    return None


def write_behind(
    results: Iterator[Output], names: Sequence[Name], write: Callable[[Output, Name], Output]
) -> Iterator[Output]:
    """Write each result in a thread of its own while the next one is computed.

    Args:
        results: as many as there are names.
        names: the second argument of ``write``.
        write: called in that thread.

    Yields:
        What ``write`` returns, once the result is written. Where ``results`` raises, the result before it is still
        written and yielded.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="lnfast-write") as writer:
        previous: Future[Output] | None = None
        for name in names:
            failure: Exception | None = None
            try:
                result = next(results)
            except Exception as error:
                failure = error
            if previous is not None:
                yield previous.result()
            if failure is not None:
                raise failure
            previous = writer.submit(write, result, name)
        if previous is not None:
            yield previous.result()
