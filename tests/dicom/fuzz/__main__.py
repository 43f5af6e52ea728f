"""Fuzz the fast header reader: ``python tests/dicom/fuzz CORPUS [libFuzzer's options]``. Needs atheris.

Whatever the bytes are, reading ends in a header, in "for pydicom", or in "damaged", in time and memory that the file's
size bounds. What libFuzzer keeps in the corpus folder can be added to ``corpus/``, which the tests run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports():
    from dicom_fuzz import read_header


def read(data: bytes) -> None:
    """One input of libFuzzer's."""
    read_header(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
