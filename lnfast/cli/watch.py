"""What is said while a command works: results on stdout, log lines on stderr, a bar when a person watches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

import click

from lnfast.cli import streams

if TYPE_CHECKING:
    from rich.progress import Progress

    from lnfast.export.forecast import Forecast

LINE_EVERY_S = 10.0  # of progress, where nobody may be watching


class Watcher:
    """Tells whoever watches stderr how far a command is.

    Args:
        steps: of equal length, more or less.
        doing: what happens before the first.
    """

    def __init__(self, steps: int, doing: str) -> None:
        self._steps, self._doing = steps, doing
        self._progress: Progress | None = None

    def __enter__(self) -> Watcher:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

            columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
            if self._steps != 1:
                columns += [BarColumn(), MofNCompleteColumn()]
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
            self._progress.start()
            self._progress.add_task(self._doing, total=self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def working_on(self, name: str) -> None:
        """Say what is being worked on."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=name)

    def done_with_one(self, following: str) -> None:
        """Count one step, and say what follows."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], advance=1, description=following)

    def steps(self, forecast: Forecast, first: str) -> Callable[[str, int, int], None]:
        """A function that is told ``(what, done, of)`` and says how much time is left.

        On a terminal that is a line that changes, elsewhere a new line, the first at once and the others at least
        `LINE_EVERY_S` apart. ``first`` is said before the first step.
        """
        last = -math.inf

        def step(what: str, done: int, of: int) -> None:
            nonlocal last, first
            if first:
                self.log(first)
                first = ""
            forecast.step(what, done, of)
            line = f"{what} {min(done + 1, of)}/{of}, {forecast.text()}"
            if self._progress is not None:
                self.working_on(line)
            elif monotonic() - last >= LINE_EVERY_S:
                last = monotonic()
                self.log(line)

        return step

    def result(self, line: str) -> None:
        """A line on stdout; above the bar where both are terminals."""
        if self._progress is not None and sys.stdout.isatty():
            self._above_the_bar(self._progress, line)
        else:
            with streams.printing():
                click.echo(line)

    def log(self, line: str) -> None:
        """A line on stderr."""
        if self._progress is not None:
            self._above_the_bar(self._progress, f"lnfast: {line}")
        else:
            streams.log(line)

    def log_cache(self) -> None:
        """Say why nothing is kept between runs, where that is so."""
        from lnfast.backends.engine.cache import problem

        if (why := problem()) is not None:
            self.log(f"no-cache: {why}")

    def _above_the_bar(self, progress: Progress, line: str) -> None:
        progress.console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
