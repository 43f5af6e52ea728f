"""Distinct folder names for the studies of a batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lnfast.report.folder import folder_name
from lnfast.study import is_dicom, study_name


def folder_names(studies: Sequence[object]) -> list[str | None]:
    """Name each study's folder, no two alike; None for DICOM, whose studies name themselves once they are read.

    Args:
        studies: paths, or arrays in any form.
    """
    dicom = [_from_dicom(study) for study in studies]
    names = iter(distinct_names(_source(study) for study, own in zip(studies, dicom, strict=True) if not own))
    return [None if own else next(names) for own in dicom]


def _from_dicom(study: object) -> bool:
    return isinstance(study, (str, Path)) and is_dicom(Path(study))


def _source(study: object) -> str | Path:
    return study if isinstance(study, (str, Path)) and study != "" else "array"


def distinct_names(paths: Iterable[str | Path]) -> list[str]:
    """Return a folder name for each study: its own, after as many of its folders as make it distinct, or numbered.

    Names are compared as folder names on a case-insensitive file system: two studies never share a folder.
    """
    files = [Path(path) for path in paths]
    # From the nearest folder outwards; a bare file name has none.
    parents = [() if file.parent == Path() else Path(os.path.abspath(file)).parent.parts[:0:-1] for file in files]
    depths = [0] * len(files)

    def name(index: int) -> str:
        prefix = parents[index][: depths[index]]
        return folder_name("_".join((*reversed(prefix), study_name(files[index]))))

    while deeper := _to_deepen([name(index).casefold() for index in range(len(files))], parents, depths):
        for index in deeper:
            depths[index] += 1
    used: set[str] = set()
    numbers: dict[str, int] = {}  # the next to try, so that thousands of one name are not tried again and again
    names = []
    for index in range(len(files)):
        own = candidate = name(index)
        while candidate.casefold() in used:
            numbers[own] = numbers.get(own, 1) + 1
            candidate = folder_name(own, numbers[own])
        used.add(candidate.casefold())
        names.append(candidate)
    return names


def _to_deepen(keys: list[str], parents: Sequence[tuple[str, ...]], depths: list[int]) -> list[int]:
    """Return which of equal names get one more folder: those with the fewest, where that can make them differ.

    Equal names get a first folder in any case.
    """
    equal: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        equal.setdefault(key, []).append(index)
    selected: list[int] = []
    for group in equal.values():
        distinguishable = len({parents[index][depths[index] :] for index in group}) > 1
        extendable = [index for index in group if depths[index] < len(parents[index])]
        if len(group) > 1 and extendable and (distinguishable or not any(depths[index] for index in group)):
            least = min(depths[index] for index in extendable)
            selected += [index for index in extendable if depths[index] == least]
    return selected
