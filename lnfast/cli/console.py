"""Tables on stdout: at most 100 columns, colours only on a terminal, plain ASCII elsewhere."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 100


def stdout() -> Console:
    """Return a rich console on stdout; a pipe or a file gets the same lines without colours."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    return console


def table(console: Console, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table with a line under its head.

    Args:
        console: that will print it.
        columns: heads.
        right: the columns that are aligned to the right, as numbers are.
    """
    empty = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII2,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        empty.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return empty
