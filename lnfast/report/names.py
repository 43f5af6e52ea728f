"""Folder names for the studies of a batch, of which no two are alike."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lnfast.report.folder import folder_name
from lnfast.study import study_name


def distinct_names(paths: Iterable[str | Path]) -> list[str]:
    """A folder name for each study: its own, with as many of its folders before it as tell it from others, or a number.

    Names are compared as the folders that they become, on file systems that know no case as well: two studies never
    share a folder.
    """
    files = [Path(path) for path in paths]
    # From the nearest outward; a bare file name has none.
    parents = [() if file.parent == Path() else Path(os.path.abspath(file)).parent.parts[:0:-1] for file in files]
    depths = [0] * len(files)

    def name(index: int) -> str:
        before = parents[index][: depths[index]]
        return folder_name("_".join((*reversed(before), study_name(files[index]))))

    while deeper := _to_deepen([name(index).casefold() for index in range(len(files))], parents, depths):
        for index in deeper:
            depths[index] += 1
    taken: set[str] = set()
    names = []
    for index in range(len(files)):
        free, number = name(index), 2
        while free.casefold() in taken:
            free, number = folder_name(name(index), number), number + 1
        taken.add(free.casefold())
        names.append(free)
    return names


def _to_deepen(keys: list[str], parents: Sequence[tuple[str, ...]], depths: list[int]) -> list[int]:
    """Which of the names that are alike get one more folder: the least deep, once anyway, then where it leads apart."""
    alike: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        alike.setdefault(key, []).append(index)
    found: list[int] = []
    for group in alike.values():
        apart = len({parents[index][depths[index] :] for index in group}) > 1
        can = [index for index in group if depths[index] < len(parents[index])]
        if len(group) > 1 and can and (apart or not any(depths[index] for index in group)):
            least = min(depths[index] for index in can)
            found += [index for index in can if depths[index] == least]
    return found
