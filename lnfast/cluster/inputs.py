"""STUDIES become entries: a file is a study, a folder is searched, a manifest is read.

In a folder
    every .nii and .nii.gz file is a study,
    every folder in it that has DICOM files, at whatever depth, is one study, as ``lnfast run`` takes it,
    every other folder is searched in the same way;
    and where DICOM files lie in the folder itself, it is one study.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lnfast.cluster.manifest import ManifestRow, absolute, is_manifest, read_manifest
from lnfast.errors import UsageError
from lnfast.report import folder_name, folder_names
from lnfast.study import is_dicom

_NIFTI = (".nii", ".nii.gz")
_PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class Entry:
    """One study of a cohort.

    Attributes:
        path: absolute.
        given: as the caller or the manifest wrote it.
        name: of its folder; None for DICOM, whose studies name themselves.
        source: by which it is named where it has no name.
        carried: what its manifest says of it beside that.
    """

    path: str
    given: str
    name: str | None
    source: str
    carried: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """All studies of a cohort.

    Attributes:
        entries: in the order given; a folder's in the order of their names.
        columns: that manifests carry along, name -> type.
    """

    entries: tuple[Entry, ...]
    columns: dict[str, str]


def list_inputs(studies: Iterable[Path], out: Path, progress: Callable[[str], None]) -> Inputs:
    """List all studies and name their folders, no two alike.

    Args:
        studies: files, folders and manifests.
        out: the output, which is not searched where it lies in a folder that is.
        progress: called now and then where the listing takes long.

    Raises:
        UsageError: ``bad-manifest``, or ``no-studies`` where there are none.
        BackendError: ``backend-missing`` for a Parquet file without pyarrow.
    """
    listed: list[Entry] = []
    columns: dict[str, str] = {}
    for path in studies:
        if is_manifest(path):
            manifest = read_manifest(path)
            for name, kind in manifest.columns.items():
                if columns.setdefault(name, kind) != kind:
                    raise UsageError("bad-manifest", f"{path}: column {name} is of another type than in the one before")
            listed += [_of_manifest(path, row) for row in manifest.rows]
            continue
        for study in _studies_in(path, out):
            listed.append(Entry(os.path.abspath(study), str(study), None, str(study), {}))
            if len(listed) % _PROGRESS_EVERY == 0:
                progress(f"{len(listed)} studies found")
    if not listed:
        raise UsageError("no-studies", "found no .nii or .nii.gz file and no folder of DICOM files; check the paths")
    return Inputs(tuple(_named(listed)), columns)


def _of_manifest(path: Path, row: ManifestRow) -> Entry:
    location = absolute(path, row.path)
    return Entry(location, row.path, row.study, location, row.carried)


def _named(entries: list[Entry]) -> Iterator[Entry]:
    """Name the folders: as the manifest does, else as ``lnfast run``, but never as a manifest named another study."""
    taken = {folder_name(entry.name).casefold() for entry in entries if entry.name is not None}
    # Of a file that was given by its bare name, run does not look at the folder either.
    sources = [entry.source for entry in entries if entry.name is None]
    names = iter(folder_names(sources))
    for entry in entries:
        name = next(names) if entry.name is None else folder_name(entry.name)
        if entry.name is None and name is not None and name.casefold() in taken:
            raise UsageError("bad-manifest", f"two studies would be written to {name}; name both in the manifest")
        yield replace(entry, name=name)


def _studies_in(path: Path, out: Path) -> Iterator[Path]:
    """Yield a file, or the studies of a folder; what does not exist is yielded too, to be refused by name."""
    if not path.is_dir():
        yield path
        return
    if (path / "dataset.json").is_file() and (path / "imagesTr").is_dir():
        path = path / "imagesTr"  # nnU-Net's raw layout: the labels are no studies
    files, folders = _listed(path)
    if any(is_dicom(file) for file in files if not _is_nifti(file.name)):
        yield path
        return
    yield from (file for file in files if _is_nifti(file.name))
    for folder in folders:
        if _same(folder, out):
            continue
        kind = _kind_of(folder)
        if kind == "dicom":
            yield folder
        elif kind == "nifti":
            yield from _studies_in(folder, out)


def _kind_of(folder: Path) -> Literal["dicom", "nifti"] | None:
    """Return what the first image in a folder is, at whatever depth: an archive's folder is of one kind."""
    files, folders = _listed(folder)
    for file in files:
        if _is_nifti(file.name):
            return "nifti"
        if is_dicom(file):
            return "dicom"
    return next((kind for kind in map(_kind_of, folders) if kind is not None), None)


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders in a folder by name, without hidden ones; no link to a folder is followed.

    Raises:
        UsageError: ``no-studies`` where the system does not list it: what it holds would be missed without a word.
    """
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing)
    except OSError as error:
        raise UsageError("no-studies", f"{folder} cannot be listed: {error.strerror}") from error
    visible = [(folder / name, is_folder) for name, is_folder in entries if not name.startswith(".")]
    files = [path for path, is_folder in visible if not is_folder and not path.is_dir()]
    return files, [path for path, is_folder in visible if is_folder]


def _same(folder: Path, out: Path) -> bool:
    return os.path.abspath(folder) == os.path.abspath(out) or (out.exists() and folder.samefile(out))


def _is_nifti(name: str) -> bool:
    return name.lower().endswith(_NIFTI)
