"""A DICOM file that is to be sent as it lies on the disk."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError
from lnfast.node.transport.messages import is_uid
from lnfast.study import shown
from lnfast.study.dicom.peek import PREAMBLE, DamagedError, read_meta

_SOP_CLASS, _SOP_UID, _SYNTAX = 0x00020002, 0x00020003, 0x00020010
_META_AT_MOST = 64 * 1024


@dataclass(frozen=True)
class InstanceFile:
    """A file of the DICOM file format (PS3.10).

    Attributes:
        path: of the file.
        sop_class: UID of its SOP class.
        sop_uid: UID of the instance.
        syntax: UID of its transfer syntax.
        offset: where its data set begins, bytes.
    """

    path: Path
    sop_class: str
    sop_uid: str
    syntax: str
    offset: int


def read_instance_file(path: Path) -> InstanceFile:
    """Read the file meta information of a file.

    Raises:
        StudyError: ``not-dicom`` for a file without the mark of the format, ``damaged`` where its meta information does
            not say what it is.
        OSError: the system does not let it be read.
    """
    with open(path, "rb") as file:
        head = file.read(_META_AT_MOST)
        size = file.seek(0, 2)
    name = shown(path.name)
    if head[PREAMBLE - 4 : PREAMBLE] != b"DICM":
        raise StudyError("not-dicom", f"{name}: it is no DICOM file: it lacks the mark DICM at byte 128")
    try:
        elements, offset = read_meta(head)
        sop_class, sop_uid, syntax = (_uid(elements[tag]) for tag in (_SOP_CLASS, _SOP_UID, _SYNTAX))
    except (DamagedError, KeyError, ValueError, struct.error):
        raise StudyError(
            "damaged", f"{name}: its file meta information does not say its SOP class, UID and transfer syntax"
        ) from None
    if offset >= size:
        raise StudyError("damaged", f"{name}: it ends where its data set should begin")
    return InstanceFile(path, sop_class, sop_uid, syntax, offset)


def _uid(value: bytes) -> str:
    text = value.decode("ascii").rstrip("\0 ")
    if not is_uid(text):
        raise ValueError
    return text
