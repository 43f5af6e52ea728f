"""What is said while a command works: results on stdout, log lines on stderr, a bar when a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress


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

    def steps(self) -> Callable[[str, int, int], None]:
        """A function that is told ``(what, done, of)``: a bar on a terminal, a line for each new thing elsewhere."""
        said = ""

        def step(what: str, done: int, of: int) -> None:
            nonlocal said
            if self._progress is not None:
                self._progress.update(self._progress.task_ids[0], description=what, completed=done, total=of)
            elif what != said:
                said = what
                self.log(what)

        return step

    def result(self, line: str) -> None:
        """A line on stdout; above the bar where both are terminals."""
        if self._progress is not None and sys.stdout.isatty():
            self._above_the_bar(self._progress, line)
        else:
            click.echo(line)

    def log(self, line: str) -> None:
        """A line on stderr."""
        if self._progress is not None:
            self._above_the_bar(self._progress, f"lnfast: {line}")
        else:
            click.echo(f"lnfast: {line}", err=True)

    def _above_the_bar(self, progress: Progress, line: str) -> None:
        progress.console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
