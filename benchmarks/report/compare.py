"""Two files of ``--json``: did lnfast get slower against its peers? ``python -m benchmarks compare OLD NEW``.

A row's ratio is measured against a peer on the same machine in the same minutes, so the ratio of two ratios does not
change where a machine is only slower than the other. It changes with the peer as well: versions that differ are told.

The change's interval comes from the spreads of the four series, p5 to p95 of each, in logarithms and taken for
independent. A row is slower when the change is beyond the threshold and one is beyond the interval: a wide spread makes
a regression harder to prove and never easier. Of fewer than `RUNS_AT_LEAST` runs nothing is known of the spread.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.harness.agreement import ALIKE
from benchmarks.harness.rows import Kept, Pair, Row
from lnfast.errors import UsageError

THRESHOLD = 1.1
RUNS_AT_LEAST = 3

Outcome = Literal["slower", "worse answer", "faster", "unchanged", "unknown"]
# Those for which the exit code is 1.
REGRESSIONS: tuple[Outcome, ...] = ("slower", "worse answer")


@dataclass(frozen=True)
class Change:
    """One row in both files.

    Attributes:
        pair: what it is about.
        old, new: ratios; None where there is none, because answers differ.
        change: ``new / old``: below one lnfast lost ground. None where a ratio is.
        low, high: the interval of ``change``; None where it, or a spread, is unknown.
        outcome: ``worse answer`` where it was alike and is wrong, ``unknown`` where nothing can be said.
    """

    pair: Pair
    old: float | None
    new: float | None
    change: float | None
    low: float | None
    high: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Comparison:
    """Two files side by side.

    Attributes:
        changes: of rows that are in both files, worst first.
        only_old, only_new: how many rows are in one alone.
        differing: lines about what else is not the same in both.
    """

    changes: list[Change]
    only_old: int
    only_new: int
    differing: list[str]

    @property
    def regressions(self) -> list[Change]:
        """What makes the exit code 1."""
        return [change for change in self.changes if change.outcome in REGRESSIONS]


def compare_files(old: Kept, new: Kept, threshold: float = THRESHOLD) -> Comparison:
    """Match the rows of two files.

    Args:
        old, new: of the same model.
        threshold: greater than one; what a ratio may lose before it counts.

    Raises:
        UsageError: ``other-model``; ``nothing-in-common`` where no row is in both, or one file has a row twice.
    """
    models = [kept.environment.get("model", {}).get("sha256") for kept in (old, new)]
    if models[0] != models[1]:
        told = " and ".join(str(model)[:12] for model in models)
        raise UsageError("other-model", f"the files are of different models ({told}); their times do not compare")
    before, after = _by_pair(old.rows), _by_pair(new.rows)
    common = [pair for pair in before if pair in after]
    if not common:
        raise UsageError("nothing-in-common", "no row is in both files; run the same groups with the same options")
    changes = [_change(before[pair], after[pair], threshold) for pair in common]
    changes.sort(key=lambda one: (one.outcome not in REGRESSIONS, math.inf if one.change is None else one.change))
    return Comparison(
        changes, len(before) - len(common), len(after) - len(common), _differing(old.environment, new.environment)
    )


def _by_pair(rows: list[Row]) -> dict[Pair, Row]:
    twice = [pair for pair, count in Counter(row.pair for row in rows).items() if count > 1]
    if twice:
        raise UsageError("nothing-in-common", f"a file has {len(twice)} rows twice, first {twice[0]}")
    return {row.pair: row for row in rows}


def _change(old: Row, new: Row, threshold: float) -> Change:
    if old.ratio is None or new.ratio is None:
        worse = old.agreement["verdict"] in ALIKE and new.agreement["verdict"] == "wrong"
        outcome: Outcome = "worse answer" if worse else "unknown"
        return Change(new.pair, old.ratio, new.ratio, None, None, None, outcome)
    change = new.ratio / old.ratio
    spread = _spread(old, new)
    if spread is None:
        return Change(new.pair, old.ratio, new.ratio, change, None, None, "unknown")
    low, high = change / spread, change * spread
    outcome = "unchanged"
    if change < 1 / threshold and high < 1:
        outcome = "slower"
    elif change > threshold and low > 1:
        outcome = "faster"
    return Change(new.pair, old.ratio, new.ratio, change, low, high, outcome)


def _spread(*rows: Row) -> float | None:
    """The factor by which a quotient of all series' values may be off; None where a series says nothing of it."""
    ranges = [(row.subject_p5, row.subject_p95) for row in rows] + [(row.peer_p5, row.peer_p95) for row in rows]
    if min(row.n for row in rows) < RUNS_AT_LEAST or min(low for low, _ in ranges) <= 0:
        return None
    return math.exp(math.hypot(*(math.log(high / low) / 2 for low, high in ranges)))


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Settings, processor and versions that are not the same in both, one a line."""
    keys = ("cpu", "cpu_flags", "cores", "threads", "kernels", "busy", "seed", "device", "quick")
    told = [f"{key}: {old.get(key)} and {new.get(key)}" for key in keys if old.get(key) != new.get(key)]
    versions = old.get("versions", {}), new.get("versions", {})
    names = [name for name in {**versions[0], **versions[1]} if versions[0].get(name) != versions[1].get(name)]
    return told + [f"{name}: {versions[0].get(name)} and {versions[1].get(name)}" for name in names]
