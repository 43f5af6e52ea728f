"""The wanted elements of a plain DICOM file, in one pass over its bytes.

Most scanners write explicit VR little endian with native pixels, one frame a file, and of these a study has dozens:
pydicom takes 1.7 ms for each and this walk 0.1. Whatever is not of that form is left to pydicom
(`lnfast.study.dicom.enhanced`), against which tests hold every element and every pixel.

Nothing in a file is trusted: each length is checked against the bytes that are there, and items nest `_DEEPEST` deep at
most.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lnfast.study.dicom import tags

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
PREAMBLE = 132  # bytes, of which the last four are DICM
_HEAD = struct.Struct("<HH2sH")
_LONG = struct.Struct("<I")
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONGEST_VALUE = 1 << 16
_DEEPEST = 16


class NotPlainError(Exception):
    """The file is not of the form that is read here. It may be fine."""


class DamagedError(Exception):
    """The bytes end before what their lengths promise."""


@dataclass(frozen=True)
class Header:
    """What was read of a plain file.

    Attributes:
        elements: tag to value, private ones as stored.
        offset: of the pixels, bytes.
        size: of the pixels, bytes.
    """

    elements: dict[int, bytes]
    offset: int
    size: int


def read_meta(data: bytes | memoryview) -> tuple[dict[int, bytes], int]:
    """The file meta information, which is always explicit little endian, and where it ends.

    Raises:
        DamagedError: it is cut short or not made of elements.
    """
    elements: dict[int, bytes] = {}
    at = PREAMBLE
    while at + 8 <= len(data) and data[at : at + 2] == b"\x02\x00":
        tag, _, start, length = _element(data, at)
        if length == _UNDEFINED:
            raise DamagedError
        elements[tag] = bytes(data[start : start + length])
        at = start + length
    return elements, at


def peek(data: bytes, at: int) -> Header:
    """Read the elements of `lnfast.study.dicom.tags` up to the pixels of a file in explicit VR little endian.

    Args:
        data: the whole file.
        at: where the file meta information ends.

    Raises:
        NotPlainError: for pydicom: several frames, functional groups, no native pixels.
        DamagedError: a length leads beyond the end of the file.
    """
    elements: dict[int, bytes] = {}
    end = len(data)
    while at < end:
        tag, vr, start, length = _element(data, at)
        if tag == tags.PIXEL_DATA:
            if length == _UNDEFINED:
                raise NotPlainError
            if tags.integer(elements, tags.NUMBER_OF_FRAMES, 1) != 1:
                raise NotPlainError
            return Header(elements, start, length)
        if length == _UNDEFINED:
            at = _end_of_sequence(data, start, vr, 0)
            if tag == tags.MR_DIFFUSION:
                raise NotPlainError
            continue
        if vr == b"SQ":
            if tag in (tags.MR_DIFFUSION, tags.SHARED_GROUPS, tags.FRAME_GROUPS):
                raise NotPlainError
        elif length <= _LONGEST_VALUE and tags.is_wanted(tag):
            elements[tag] = data[start : start + length]
        at = start + length
    raise NotPlainError  # no pixels: not an image


def _element(data: bytes | memoryview, at: int) -> tuple[int, bytes, int, int]:
    """Tag, value representation, where the value starts, and its length, which ends within the data or is undefined."""
    try:
        group, element, vr, length = _HEAD.unpack_from(data, at)
        start = at + 8
        if vr in _LONG_VRS:
            (length,) = _LONG.unpack_from(data, start)
            start += 4
        elif vr not in _SHORT_VRS:
            raise DamagedError
    except struct.error as error:
        raise DamagedError from error
    if length != _UNDEFINED and start + length > len(data):
        raise DamagedError
    return group << 16 | element, vr, start, length


def _end_of_sequence(data: bytes, at: int, vr: bytes, depth: int) -> int:
    """Where a sequence of undefined length ends."""
    if vr != b"SQ" or depth > _DEEPEST:
        raise NotPlainError  # unknown values of undefined length are implicit inside
    while True:
        tag, length, at = _delimiter(data, at)
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise DamagedError
        at = at + length if length != _UNDEFINED else _end_of_item(data, at, depth)


def _end_of_item(data: bytes, at: int, depth: int) -> int:
    while True:
        tag, _, after = _delimiter(data, at)
        if tag == _ITEM_END:
            return after
        _, vr, start, length = _element(data, at)
        at = start + length if length != _UNDEFINED else _end_of_sequence(data, start, vr, depth + 1)


def _delimiter(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag and length of an item's or sequence's own element, and where it ends."""
    try:
        group, element, length = struct.unpack_from("<HHI", data, at)
    except struct.error as error:
        raise DamagedError from error
    tag = group << 16 | element
    if tag == _ITEM and length != _UNDEFINED and at + 8 + length > len(data):
        raise DamagedError
    return tag, length, at + 8
