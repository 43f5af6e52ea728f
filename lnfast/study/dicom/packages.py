"""The packages that DICOM needs: pydicom to read what is not plain, its decoders, highdicom to write."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lnfast.optional import Package

PYDICOM = Package("reading this DICOM file", "pydicom", ("pydicom",), "dicom")
HIGHDICOM = Package("writing seg.dcm and sr.dcm", "highdicom", ("highdicom",), "dicom")
# What pydicom needs for the pixels of each compression; RLE it decodes by itself.
DECODERS: dict[str, tuple[Package, ...]] = {
    "RLE": (),
    "JPEG-LS": (Package("decoding JPEG-LS", "jpeg_ls", ("pyjpegls",), "dicom"),),
    "JPEG 2000": (
        Package("decoding JPEG 2000", "pylibjpeg", ("pylibjpeg",), "dicom"),
        Package("decoding JPEG 2000", "openjpeg", ("pylibjpeg-openjpeg",), "dicom"),
    ),
}

_lock = threading.Lock()
_inside = 0
_before: warnings.catch_warnings[None] | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what pydicom and highdicom have to say: their warnings quote the header, which may name a patient.

    ``warnings.catch_warnings`` alone does not do where a study is read while another is written: the filters are of the
    whole process, and the first thread to leave would put them back for the other as well.
    """
    global _inside, _before
    with _lock:
        if not _inside:
            _before = warnings.catch_warnings()
            _before.__enter__()
            warnings.simplefilter("ignore")
            for name in ("pydicom", "highdicom"):
                logger = logging.getLogger(name)
                if not logger.handlers:  # else logging's own last resort prints
                    logger.addHandler(logging.NullHandler())
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _before is not None:
                _before.__exit__(None, None, None)
                _before = None
