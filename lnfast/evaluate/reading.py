"""Folders of predictions and of truths, and the label maps in them.

    <folder>/<name>.nii.gz               label maps; also .nii
    <folder>/<name>/labels.nii.gz        what `lnfast run` writes
    <folder>/labelsTr/<name>.nii.gz      nnU-Net's raw layout and `lnfast phantom`'s: labelsTr alone is looked at

A study's name is its file's without .nii, .nii.gz and a trailing _0000, written as `lnfast run` names folders, so that
a run's folder finds the truth of its study whatever signs its name holds.

A label map says node ids, or it is a mask: one value, and its 26-connected components are the nodes. Ids may have gaps;
touching nodes of different ids stay two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.report.folder import folder_name
from lnfast.study import shown, study_name
from lnfast.study.nifti import NiftiHeader, parse_header
from lnfast.study.stored import open_stored
from lnfast_ext import label_components

ReadAs = Literal["ids", "components", "one node", "empty"]
MAX_BYTES = 2 << 30
# The paper counts up to 35 nodes a patient; a study's image in a label map's place has as many values as greys.
IDS_AT_MOST = 1000
# Of a mask. Noise on both sides would ask for a table of all pairs: 0.8 GB at this many.
PIECES_AT_MOST = 10_000
# Label maps stored as scaled int16 come back a little beside their integers.
INTEGER_WITHIN = 1e-3


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Node ids on the native grid.

    Attributes:
        labels: ``(z, y, x)`` integers, 1 to n, 0 outside.
        ids: ``ids[i]`` is what the file calls node ``i + 1``, ascending; 1 to n where it only says where nodes are.
        read_as: what the file was taken for.
        split: how many ids lie in several pieces: the file may mean something else by its values, such as classes.
    """

    labels: Volume
    ids: tuple[int, ...]
    read_as: ReadAs
    split: int


@dataclass(frozen=True)
class Found:
    """A label map in a folder.

    Attributes:
        name: of the study, as the file or the run's folder says it.
        path: of the label map.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class StudyPair:
    """One study's two files.

    Attributes:
        name: of the study, as the truth's file says it.
        prediction, truth: label maps.
    """

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """Two folders, matched.

    Attributes:
        pairs: one for each truth, by name.
        without_truth: names of predictions.
        truths: the folder.
    """

    pairs: tuple[StudyPair, ...]
    without_truth: tuple[str, ...]
    truths: Path


def pair_up(predictions: Path, truths: Path) -> Pairing:
    """Match two folders by study name.

    Raises:
        UsageError: ``not-found``, ``no-label-maps``, ``ambiguous-name``, ``same-folder``, ``missing-prediction``.
    """
    if predictions.exists() and truths.exists() and predictions.samefile(truths):
        raise UsageError("same-folder", f"{predictions} was given as PREDICTIONS and as TRUTHS, wanted two folders")
    ours, theirs = label_files(predictions), label_files(truths)
    missing = [shown(found.name) for key, found in theirs.items() if key not in ours]
    if missing:
        raise UsageError(
            "missing-prediction",
            f"{len(missing)} of {len(theirs)} truths have no prediction in {predictions}: {', '.join(missing)}; "
            "a study in which nothing was found needs an empty label map",
        )
    pairs = tuple(StudyPair(found.name, ours[key].path, found.path) for key, found in theirs.items())
    return Pairing(pairs, tuple(found.name for key, found in ours.items() if key not in theirs), truths)


def label_files(folder: Path) -> dict[str, Found]:
    """The label maps of a folder, by name as `lnfast run` writes it, in the order of names.

    Raises:
        UsageError: ``not-found``, ``no-label-maps``, ``ambiguous-name``.
    """
    if not folder.is_dir():
        raise UsageError("not-found", f"got {folder}, which is no folder; wanted one of label maps or of run outputs")
    raw = folder / "labelsTr"
    files: dict[str, Found] = {}
    for found in _candidates(raw if raw.is_dir() else folder):
        before = files.setdefault(folder_name(found.name), found)
        if before is not found:
            raise UsageError(
                "ambiguous-name",
                f"{shown(str(before.path))} and {shown(str(found.path))} are both of study {shown(found.name)}; "
                "take one of them away",
            )
    if not files:
        raise UsageError(
            "no-label-maps",
            f"{folder} holds no <name>.nii.gz, no <name>/labels.nii.gz and no labelsTr/<name>.nii.gz; wanted one",
        )
    return dict(sorted(files.items()))


def read_label_map(path: Path) -> LabelMap:
    """Read one label map.

    Raises:
        StudyError: ``bad-labels`` for values that are no ids; ``not-3d`` and what `lnfast.study.read_study` refuses of
            any file.
    """
    try:
        with open_stored(path, MAX_BYTES) as stored:
            header = parse_header(stored.head, MAX_BYTES)
            if header.volumes != 1:
                raise StudyError("not-3d", f"holds {header.volumes} volumes, wanted one label map")
            start, size = header.data_offset, header.volume_bytes
            content, _ = stored.values(start, size, start + size)
        grid = Grid(header.shape_xyz[::-1], header.affine)
        return as_label_map(_integers(np.frombuffer(content, header.dtype).reshape(grid.shape), header), grid)
    except StudyError as error:
        raise StudyError(error.code, f"{shown(str(path))}: {error.message}") from error


def as_label_map(values: NDArray[Any], grid: Grid) -> LabelMap:
    """Decide what a label map means.

    Args:
        values: ``(z, y, x)`` integers, 0 outside.
        grid: of the same shape.

    Raises:
        StudyError: ``bad-labels``.
    """
    inside = values != 0
    ids, places = np.unique(values[inside], return_inverse=True)
    if not len(ids):
        return LabelMap(Volume(np.zeros(grid.shape, np.uint16), grid), (), "empty", 0)
    if ids[0] < 0:
        raise StudyError("bad-labels", f"holds the value {ids[0]}, wanted 0 outside and ids above 0")
    if len(ids) == 1:
        labels, count = label_components(inside)
        if count > PIECES_AT_MOST:
            raise StudyError("bad-labels", f"holds {count} separate pieces, wanted at most {PIECES_AT_MOST} nodes")
        read_as: ReadAs = "components" if count > 1 else "one node"
        return LabelMap(Volume(labels, grid), tuple(range(1, count + 1)), read_as, 0)
    if len(ids) > IDS_AT_MOST:
        raise StudyError(
            "bad-labels", f"holds {len(ids)} different values, wanted at most {IDS_AT_MOST} ids; is it an image?"
        )
    labels = np.zeros(grid.shape, np.uint16)
    labels[inside] = places + 1
    return LabelMap(Volume(labels, grid), tuple(ids.tolist()), "ids", _split(labels, len(ids)))


def scanner_of(pair: StudyPair, truths: Path) -> str | None:
    """The scanner that ``truth/<name>.json`` beside the label maps names, as `lnfast phantom` writes it; None without.

    Raises:
        StudyError: ``bad-truth`` for a file that is no JSON object.
    """
    root = truths.parent if truths.name == "labelsTr" else truths
    file = root / "truth" / f"{pair.name}.json"
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_bytes())
        scanner = record.get("scanner")
    except (ValueError, AttributeError, RecursionError) as error:
        raise StudyError("bad-truth", f"{shown(str(file))}: is no JSON object; mend or remove it") from error
    return scanner if isinstance(scanner, str) else None


def _candidates(folder: Path) -> Iterator[Found]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() and path.name.lower().endswith((".nii", ".nii.gz")):
            yield Found(study_name(path), path)
        elif (path / "labels.nii.gz").is_file():
            yield Found(path.name, path / "labels.nii.gz")


def _integers(values: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    """What the file's numbers mean, as integers."""
    scaled = (header.slope, header.inter) != (1.0, 0.0)
    if values.dtype.kind in "iu" and not scaled:
        return values
    meant = values.astype(np.float64)
    if scaled:
        meant = meant * header.slope + header.inter
    if not np.isfinite(meant).all():
        raise StudyError("bad-labels", "holds values that are not finite, wanted 0 outside and ids above 0")
    whole = np.rint(meant)
    beside = np.abs(meant - whole) > INTEGER_WITHIN
    if beside.any():
        raise StudyError("bad-labels", f"holds the value {meant[beside][0]:g}, wanted whole numbers: ids, or one value")
    if np.abs(whole).max(initial=0.0) >= 2**53:
        raise StudyError("bad-labels", f"holds the value {np.abs(whole).max():g}, wanted ids")
    return whole.astype(np.int64)


def _split(labels: NDArray[Any], count: int) -> int:
    """How many ids lie in several components of the mask. What another id bridges is not told apart."""
    inside = labels != 0
    pieces, _ = label_components(inside)
    ids = labels[inside].astype(np.int64)
    # Each (id, piece) once, so that ids may be counted by their pieces.
    both = np.unique(np.stack([ids, pieces[inside].astype(np.int64)]), axis=1)
    return int(np.count_nonzero(np.bincount(both[0], minlength=count + 1) > 1))
