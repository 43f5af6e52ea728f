"""What a compressed frame says of its own size, looked at before a decoder believes it.

Decoders take memory for the size in the codestream and not for that in the DICOM header: 60000 x 60000 pixels, which a
hundred bytes may claim, are 4 GB.
"""

from __future__ import annotations

import struct

from lnfast.study.dicom.frames import Pixels

_JPEG_2000 = b"\xff\x4f\xff\x51"
_JPEG = b"\xff\xd8"
_FRAME_MARKERS = {0xC3, 0xF7}  # lossless JPEG and JPEG-LS
_LARGEST_OVERHEAD = 4096  # bytes of headers and tables


def has_size_of(frame: bytes, pixels: Pixels) -> bool:
    """Whether a compressed frame is of the size that the header says, as far as its first bytes tell.

    Args:
        frame: in JPEG 2000, JPEG-LS, lossless JPEG or RLE.
        pixels: what the header says.
    """
    if len(frame) > 2 * pixels.size + _LARGEST_OVERHEAD:
        return False
    try:
        if frame[:4] == _JPEG_2000:
            right, lower, left, upper = struct.unpack_from(">4I", frame, 8)
            (components,) = struct.unpack_from(">H", frame, 40)
            return (lower - upper, right - left, components) == (pixels.rows, pixels.columns, pixels.samples)
        if frame[:2] == _JPEG:
            return _jpeg_size(frame) == (pixels.rows, pixels.columns, pixels.samples)
        # RLE: how many segments, each a byte of every pixel.
        (segments,) = struct.unpack_from("<I", frame)
        return bool(segments == pixels.samples * pixels.bits_allocated // 8)
    except struct.error:
        return False


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG or JPEG-LS frame; zeros where its segments lead nowhere."""
    at = 2
    while True:
        mark, marker, length = struct.unpack_from(">BBH", frame, at)
        if mark != 0xFF or length < 2:
            return 0, 0, 0
        if marker in _FRAME_MARKERS:
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            return rows, columns, components
        at += 2 + length
