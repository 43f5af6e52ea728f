"""The DICOM elements that reading an MR series takes, and how their values are decoded.

An element's value is kept as its bytes, little endian, and decoded by the tag alone: anonymisers and PACS write known
elements with the value representation OB or UN, and implicit transfer syntaxes write none at all. A value that cannot
be decoded is no value.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

Elements = Mapping[int, bytes]
"""Tag, as ``group << 16 | element``, to the bytes of its value."""

TRANSFER_SYNTAX_UID = 0x00020010
IMAGE_TYPE = 0x00080008
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MANUFACTURER = 0x00080070
SERIES_DESCRIPTION = 0x0008103E
FRAME_TYPE = 0x00089007
COMPLEX_COMPONENT = 0x00089208
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
SEQUENCE_NAME = 0x00180024
PROTOCOL_NAME = 0x00181030
DIFFUSION_DIRECTIONALITY = 0x00189075
DIFFUSION_B_VALUE = 0x00189087
GRADIENT_ORIENTATION = 0x00189089
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
SERIES_NUMBER = 0x00200011
IMAGE_POSITION = 0x00200032
IMAGE_ORIENTATION = 0x00200037
FRAME_OF_REFERENCE_UID = 0x00200052
CONCATENATION_UID = 0x00209161
CONCATENATION_NUMBER = 0x00209162
CONCATENATION_TOTAL = 0x00209163
SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC = 0x00280004
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
PIXEL_SPACING = 0x00280030
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
PIXEL_REPRESENTATION = 0x00280103
RESCALE_INTERCEPT = 0x00281052
RESCALE_SLOPE = 0x00281053
RESCALE_TYPE = 0x00281054
LOSSY_COMPRESSION = 0x00282110
PIXEL_DATA = 0x7FE00010

MR_DIFFUSION = 0x00189117
SHARED_GROUPS = 0x52009229
FRAME_GROUPS = 0x52009230

# Private elements are known by the block that their creator reserved: group and last byte of the element here.
SIEMENS_B_VALUE = 0x0019000C
GE_DIRECTION = 0x0021005A
GE_COLLAPSE_FLAG = 0x00430030
GE_B_VALUE = 0x00430039
UIH_B_VALUE = 0x00650009
PHILIPS_B_VALUE = 0x20010003
PHILIPS_DIRECTION = 0x20010004
PHILIPS_GRADIENT = (0x200500B0, 0x200500B1, 0x200500B2)

PRIVATE = {
    SIEMENS_B_VALUE: ("SIEMENS MR HEADER", "SIEMENS"),
    GE_DIRECTION: ("GEMS_RELA_01", "GE"),
    GE_COLLAPSE_FLAG: ("GEMS_PARM_01", "GE"),
    GE_B_VALUE: ("GEMS_PARM_01", "GE"),
    UIH_B_VALUE: ("Image Private Header", "UIH"),
    PHILIPS_B_VALUE: ("Philips Imaging DD 001", "PHILIPS"),
    PHILIPS_DIRECTION: ("Philips Imaging DD 001", "PHILIPS"),
    **dict.fromkeys(PHILIPS_GRADIENT, ("Philips MR Imaging DD 001", "PHILIPS")),
}
"""Private element -> its creator, and the beginning of the manufacturer where the creator was removed."""

PUBLIC = frozenset(value for name, value in list(globals().items()) if name.isupper() and isinstance(value, int))
PUBLIC -= {PIXEL_DATA, MR_DIFFUSION, SHARED_GROUPS, FRAME_GROUPS, *PRIVATE}
PRIVATE_GROUPS = frozenset(tag >> 16 for tag in PRIVATE)

_BINARY = {
    DIFFUSION_B_VALUE: "d",
    GRADIENT_ORIENTATION: "d",
    PHILIPS_B_VALUE: "f",
    **dict.fromkeys(PHILIPS_GRADIENT, "f"),
    GE_DIRECTION: "i",
    GE_COLLAPSE_FLAG: "h",
    UIH_B_VALUE: "d",
    **dict.fromkeys((SAMPLES_PER_PIXEL, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT), "H"),
    **dict.fromkeys((CONCATENATION_NUMBER, CONCATENATION_TOTAL), "H"),
    PIXEL_REPRESENTATION: "H",
}
_LONGEST_NUMBER = 64  # bytes; a DS has 16


def is_wanted(tag: int) -> bool:
    """Whether an element is read at all: a public one of this module, a private creator, or what may be one of ours."""
    group, element = tag >> 16, tag & 0xFFFF
    if group in PRIVATE_GROUPS:
        return element <= 0xFF or (group << 16 | element & 0xFF) in PRIVATE
    return tag in PUBLIC


def text(elements: Elements, tag: int) -> str:
    """The value as text without padding; empty where there is none."""
    return elements.get(tag, b"").decode("latin-1").strip(" \0")


def words(elements: Elements, tag: int) -> tuple[str, ...]:
    """The values of a multi-valued text."""
    return tuple(word.strip(" \0") for word in text(elements, tag).split("\\"))


def numbers(elements: Elements, tag: int) -> tuple[float, ...]:
    """The numbers of an element: binary ones by the tag's type, else decimal text. Empty where any is no number.

    Args:
        elements: as read.
        tag: of a number; where a binary one was written as text, its text is read.
    """
    value = elements.get(tag)
    if not value:
        return ()
    code = _BINARY.get(tag)
    if code is not None:
        size = struct.calcsize(code)
        if len(value) % size == 0 and not (size == 8 and _is_decimal_text(value)):
            return tuple(map(float, struct.unpack(f"<{len(value) // size}{code}", value)))
        if not _is_decimal_text(value):
            return ()
    parts = value.decode("latin-1").strip(" \0").split("\\")
    if any(len(part) > _LONGEST_NUMBER for part in parts):
        return ()
    try:
        result = tuple(float(part) for part in parts)
    except ValueError:
        return ()
    return result if all(map(math.isfinite, result)) else ()


def number(elements: Elements, tag: int) -> float | None:
    """The first number of an element; None where there is none."""
    values = numbers(elements, tag)
    return values[0] if values else None


def integer(elements: Elements, tag: int, default: int = -1) -> int:
    """The first number of an element where it is whole, else ``default``."""
    value = number(elements, tag)
    return default if value is None or not math.isfinite(value) or value != int(value) else int(value)


def resolve_private(elements: Mapping[int, bytes]) -> dict[int, bytes]:
    """The same elements with private ones under the tags of `PRIVATE`, where their creator says that they are these.

    Where an anonymiser removed the creator, block 0x10 of that manufacturer is taken.
    """
    resolved = {tag: value for tag, value in elements.items() if tag >> 16 not in PRIVATE_GROUPS}
    manufacturer = text(elements, MANUFACTURER).upper()
    for tag, value in elements.items():
        group, block = tag >> 16, tag >> 8 & 0xFF
        known = PRIVATE.get(group << 16 | tag & 0xFF)
        if group not in PRIVATE_GROUPS or not block or known is None:
            continue
        creator = text(elements, group << 16 | block)
        if creator == known[0] or (not creator and block == 0x10 and manufacturer.startswith(known[1])):
            resolved[group << 16 | tag & 0xFF] = value
    return resolved


def _is_decimal_text(value: bytes) -> bool:
    return all(letter in b"0123456789+-.eE\\ \0" for letter in value) and value.strip(b" \0") != b""
