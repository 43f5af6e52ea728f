"""What is fuzzed: the reading of a plain file's header, as `lnfast.study.dicom.scan` does it."""

from __future__ import annotations

from pathlib import Path

from lnfast.study.dicom.frames import frame_of
from lnfast.study.dicom.peek import PREAMBLE, DamagedError, NotPlainError, peek, read_meta


def read_header(data: bytes) -> str:
    """Read a file's bytes and return how that ended; whatever else happens is a finding."""
    if len(data) < PREAMBLE:
        data = data.ljust(PREAMBLE, b"\0")
    try:
        header = peek(data, read_meta(data)[1])
    except NotPlainError:
        return "for pydicom"
    except DamagedError:
        return "damaged"
    frame = frame_of(Path("fuzz"), 0, header.offset, header.elements)
    assert header.offset + header.size <= len(data)
    assert frame.b_value is None or 0 <= frame.b_value < 1e5
    return "header"
