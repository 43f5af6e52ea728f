"""What stands in a cell: a measure, or a dash that leads to the reason why there is none. All text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from lnfast.study import shown

DASH = "\u2014"


def text(value: object) -> str:
    """Anything as text of the page or of a quoted attribute; what does not print, such as marks that turn the writing
    round, is a question mark."""
    return html.escape(shown(str(value)))


class Footnotes:
    """The reasons of one table, each once.

    Args:
        key: of the table, for the addresses inside the page.
    """

    def __init__(self, key: str) -> None:
        self._key, self._reasons = key, list[str]()

    def dash(self, reason: object) -> str:
        """What is undefined, with its reason."""
        return f'<span class="undefined" title="{text(reason)}">{DASH}</span>{self.mark(reason)}'

    def mark(self, reason: object) -> str:
        """The raised number of a reason."""
        words = str(reason)
        if words not in self._reasons:
            self._reasons.append(words)
        number = self._reasons.index(words) + 1
        return f'<sup><a href="#{self._key}-{number}" aria-label="note {number}">{number}</a></sup>'

    def to_html(self) -> str:
        """The list below the table; nothing without reasons."""
        items = (f'<li id="{self._key}-{number}">{text(words)}' for number, words in enumerate(self._reasons, 1))
        found = "".join(items)
        return f'<ol class="footnotes" aria-label="Notes">{found}</ol>' if found else ""


def number(value: float, places: int = 3) -> str:
    """A rounded number, without the sign of a zero."""
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "\u2212")


def estimate(told: Mapping[str, Any], notes: Footnotes) -> str:
    """A measure with its interval and, of a share, its counts, as ``value``, ``low``, ``high``, ``reason`` say."""
    if told["value"] is None:
        return notes.dash(told["reason"])
    count = f"{told['count']} of {told['of']}, " if "count" in told else ""
    if told["low"] is None:
        return f"{number(told['value'])}<small>{count}no interval{notes.mark(told['reason'])}</small>"
    return f"{number(told['value'])}<small>{count}{number(told['low'])} to {number(told['high'])}</small>"


def mean_sd(told: Mapping[str, Any], notes: Footnotes, places: int = 2, per_unit: float = 1.0) -> str:
    """Mean and SD of a summary, and of how many: ``mean``, ``sd``, ``n`` and, where there are any, ``reasons``."""
    reasons = [f"{words} ({count})" for words, count in told.get("reasons", {}).items()]
    missing = f"undefined in {told['undefined']} of {told['n'] + told['undefined']}: " if reasons else ""
    why = missing + ", ".join(reasons)
    if told["mean"] is None:
        return notes.dash(why or "no value")
    sd = "" if told["sd"] is None else f" \u00b1 {number(told['sd'] / per_unit, places)}"
    return f"{number(told['mean'] / per_unit, places)}{sd}<small>n {told['n']}{notes.mark(why) if why else ''}</small>"


def p_value(p: float | None, reason: object, notes: Footnotes) -> str:
    """As papers print it."""
    return notes.dash(reason) if p is None else "&lt; 0.001" if p < 0.001 else number(p)
