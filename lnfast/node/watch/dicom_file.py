"""Which instance a file is, found from its first bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lnfast.errors import StudyError
from lnfast.node.transport import contexts
from lnfast.node.transport.dataset_head import TooShortError, UnreadableError, read_uids
from lnfast.study.dicom import tags
from lnfast.study.dicom.peek import PREAMBLE, DamagedError, read_meta

_HEADS = (64 << 10, 4 << 20)  # bytes; the UIDs stand before the pixels
_META_SOP_CLASS_UID = 0x00020002
_OTHER_ENCODINGS = ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")  # big endian, deflated
_KEPT = frozenset(sop_class.uid for sop_class in contexts.KEPT)


@dataclass(frozen=True)
class Identity:
    """UIDs of an instance; never printed."""

    study_uid: str
    sop_uid: str


class NotDicomError(Exception):
    """The file is no DICOM file."""


class OtherObjectError(Exception):
    """The file is a DICOM object and no MR image."""


def identify(descriptor: int) -> Identity:
    """Read which MR image an open file is.

    Raises:
        NotDicomError, OtherObjectError: it is none.
        StudyError: ``damaged`` or ``unsupported-transfer-syntax``: it may be one, and cannot be read.
        OSError: of the file system.
    """
    data = os.pread(descriptor, _HEADS[0], 0)
    if data[PREAMBLE - 4 : PREAMBLE] != b"DICM":
        raise NotDicomError
    try:
        meta, start = read_meta(data)
    except DamagedError:
        raise _damaged() from None
    if tags.text(meta, _META_SOP_CLASS_UID) not in ("", *_KEPT):
        raise OtherObjectError
    syntax = tags.text(meta, tags.TRANSFER_SYNTAX_UID)
    if syntax in _OTHER_ENCODINGS:
        raise StudyError("unsupported-transfer-syntax", "a file is big endian or deflated; export it as little endian")
    uids = _uids(descriptor, start, explicit=syntax != contexts.IMPLICIT_LITTLE_ENDIAN)
    if uids[tags.SOP_CLASS_UID] not in _KEPT:
        raise OtherObjectError
    return Identity(uids[tags.STUDY_UID], uids[tags.SOP_INSTANCE_UID])


def _uids(descriptor: int, start: int, *, explicit: bool) -> dict[int, str]:
    for size in _HEADS:
        data = os.pread(descriptor, size, start)
        try:
            return read_uids(data, explicit=explicit)
        except TooShortError:
            if len(data) < size:
                break
        except UnreadableError:
            break
    raise _damaged()


def _damaged() -> StudyError:
    return StudyError("damaged", "a DICOM file does not say which instance it is; export it again")
