"""The scanner or group of a study: from the truth's record, or from a file of groups."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.inputs.pairing import StudyPair, unreadable
from lnfast.study import shown


def scanner_of(pair: StudyPair, truths: Path) -> str | None:
    """Return the scanner that ``truth/<name>.json`` beside the label maps names, as `lnfast phantom` writes it.

    None without such a file or name.

    Raises:
        StudyError: ``bad-truth`` for a file that does not hold a JSON object; ``unreadable``.
    """
    # Absolute, because "." has no name; not resolved, because a link named labelsTr lies beside its records.
    folder = Path(os.path.abspath(truths))
    root = folder.parent if folder.name == "labelsTr" else folder
    file = root / "truth" / f"{pair.name}.json"
    try:
        content = file.read_bytes()
    except OSError as error:
        # A study's name may be too long for a file name.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise unreadable(file, error) from error
    try:
        scanner = json.loads(content).get("scanner")
    except (ValueError, AttributeError, RecursionError) as error:
        raise StudyError("bad-truth", f"{shown(str(file))}: is no JSON object; mend or remove it") from error
    return (shown(scanner).strip() or None) if isinstance(scanner, str) else None


def groups_in(file: Path, pairs: Sequence[StudyPair]) -> dict[str, str | None]:
    """Return the group of each study. Names in the file are study names; lines of other studies are ignored.

    Raises:
        UsageError: ``bad-groups`` for a file that is not such a table, and for a study without a group or with two.
        OSError: the file cannot be read.
    """
    groups: dict[str, set[str]] = {pair.name: set() for pair in pairs}
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if not {"name", "group"} <= set(rows.fieldnames or ()):
                raise UsageError("bad-groups", f"{file} has the columns {rows.fieldnames}, wanted name and group")
            for row in rows:
                group = shown(row["group"] or "").strip()
                if group and row["name"] in groups:
                    groups[row["name"]].add(group)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError("bad-groups", f"{file} is no CSV file in UTF-8 ({error})") from error
    for name, candidates in groups.items():
        if len(candidates) > 1:
            raise UsageError(
                "bad-groups", f"{file} has {shown(name)} in {' and in '.join(sorted(candidates))}; keep one line of it"
            )
    missing = [shown(name) for name, candidates in groups.items() if not candidates]
    if missing:
        raise UsageError("bad-groups", f"{file} names no group for {', '.join(missing)}; add a line for each")
    return {name: candidates.pop() for name, candidates in groups.items()}
