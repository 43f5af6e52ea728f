"""What a folder holds: the frames of its MR images. Every file is read once, whatever it is called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError
from lnfast.study.dicom import tags
from lnfast.study.dicom.frames import SOP_CLASSES, Frame, frame_of
from lnfast.study.dicom.full import LOSSY_SYNTAXES, SYNTAXES, check_size, read_frames
from lnfast.study.dicom.peek import EXPLICIT_LITTLE_ENDIAN, PREAMBLE, DamagedError, NotPlainError, peek, read_meta

MOST_FILES = 4096
MOST_FILE_BYTES = 64 << 20
MOST_STUDY_BYTES = 512 << 20
_META_SOP_CLASS_UID = 0x00020002
_AT_ONCE = 1 << 20  # bytes; of a larger file the first are looked at, and of what is no MR image no more is read
_HEAD_BYTES = 4096


Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Contents:
    """What was read.

    Attributes:
        frames: of all MR images.
        others: how many DICOM files are no MR image.
        not_dicom: how many files are no DICOM.
        stamps: size, time of the last change and number of each file before it was read; `check_unchanged` compares.
    """

    frames: tuple[Frame, ...]
    others: int
    not_dicom: int
    stamps: dict[Path, Stamp]


def scan(root: Path) -> Contents:
    """Read the headers of all files in a folder and its folders, or of one file.

    Raises:
        StudyError: ``not-found``, ``not-a-file``, ``unreadable``, ``too-large``, ``truncated``, ``damaged``,
            ``lossy`` or ``unsupported-transfer-syntax``: an MR image that cannot be read may be a slice of the stack.
        BackendError: ``backend-missing`` where pydicom is needed for a file.
    """
    frames: list[Frame] = []
    stamps: dict[Path, Stamp] = {}
    others = not_dicom = 0
    total = 0
    for path in list(files_below(root)):  # too many are refused before any is read
        try:
            stamps[path] = _stamp(path)
            data = _content(path)
            if data is None:
                not_dicom += 1
                continue
            frames_here = _frames(path, data) if data else None
        except DamagedError as error:
            raise StudyError("truncated", "a DICOM file ends before what it promises; send it again") from error
        if frames_here is None:
            others += 1
            continue
        frames += frames_here
        total += len(data)
        if total > MOST_STUDY_BYTES:
            raise StudyError("too-large", f"the MR images have more than {MOST_STUDY_BYTES} bytes; give one series")
    return Contents(tuple(frames), others, not_dicom, stamps)


def check_unchanged(contents: Contents, paths: Iterable[Path]) -> None:
    """Refuse where a file is another than when its header was read: its pixels may be of another image.

    Args:
        contents: of `scan`.
        paths: of the files that were read since.

    Raises:
        StudyError: ``source-changed``.
    """
    if any(_stamp(path) != contents.stamps[path] for path in set(paths)):
        raise StudyError("source-changed", "an image changed while it was read; wait until all are written, then run")


def _stamp(path: Path) -> Stamp:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # reading it says why
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ino


def is_dicom(path: Path) -> bool:
    """Whether a path is to be read as DICOM: a folder, or a file with the signature."""
    try:
        if path.is_dir():
            return True
        if not path.is_file():  # a pipe would never end
            return False
        with open(path, "rb", buffering=0) as file:
            return file.read(PREAMBLE)[PREAMBLE - 4 :] == b"DICM"
    except (OSError, ValueError):
        return False


def files_below(root: Path) -> Iterator[Path]:
    """Ordinary files below a folder, in the order of their names; the order changes no result. A file is itself.

    Raises:
        StudyError: ``unreadable``, ``too-large`` for more than `MOST_FILES`.
    """
    if not root.is_dir():
        if root.exists() and not root.is_file():  # a pipe would never end
            raise StudyError("not-a-file", "is not an ordinary file, wanted a folder of DICOM files")
        yield root
        return
    count = 0
    folders = [root]
    while folders:
        try:
            entries = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name)
        except OSError as error:
            raise StudyError("unreadable", f"a folder cannot be read ({os.strerror(error.errno or 0)})") from error
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif _is_file(entry):
                count += 1
                if count > MOST_FILES:
                    raise StudyError("too-large", f"the folder holds more than {MOST_FILES} files; give one series")
                yield Path(entry.path)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None where it is no DICOM, nothing where it says at its start that it is no MR image.

    Raises:
        StudyError: as `scan`.
        DamagedError: as `read_meta`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _AT_ONCE:
                head = file.read(_HEAD_BYTES)
                if head[PREAMBLE - 4 : PREAMBLE] != b"DICM":
                    return None
                if _is_other(read_meta(head)[0]):
                    return b""
                if size > MOST_FILE_BYTES:
                    raise StudyError("too-large", f"a DICOM file has {size} bytes, wanted at most {MOST_FILE_BYTES}")
                file.seek(0)
            data = file.read()
            return data if data[PREAMBLE - 4 : PREAMBLE] == b"DICM" else None
    except FileNotFoundError as error:
        raise StudyError("not-found", "no such file or folder; check the path") from error
    except OSError as error:
        raise StudyError("unreadable", f"a file cannot be read ({os.strerror(error.errno or 0)})") from error


def _is_other(meta: dict[int, bytes]) -> bool:
    """Whether the meta information says that a file is no MR image; where it does not say, its elements do."""
    sop_class = tags.text(meta, _META_SOP_CLASS_UID)
    return bool(sop_class) and sop_class not in SOP_CLASSES


def _frames(path: Path, data: bytes) -> list[Frame] | None:
    """The frames of a DICOM file; None where it is no MR image."""
    meta, at = read_meta(data)
    if not meta:
        raise StudyError("damaged", "a DICOM file does not say how it is stored; send it again")
    if _is_other(meta):
        return None
    syntax = tags.text(meta, tags.TRANSFER_SYNTAX_UID)
    if syntax in LOSSY_SYNTAXES:
        raise StudyError("lossy", "the images were compressed with loss; send them uncompressed")
    if syntax not in SYNTAXES:
        raise StudyError(
            "unsupported-transfer-syntax",
            "the images are stored in a transfer syntax that is not read (deflated, big endian or unknown); send them "
            "as explicit VR little endian",
        )
    if syntax == EXPLICIT_LITTLE_ENDIAN:
        try:
            header = peek(data, at)
        except NotPlainError:
            pass
        else:
            if tags.text(header.elements, tags.SOP_CLASS_UID) not in SOP_CLASSES:
                return None
            frame = frame_of(path, 0, header.offset, header.elements)
            check_size(header.size, frame.pixels)
            return [frame]
    frames = read_frames(path)
    return frames if frames and frames[0].sop_class in SOP_CLASSES else None
