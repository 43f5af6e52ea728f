"""The tables of a TOML file, key by key: each wrong value, missing key and unknown key becomes a problem of its own."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from lnfast.errors import UsageError
from lnfast.node.config.address import AET_LETTERS_AT_MOST, is_aet

Value = TypeVar("Value", bound=str)
_MISSING: Any = object()


class Table:
    """One table of a TOML file, from which keys are taken one by one.

    A value that is not what was wanted is reported to ``problems`` and replaced by the default (or, where there is
    none, by an empty one), so that reading goes on and finds the other problems: whoever reads must look at
    ``problems`` before using anything.

    Args:
        name: as it stands in the file: ``[receive]``.
        content: keys and values.
        problems: gets a `UsageError` for each problem.
    """

    def __init__(self, name: str, content: dict[str, Any], problems: list[UsageError]) -> None:
        self.name = name
        self.problems = problems
        self._content = content
        self._known: list[str] = []

    def problem(self, key: str, wanted: str) -> None:
        """Report that a key's value is not what was wanted."""
        shown = _shown(self._content.get(key))
        self.problems.append(UsageError("config-value", f"{self.name} {key}: got {shown}, wanted {wanted}"))

    def has(self, key: str) -> bool:
        """Return whether the file has the key."""
        return key in self._content

    def optional(self, key: str) -> None:
        """Say that a key may be there."""
        self._known.append(key)

    def text(self, key: str, default: str | None = None) -> str:
        """Take a text that is not empty."""
        value = self._take(key, default)
        if value is _MISSING or value is default:
            return default or ""
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self.problem(key, "a text")
            return default or ""
        return value.strip()

    def aet(self, key: str, default: str | None = None) -> str:
        """Take an AE title: 1 to 16 ASCII characters without a backslash."""
        value = self.text(key, default)
        if self.has(key) and value and not is_aet(value):
            self.problem(key, f"an AE title: 1 to {AET_LETTERS_AT_MOST} ASCII characters without a backslash")
        return value

    def choice(self, key: str, default: Value, choices: Sequence[Value]) -> Value:
        """Take one of some texts."""
        value = self._take(key, default)
        for option in choices:
            if value == option:
                return option
        self.problem(key, f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")
        return default

    def flag(self, key: str, default: bool) -> bool:
        """Take true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.problem(key, "true or false")
            return default
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Take a number from ``least`` to ``most``."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _within(value, least, most):
            self.problem(key, f"a number from {least:g} to {most:g}")
            return default
        return float(value)

    def whole(self, key: str, default: int | None, least: int, most: int) -> int:
        """Take a whole number from ``least`` to ``most``."""
        value = self._take(key, default)
        if value is _MISSING:
            return least
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.problem(key, f"a whole number from {least} to {most}")
            return least if default is None else default
        return value

    def path(self, key: str, folder: Path) -> Path:
        """Take a path; one that is not absolute begins in ``folder``."""
        text = self.text(key)
        return folder / Path(text).expanduser() if text else Path()

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Take a list of texts, none of them empty."""
        value = self._take(key, list(default))
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            self.problem(key, "a list of texts, none of them empty")
            return default
        return tuple(value)

    def tables(self, key: str) -> list[Table]:
        """Take a list of tables; an empty one where the key is missing."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problem(key, "a list of tables")
            return []
        return [Table(f"{self.name} {key}[{number}]", item, self.problems) for number, item in enumerate(value, 1)]

    def close(self) -> None:
        """Report the keys that nobody took: a misspelt key must not pass for its default."""
        for key in self._content:
            if key not in self._known:
                self.problems.append(
                    UsageError("config-unknown-key", f"{self.name} has no key {_shown(key)}{_guess(key, self._known)}")
                )

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        if key in self._content:
            return self._content[key]
        if default is None:
            self.problems.append(UsageError("config-missing-key", f"{self.name} needs the key {key}"))
            return _MISSING
        return default


def unknown_table(name: str, known: Sequence[str]) -> UsageError:
    """Return the problem of a table, or of a key outside all tables, that nobody reads."""
    return UsageError("config-unknown-key", f"there is no table {_shown(name)}{_guess(name, known)}")


def _within(value: float, least: float, most: float) -> bool:
    return math.isfinite(value) and least <= value <= most


def _guess(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
