"""The split into training, validation and test, 8:1:1 by patient, as a file in the run folder.

Patients are ranked by a hash of the seed and their name; the first tenth is the test set, the second the validation
set. So the ratio is exact (393 patients: 315, 39 and 39), the order of files has no say, and most patients stay where
they are when others are added: only those near the two borders of the ranking move. A shuffle of the list would give
the same ratio and move everybody; a draw for each patient alone would move nobody, and four cohorts of thirty in a
hundred (0.9 to the 30th) would have no test set. The paper's 309, 43 and 41 of 393 are near 8:1:1 and not its
rounding, so they cannot be had from the ratio.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lnfast.errors import UsageError
from training.data.nnunet_raw import CaseFiles
from training.json_file import write_json

SPLIT_SCHEMA = "lnfast.split/1"
SHARE = 10  # one patient of ten each for validation and test
SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Which case belongs to which part.

    Attributes:
        seed: that it was made with.
        train, validation, test: names of cases, sorted.
    """

    seed: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the parts, independent of the file's layout."""
        sides = {side: sorted(getattr(self, side)) for side in SIDES}
        return hashlib.sha256(json.dumps(sides).encode()).hexdigest()


def split_cases(cases: Sequence[CaseFiles], seed: int) -> Split:
    """Split cases 8:1:1 by patient; the same patients and seed give the same split.

    Raises:
        UsageError: ``too-few-patients`` below 3.
    """
    patients = sorted({case.patient for case in cases}, key=lambda patient: (_rank(seed, patient), patient))
    if len(patients) < len(SIDES):
        raise UsageError("too-few-patients", f"got {len(patients)} patients, wanted at least {len(SIDES)} to split")
    tenth = max(1, (len(patients) + SHARE // 2) // SHARE)
    side = dict.fromkeys(patients, "train")
    side |= dict.fromkeys(patients[:tenth], "test") | dict.fromkeys(patients[tenth : 2 * tenth], "validation")
    names = {part: tuple(sorted(case.name for case in cases if side[case.patient] == part)) for part in SIDES}
    return Split(seed, **names)


def check_split(split: Split, cases: Sequence[CaseFiles], *, partial: bool = False) -> None:
    """Refuse a split that does not fit these cases.

    Args:
        split: as read.
        cases: of the folder.
        partial: cases may be left out.

    Raises:
        UsageError: ``bad-split`` for unknown cases, cases left out and patients on two sides, all named.
    """
    patient = {case.name: case.patient for case in cases}
    sides: dict[str, set[str]] = {}
    for side in SIDES:
        for name in getattr(split, side):
            sides.setdefault(patient.get(name, ""), set()).add(side)
    named = {name for side in SIDES for name in getattr(split, side)}
    wrong = {
        "names cases that are not there": sorted(named - patient.keys()),
        "leaves out": [] if partial else sorted(patient.keys() - named),
        "has patients on two sides": sorted(name for name, on in sides.items() if name and len(on) > 1),
    }
    message = "; ".join(f"{what}: {', '.join(which)}" for what, which in wrong.items() if which)
    if message:
        raise UsageError("bad-split", f"the split {message}; make it again for this folder")


def write_split(path: Path, split: Split) -> None:
    """Write a split as JSON, one case a line, whole or not at all."""
    write_json(path, {"schema": SPLIT_SCHEMA, **asdict(split)})


def read_split(path: Path, cases: Sequence[CaseFiles] | None = None, *, partial: bool = False) -> Split:
    """Read a split, and check it against the cases where they are given.

    Raises:
        UsageError: ``bad-split``: no such file, no split, a case twice; as `check_split`.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SPLIT_SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, wanted {SPLIT_SCHEMA!r}")
        if type(content["seed"]) is not int:
            raise ValueError(f"seed {content['seed']!r}, wanted a whole number")
        split = Split(content["seed"], *(_names(content[side]) for side in SIDES))
    except OSError as error:
        raise UsageError("bad-split", f"{path} cannot be read ({error.strerror}); make it with `split`") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError("bad-split", f"{path} is no split: {error}; make it with `split`") from error
    names = sorted(split.train + split.validation + split.test)
    twice = sorted({name for name, following in pairwise(names) if name == following})
    if twice:
        raise UsageError("bad-split", f"{path} has cases twice: {', '.join(twice)}; make it again")
    if cases is not None:
        check_split(split, cases, partial=partial)
    return split


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError("a side is no list of case names")
    return tuple(value)


def _rank(seed: int, patient: str) -> bytes:
    return hashlib.sha256(f"{seed}:{patient}".encode()).digest()
