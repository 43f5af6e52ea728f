"""Read the b-values of a study and choose its high-b volume.

The b-values are in a ``.bval`` file beside the image: numbers in s/mm2, one for each volume, as FSL and dcm2niix write
them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError
from lnfast.study.sidecar_files import shown

# Scanners report directions of one shell some s/mm2 apart (795, 800, 805; imaging gradients add more); no protocol has
# two shells this close. Taking two shells for one ends in a refusal; taking one direction for the mean would not.
SAME_SHELL = 0.08
BVAL_ENDINGS = (".bval", ".bvals")
_MAX_BVAL_BYTES = 1 << 16
# float() also accepts 1_000 and digits of other scripts, which no converter writes.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class BRule:
    """Which b-values a model takes, in s/mm2: the nearest to a target, within the range."""

    targets: tuple[float, ...]
    low: float
    high: float

    def text(self) -> str:
        """Return the range as a message has it."""
        return f"b between {self.low:g} and {self.high:g} s/mm2"


def read_bvalues(paths: tuple[Path, ...], volumes: int) -> tuple[float, ...] | None:
    """Return the b-values that the ``.bval`` files of a study agree on; None where there is no file.

    Raises:
        StudyError: ``bad-bval`` when a file is not exactly one number of 0 or more for each volume, or two differ.
    """
    values = {path.name: _read(path, volumes) for path in paths}
    if len(set(values.values())) > 1:
        names = ", ".join(shown(name) for name in values)
        raise StudyError("bad-bval", f"has several .bval files beside it that differ ({names}); keep the right one")
    return next(iter(values.values()), None)


def _read(path: Path, volumes: int) -> tuple[float, ...]:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise StudyError("bad-bval", "its .bval is not a file; put one there or take it away")
        with open(path, "rb") as file:
            content = file.read(_MAX_BVAL_BYTES + 1)
    except FileNotFoundError as error:
        raise StudyError("bad-bval", "its .bval is a link to no file; mend the link or take it away") from error
    except OSError as error:
        raise StudyError("bad-bval", "its .bval file cannot be read; check its permissions") from error
    try:
        words = content.decode("utf-8-sig").split()
        if not all(_NUMBER.fullmatch(word) for word in words):
            raise ValueError("not a plain number")
        values = tuple(float(word) for word in words)
    except ValueError as error:
        raise StudyError(
            "bad-bval", "its .bval file holds something that is no number; write one b-value a volume"
        ) from error
    if len(content) > _MAX_BVAL_BYTES or len(values) != volumes:
        raise StudyError(
            "bad-bval", f"its .bval file holds {len(values)} numbers for {volumes} volumes; write one a volume"
        )
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise StudyError("bad-bval", "its .bval file holds a b-value that is negative or not finite; correct it")
    return values


def choose_volume(b_values: tuple[float, ...] | None, volumes: int, rule: BRule) -> int:
    """Return the index of the volume to use.

    Raises:
        StudyError: ``no-high-b``, ``ambiguous``.
    """
    if b_values is None:
        if volumes == 1:
            return 0
        raise StudyError(
            "no-high-b", f"has {volumes} volumes and no .bval file beside it; add one, or give the high-b volume alone"
        )
    usable = [b for b in b_values if rule.low <= b <= rule.high]
    if not usable:
        got = ", ".join(f"{b:g}" for b in b_values[:8]) + (", ..." if volumes > 8 else "")
        raise StudyError("no-high-b", f"has b = {got}, wanted {rule.text()}; give the series with the high b-value")
    chosen = min(usable, key=lambda b: (min(abs(b - target) for target in rule.targets), -b))
    same = sum(abs(b - chosen) <= SAME_SHELL * chosen for b in b_values)
    if same > 1:
        raise StudyError(
            "ambiguous", f"has {same} volumes with b near {chosen:g}, wanted one; give their trace (mean) image instead"
        )
    return b_values.index(chosen)
