"""Which files are to be sent: those that are named, and those that lie in folders that are named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lnfast.errors import LnfastError, StudyError
from lnfast.node.client.instance_file import InstanceFile, read_instance_file

_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of the file DICOMDIR, which is no object of an archive


@dataclass
class Collection:
    """What was there.

    Attributes:
        files: each once, in the order of the paths, and in folders in that of their names.
        failures: what cannot be sent, and why.
        passed_over: how many files in folders are no DICOM.
    """

    files: list[InstanceFile] = field(default_factory=list)
    failures: list[tuple[Path, LnfastError]] = field(default_factory=list)
    passed_over: int = 0


def collect(paths: Iterable[Path]) -> Collection:
    """Read the file meta information of files, and of all files in folders and their subfolders."""
    collection, seen = Collection(), set[Path]()
    for path in paths:
        if not path.is_dir():
            _add(path, collection, seen)
            continue
        before = len(seen) + len(collection.failures)
        for below in _files_below(path, collection):
            _add(below, collection, seen, in_folder=True)
        if len(seen) + len(collection.failures) == before:
            collection.failures.append((path, StudyError("not-dicom", "no file in this folder is DICOM")))
    return collection


def _add(path: Path, collection: Collection, seen: set[Path], *, in_folder: bool = False) -> None:
    try:
        if path.exists() and not path.is_file():
            raise StudyError("not-a-file", "it is a pipe or a device; give a file or a folder")
        file = read_instance_file(path)
    except FileNotFoundError:
        collection.failures.append((path, StudyError("not-found", "no file has this name")))
    except OSError as error:
        collection.failures.append((path, unreadable(error)))
    except StudyError as error:
        if in_folder and error.code in ("not-dicom", "not-a-file"):
            collection.passed_over += 1
        else:
            collection.failures.append((path, error))
    else:
        place = path.resolve()
        if in_folder and file.sop_class == _MEDIA_DIRECTORY:
            collection.passed_over += 1
        elif place not in seen:
            seen.add(place)
            collection.files.append(file)


def _files_below(folder: Path, collection: Collection) -> Iterator[Path]:
    def note(error: OSError) -> None:
        collection.failures.append((Path(error.filename), unreadable(error)))

    for here, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        yield from (Path(here, name) for name in sorted(names))


def unreadable(error: OSError) -> StudyError:
    """The error of a file that the system does not let be read."""
    return StudyError("unreadable", f"cannot be read: {error.strerror or type(error).__name__}")
