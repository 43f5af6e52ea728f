"""DICOM files of any SOP class and transfer syntax, with a data set that nobody who decodes it would write again so."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom
from pydicom.dataset import FileMetaDataset

from lnfast.node.client.instance_file import InstanceFile, read_instance_file

MR, ENHANCED_MR, SEGMENTATION, REPORT = (
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("4", "4.1", "66.4", "88.33")
)
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
JPEG_LS, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"


def write_instance(
    path: Path, sop_class: str = MR, syntax: str = EXPLICIT, *, size: int = 1000, uid: str | None = None
) -> InstanceFile:
    """Write a file whose data set has ``size`` bytes of pixels, a sequence of undefined length, and padding."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid or pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = "1.2.3"
    explicit = syntax != IMPLICIT
    data = b"".join(
        (
            _element(0x0008, 0x0016, b"UI", _even(sop_class.encode(), b"\0"), explicit),
            _element(0x0008, 0x0018, b"UI", _even(str(meta.MediaStorageSOPInstanceUID).encode(), b"\0"), explicit),
            _element(0x0008, 0x0060, b"CS", b"MR", explicit),
            _undefined_sequence(explicit),
            _element(0x0010, 0x0010, b"PN", b"SECRET^NAME ", explicit),
            _element(0x0020, 0x000D, b"UI", b"1.2.3.4.5.6.7.8.9\0", explicit),
            _element(0x0020, 0x000E, b"UI", b"1.2.3.4.5.6.7.8.9.1\0", explicit),
            _element(0x7FE0, 0x0010, b"OW", bytes(range(256)) * (size // 256) + bytes(size % 256), explicit),
            _element(0xFFFC, 0xFFFC, b"OB", bytes(14), explicit),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(bytes(128) + b"DICM")
        pydicom.filewriter.write_file_meta_info(file, meta)
        file.write(data)
    return read_instance_file(path)


def data_set(path: Path) -> bytes:
    """The bytes behind the file meta information."""
    file = read_instance_file(path)
    return path.read_bytes()[file.offset :]


def _element(group: int, element: int, vr: bytes, value: bytes, explicit: bool) -> bytes:
    tag = struct.pack("<HH", group, element)
    if not explicit:
        return tag + struct.pack("<I", len(value)) + value
    if vr in (b"OB", b"OW"):
        return tag + vr + bytes(2) + struct.pack("<I", len(value)) + value
    return tag + vr + struct.pack("<H", len(value)) + value


def _undefined_sequence(explicit: bool) -> bytes:
    item = _element(0x0008, 0x0100, b"SH", b"A ", explicit)
    head = struct.pack("<HH", 0x0008, 0x1032) + (b"SQ\0\0" if explicit else b"") + b"\xff\xff\xff\xff"
    return head + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + item + b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"


def _even(data: bytes, padding: bytes) -> bytes:
    return data + padding * (len(data) % 2)
