"""Fuzz the fast header reader: ``python tests/dicom/fuzz CORPUS [libFuzzer's options]``. Needs atheris.

Whatever the bytes are, reading ends in a header, in "for pydicom", or in "damaged", in time and memory that the file's
size bounds. What libFuzzer keeps in the corpus folder can be added to ``corpus/``, which the tests run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from lnfast.study.dicom.frames import frame_of
    from lnfast.study.dicom.peek import PREAMBLE, DamagedError, NotPlainError, peek, read_meta


def read(data: bytes) -> None:
    """What `lnfast.study.dicom.scan` does with a file's bytes."""
    if len(data) < PREAMBLE:
        data = data.ljust(PREAMBLE, b"\0")
    try:
        header = peek(data, read_meta(data)[1])
    except (NotPlainError, DamagedError):
        return
    frame = frame_of(Path("fuzz"), 0, header.offset, header.elements)
    assert header.offset + header.size <= len(data)
    assert frame.b_value is None or 0 <= frame.b_value < 1e5


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
