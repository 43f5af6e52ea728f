"""One set of label maps from those of several readers, and a record of how far the readers agree.

    OUT/labelsTr/<case>.nii.gz    the consensus, node ids, on the grid of the first reader's map
    OUT/consensus.json            each reader's sensitivity and specificity by case, as STAPLE estimates them
    OUT/readers.json, .csv        every reader against every other

The folder is complete or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lnfast._version import __version__
from lnfast.atomic import new_folder
from lnfast.errors import StudyError, UsageError
from lnfast.geometry import Volume, check_same_grid
from lnfast.study.label_writer import label_map_bytes
from lnfast.study.labelmap import read_label_file
from lnfast_ext import label_components
from training.data.nnunet_raw import ENDINGS
from training.json_file import write_json
from training.readers import agreement
from training.readers.agreement import ReaderAgreement
from training.readers.staple import THRESHOLD, Mask, StapleEstimate, simpleitk_version, staple

CONSENSUS_SCHEMA = "lnfast.consensus/1"
AXES = "LPS"  # to compare in; how a file stores its axes does not matter
TOO_LOW = 0.5


@dataclass(frozen=True)
class Reader:
    """One reader's label maps.

    Attributes:
        name: told apart from the others by as little of the path as will do.
        maps: files by case.
    """

    name: str
    maps: dict[str, Path]


@dataclass(frozen=True)
class ConsensusOutput:
    """The result of `make_consensus`.

    Attributes:
        agreements: every two readers of every case.
        warnings: ``(code, message)`` for a person.
    """

    agreements: tuple[ReaderAgreement, ...]
    warnings: tuple[tuple[str, str], ...]


def open_readers(folders: Sequence[Path]) -> tuple[Reader, ...]:
    """Find each reader's maps.

    Raises:
        UsageError: ``too-few-readers``; ``no-labels`` for a folder without maps.
        StudyError: ``missing-case``, naming every case that a reader lacks.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UsageError("too-few-readers", "wanted two or more different folders, one a reader")
    readers = [Reader(name, _maps(folder)) for name, folder in zip(_names(folders), folders, strict=True)]
    cases = sorted({case for reader in readers for case in reader.maps})
    missing = [
        f"{reader.name} lacks {', '.join(lacking)}"
        for reader in readers
        if (lacking := [case for case in cases if case not in reader.maps])
    ]
    if missing:
        raise StudyError("missing-case", f"{'; '.join(missing)}: add an empty map where a reader saw no node")
    return tuple(readers)


def make_consensus(
    readers: Sequence[Reader], out: Path, *, progress: Callable[[str, int], None] = lambda name, cases: None
) -> ConsensusOutput:
    """Write the consensus of every case.

    Args:
        readers: as `open_readers` returns them.
        out: must not be there yet, or be empty.
        progress: called with each case's name, and with the number of cases.

    Raises:
        UsageError: ``output-exists``.
        StudyError: ``bad-cases``, or the one code where all have the same, with every bad case in the message.
        BackendError: ``backend-missing`` without SimpleITK.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("output-exists", f"{out} is there and not empty; give another -o")
    with new_folder(out) as work:
        (work / "labelsTr").mkdir()
        return _write(readers, work, progress)


def _write(readers: Sequence[Reader], work: Path, progress: Callable[[str, int], None]) -> ConsensusOutput:
    names = [reader.name for reader in readers]
    cases: dict[str, Any] = {}
    rows: list[ReaderAgreement] = []
    estimates: dict[str, StapleEstimate] = {}
    problems: list[tuple[str, StudyError]] = []
    for case in sorted(readers[0].maps):
        progress(case, len(readers[0].maps))
        try:
            first, masks = _masks(case, readers)
            consensus = staple(masks)
        except StudyError as error:
            problems.append((case, error))
            continue
        # Warnings need its numbers; the masks of all cases would fill the memory.
        estimates[case] = replace(consensus, mask=np.zeros((0, 0, 0), bool))
        rows.extend(agreement.compare_readers(case, names, masks))
        nodes = _on_grid_of(first, consensus)
        (work / "labelsTr" / f"{case}.nii.gz").write_bytes(label_map_bytes(nodes))
        cases[case] = _record(names, consensus, int(nodes.array.max()))
    if problems:
        codes = {error.code for _, error in problems}
        raise StudyError(
            codes.pop() if len(codes) == 1 else "bad-cases", "; ".join(f"{case}: {error}" for case, error in problems)
        )
    warnings = _warnings(names, estimates)
    record = {
        "schema": CONSENSUS_SCHEMA,
        "versions": {"lnfast": __version__, "SimpleITK": simpleitk_version()},
        "method": f"STAPLE in the box of what any reader marked and one voxel about it; node from {THRESHOLD} on",
        "readers": names,
        "warnings": [{"code": code, "message": message} for code, message in warnings],
        "cases": cases,
    }
    write_json(work / "consensus.json", record)
    write_json(work / "readers.json", agreement.to_dict(rows))
    (work / "readers.csv").write_text(agreement.to_csv(rows), encoding="utf-8", newline="")
    return ConsensusOutput(tuple(rows), warnings)


def _masks(case: str, readers: Sequence[Reader]) -> tuple[Volume, list[Mask]]:
    """Return the first reader's map as it is stored, and each reader's mask with axes as `AXES`."""
    volumes = [read_label_file(reader.maps[case]).values for reader in readers]
    views = [volume.oriented(AXES) for volume in volumes]
    for reader, view in zip(readers[1:], views[1:], strict=True):
        try:
            check_same_grid(views[0].grid, view.grid)
        except UsageError as error:
            raise StudyError(error.code, f"{readers[0].name} and {reader.name}: {error.message}") from error
    return volumes[0], [view.array > 0 for view in views]


def _on_grid_of(first: Volume, consensus: StapleEstimate) -> Volume:
    mask = Volume(np.zeros(first.grid.shape, bool), first.grid)
    mask.oriented(AXES).array[...] = consensus.mask
    labels, _ = label_components(mask.array, np.zeros(first.grid.shape, np.uint16))
    return Volume(labels, first.grid)


def _record(names: Sequence[str], consensus: StapleEstimate, nodes: int) -> dict[str, Any]:
    return {
        "voxels": int(consensus.mask.sum()),
        "nodes": nodes,
        "iterations": consensus.iterations,
        "sensitivity": dict(zip(names, consensus.sensitivity, strict=True)),
        "specificity": dict(zip(names, consensus.specificity, strict=True)),
    }


def _warnings(names: Sequence[str], estimates: dict[str, StapleEstimate]) -> tuple[tuple[str, str], ...]:
    warnings = []
    if len(names) == 2:
        warnings.append(
            ("two-readers", "of two readers who differ STAPLE cannot know which is right; a third reader would decide")
        )
    restless = sorted(case for case, consensus in estimates.items() if not consensus.converged)
    if restless:
        warnings.append(("not-converged", f"STAPLE did not come to rest: {', '.join(restless)}"))
    apart = sorted(
        case
        for case, consensus in estimates.items()
        if any(value is not None and value < TOO_LOW for value in consensus.sensitivity)
    )
    if apart:
        warnings.append(
            ("readers-apart", f"a reader has less than half of the consensus, look at them: {', '.join(apart)}")
        )
    return tuple(warnings)


def _maps(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError("no-labels", f"{folder} is no folder; wanted one of label maps a reader")
    maps: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
        if ending is None or path.name.startswith("."):
            continue
        case = path.name.removesuffix(ending)
        if case in maps:
            raise UsageError("bad-name", f"{folder} has {case} as .nii and as .nii.gz; keep one")
        maps[case] = path
    if not maps:
        raise UsageError("no-labels", f"{folder} has no .nii.gz or .nii file; wanted a folder such as labelsTr")
    return maps


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return as few of the last parts of the paths as tell all apart: ``anna/labelsTr``, ``ben/labelsTr``."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts))):
        names = tuple("/".join(path[-length:]) for path in parts)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, folders))
