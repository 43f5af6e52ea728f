"""The content of a table cell: a measure, or a dash with a link to the reason why it is undefined. All text is escaped
here."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from lnfast.study import shown

DASH = "\u2014"


def text(value: object) -> str:
    """Return a value as text of the page or of a quoted attribute; characters that do not print, such as bidirectional
    controls, become a question mark."""
    return html.escape(shown(str(value)))


class Footnotes:
    """The footnotes of one table: reasons, each listed once.

    Args:
        key: of the table, for the link targets inside the page.
    """

    def __init__(self, key: str) -> None:
        self._key, self._reasons = key, list[str]()

    def dash(self, reason: object) -> str:
        """Return the dash of an undefined measure, with its reason."""
        return f'<span class="undefined" title="{text(reason)}">{DASH}</span>{self.mark(reason)}'

    def mark(self, reason: object) -> str:
        """Return the raised number of a reason."""
        reason = str(reason)
        if reason not in self._reasons:
            self._reasons.append(reason)
        number = self._reasons.index(reason) + 1
        return f'<sup><a href="#{self._key}-{number}" aria-label="note {number}">{number}</a></sup>'

    def to_html(self) -> str:
        """Return the list below the table; empty without reasons."""
        items = (f'<li id="{self._key}-{number}">{text(reason)}' for number, reason in enumerate(self._reasons, 1))
        content = "".join(items)
        return f'<ol class="footnotes" aria-label="Notes">{content}</ol>' if content else ""


def number(value: float, places: int = 3) -> str:
    """Return a rounded number, without the sign of a zero."""
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "\u2212")


def estimate(measure: Mapping[str, Any], notes: Footnotes) -> str:
    """Return a measure with its interval and, for a proportion, its counts.

    Args:
        measure: ``value``, ``low``, ``high``, ``reason`` and, for a proportion, ``count`` and ``of``.
        notes: of the table.
    """
    if measure["value"] is None:
        return notes.dash(measure["reason"])
    count = f"{measure['count']} of {measure['of']}, " if "count" in measure else ""
    if measure["low"] is None:
        return f"{number(measure['value'])}<small>{count}no interval{notes.mark(measure['reason'])}</small>"
    return f"{number(measure['value'])}<small>{count}{number(measure['low'])} to {number(measure['high'])}</small>"


def mean_sd(summary: Mapping[str, Any], notes: Footnotes, places: int = 2, per_unit: float = 1.0) -> str:
    """Return mean, SD and number of values of a summary.

    Args:
        summary: ``mean``, ``sd``, ``n`` and, where values are undefined, ``undefined`` and ``reasons``.
        notes: of the table.
        places: decimals.
        per_unit: the shown numbers are those of the summary divided by this.
    """
    reasons = [f"{reason} ({count})" for reason, count in summary.get("reasons", {}).items()]
    missing = f"undefined in {summary['undefined']} of {summary['n'] + summary['undefined']}: " if reasons else ""
    note = missing + ", ".join(reasons)
    if summary["mean"] is None:
        return notes.dash(note or "no value")
    sd = "" if summary["sd"] is None else f" \u00b1 {number(summary['sd'] / per_unit, places)}"
    mean = number(summary["mean"] / per_unit, places)
    return f"{mean}{sd}<small>n {summary['n']}{notes.mark(note) if note else ''}</small>"


def p_value(p: float | None, reason: object, notes: Footnotes) -> str:
    """Return a p value as papers print it."""
    return notes.dash(reason) if p is None else "&lt; 0.001" if p < 0.001 else number(p)
