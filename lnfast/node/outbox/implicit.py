"""A file in the default transfer syntax of DICOM, for a target that takes no other (PS3.5 10.1)."""

from __future__ import annotations

from pathlib import Path

from lnfast.node.transport.contexts import IMPLICIT_LITTLE_ENDIAN
from lnfast.study.dicom.packages import PYDICOM, quiet


def write_implicit(source: Path, target: Path) -> None:
    """Write a file in explicit VR little endian again in implicit VR little endian: the same each time.

    Args:
        source: file whose pixels are not compressed.
        target: file that is written.

    Raises:
        BackendError: ``backend-missing`` without pydicom.
        OSError: a file cannot be read or written.
        Exception: whatever pydicom raises of a damaged file; its text may quote values.
    """
    pydicom = PYDICOM.load()
    with quiet():
        dataset = pydicom.dcmread(source)
        dataset.file_meta.TransferSyntaxUID = IMPLICIT_LITTLE_ENDIAN
        dataset.save_as(target, enforce_file_format=True)
