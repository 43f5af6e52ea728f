"""The comparison of two files of ``--json``, in which a fallen ratio is a regression:
``python -m benchmarks compare OLD NEW``.

A row's ratio is measured against a peer on the same machine in the same minutes, so the ratio of two ratios does not
change where one machine is only slower than the other. It changes with the peer as well: versions that differ are
listed.

The change's interval comes from the spreads of the four series, p5 to p95 of each, in logarithms and taken for
independent. A row is slower when the change is beyond the threshold and 1 is outside the interval: a wide spread makes
a regression harder to prove and never easier. The spread of fewer than `RUNS_AT_LEAST` runs is unknown.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.harness.agreement import ALIKE
from benchmarks.harness.rows import BenchmarkFile, Row, RowKey
from lnfast.errors import UsageError

THRESHOLD = 1.1
RUNS_AT_LEAST = 3

Outcome = Literal["slower", "worse answer", "faster", "unchanged", "unknown"]
# The outcomes with exit code 1.
REGRESSIONS: tuple[Outcome, ...] = ("slower", "worse answer")


@dataclass(frozen=True)
class RatioChange:
    """A row that is in both files.

    Attributes:
        key: what the row is about.
        old, new: ratios; None where answers differ.
        change: ``new / old``: below 1 lnfast lost ground. None where a ratio is None.
        low, high: the interval of ``change``; None where it, or a spread, is unknown.
        outcome: ``worse answer`` where the old answer agreed and the new one is wrong, ``unknown`` where there is too
            little to decide.
    """

    key: RowKey
    old: float | None
    new: float | None
    change: float | None
    low: float | None
    high: float | None
    outcome: Outcome


@dataclass(frozen=True)
class FileComparison:
    """Two files side by side.

    Attributes:
        changes: of the rows that are in both files, worst first.
        only_old, only_new: numbers of rows that are in one file alone.
        differences: lines about settings, processor and versions that are not the same in both.
    """

    changes: list[RatioChange]
    only_old: int
    only_new: int
    differences: list[str]

    @property
    def regressions(self) -> list[RatioChange]:
        """The changes that make the exit code 1."""
        return [change for change in self.changes if change.outcome in REGRESSIONS]


def compare_files(old: BenchmarkFile, new: BenchmarkFile, threshold: float = THRESHOLD) -> FileComparison:
    """Match the rows of two files.

    Args:
        old, new: of the same model.
        threshold: greater than 1; the factor by which a ratio may fall.

    Raises:
        UsageError: ``other-model``; ``nothing-in-common`` where no row is in both, or one file has a row twice.
    """
    models = [file.environment.get("model", {}).get("sha256") for file in (old, new)]
    if models[0] != models[1]:
        hashes = " and ".join(str(model)[:12] for model in models)
        raise UsageError("other-model", f"the files are of different models ({hashes}); their times do not compare")
    before, after = _by_key(old.rows), _by_key(new.rows)
    common = [key for key in before if key in after]
    if not common:
        raise UsageError("nothing-in-common", "no row is in both files; run the same groups with the same options")
    changes = [_change(before[key], after[key], threshold) for key in common]
    changes.sort(key=lambda row: (row.outcome not in REGRESSIONS, math.inf if row.change is None else row.change))
    return FileComparison(
        changes, len(before) - len(common), len(after) - len(common), _differences(old.environment, new.environment)
    )


def _by_key(rows: list[Row]) -> dict[RowKey, Row]:
    twice = [key for key, count in Counter(row.key for row in rows).items() if count > 1]
    if twice:
        raise UsageError("nothing-in-common", f"a file has {len(twice)} rows twice, first {twice[0]}")
    return {row.key: row for row in rows}


def _change(old: Row, new: Row, threshold: float) -> RatioChange:
    if old.ratio is None or new.ratio is None:
        worse = old.agreement["verdict"] in ALIKE and new.agreement["verdict"] == "wrong"
        outcome: Outcome = "worse answer" if worse else "unknown"
        return RatioChange(new.key, old.ratio, new.ratio, None, None, None, outcome)
    change = new.ratio / old.ratio
    spread = _spread(old, new)
    if spread is None:
        return RatioChange(new.key, old.ratio, new.ratio, change, None, None, "unknown")
    low, high = change / spread, change * spread
    outcome = "unchanged"
    if change < 1 / threshold and high < 1:
        outcome = "slower"
    elif change > threshold and low > 1:
        outcome = "faster"
    return RatioChange(new.key, old.ratio, new.ratio, change, low, high, outcome)


def _spread(*rows: Row) -> float | None:
    """The factor by which a quotient of all series' values may be off; None where the spread of a series is unknown."""
    ranges = [(row.subject_p5, row.subject_p95) for row in rows] + [(row.peer_p5, row.peer_p95) for row in rows]
    if min(row.n for row in rows) < RUNS_AT_LEAST or min(low for low, _ in ranges) <= 0:
        return None
    return math.exp(math.hypot(*(math.log(high / low) / 2 for low, high in ranges)))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Settings, processor and versions that are not the same in both, one a line."""
    keys = ("cpu", "cpu_flags", "cpu_limit", "cores", "threads", "kernels", "busy", "seed", "device", "quick")
    settings = [f"{key}: {old.get(key)} and {new.get(key)}" for key in keys if old.get(key) != new.get(key)]
    versions = old.get("versions", {}), new.get("versions", {})
    names = [name for name in {**versions[0], **versions[1]} if versions[0].get(name) != versions[1].get(name)]
    return settings + [f"{name}: {versions[0].get(name)} and {versions[1].get(name)}" for name in names]
