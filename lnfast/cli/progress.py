"""The output of a command while it works: results on stdout, log lines on stderr, a progress bar on a terminal."""

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


class ProgressDisplay:
    """A progress bar on stderr where that is a terminal.

    Args:
        steps: number of steps of about equal length.
        description: of the work before the first step ends.
    """

    def __init__(self, steps: int, description: str) -> None:
        self._steps, self._description = steps, description
        self._progress: Progress | None = None

    def __enter__(self) -> ProgressDisplay:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

            columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
            if self._steps != 1:
                columns += [BarColumn(), MofNCompleteColumn()]
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
            self._progress.start()
            self._progress.add_task(self._description, total=self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def on_terminal(self) -> bool:
        """Whether `show` shows anything."""
        return self._progress is not None

    def show(self, description: str) -> None:
        """Show what is being done."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=description)

    def advance(self, description: str) -> None:
        """Count one step, and show what is done next."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], advance=1, description=description)

    def forecasting(self, forecast: Forecast, announcement: str) -> Callable[[str, int, int], None]:
        """Return a callback ``(stage, done, total)`` that shows how much time is left.

        On a terminal the line is updated in place; elsewhere lines are logged, the first at once and the next at least
        `LINE_EVERY_S` apart. ``announcement`` is logged before the first step.
        """
        last = -math.inf

        def step(stage: str, done: int, total: int) -> None:
            nonlocal last, announcement
            if announcement:
                self.log(announcement)
                announcement = ""
            forecast.step(stage, done, total)
            line = f"{stage} {min(done + 1, total)}/{total}, {forecast.text()}"
            if self._progress is not None:
                self.show(line)
            elif monotonic() - last >= LINE_EVERY_S:
                last = monotonic()
                self.log(line)

        return step

    def result(self, line: str) -> None:
        """Print a line on stdout; above the bar where both are terminals."""
        if self._progress is not None and sys.stdout.isatty():
            self._above_the_bar(self._progress, line)
        else:
            with streams.printing():
                click.echo(line)

    def log(self, line: str) -> None:
        """Print a line on stderr."""
        if self._progress is not None:
            self._above_the_bar(self._progress, f"lnfast: {line}")
        else:
            streams.log(line)

    def log_cache(self) -> None:
        """Log why nothing is cached between runs, where that is the case."""
        from lnfast.backends.engine.cache import problem

        if (reason := problem()) is not None:
            self.log(f"no-cache: {reason}")

    def _above_the_bar(self, progress: Progress, line: str) -> None:
        progress.console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
