"""The UIDs of a data set as it arrived, from its first elements, for either of the encodings that are negotiated.

`lnfast.study.dicom.peek` reads plain images of one encoding and leaves the rest to pydicom. Here every instance counts,
nothing of its pixels, and it comes from whoever may connect: pydicom reads a sequence of undefined length to its end,
allocates what a length says, and takes seconds for a file made of a million tiny elements.
"""

from __future__ import annotations

import struct

from lnfast.study.dicom import tags

WANTED = (tags.SOP_CLASS_UID, tags.SOP_INSTANCE_UID, tags.STUDY_UID)
_LAST = tags.STUDY_UID
_HEAD = struct.Struct("<HHI")
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 16
_MOST_ELEMENTS = 100_000
_MOST_VALUE = 256


class UnreadableError(Exception):
    """The bytes are no data set, or no study, class or instance stands in it."""


class TooShortError(Exception):
    """The bytes end before the last wanted element; the data set may go on."""


def read_uids(data: bytes, *, explicit: bool) -> dict[int, str]:
    """Read `WANTED` from the beginning of a data set in little endian.

    Args:
        data: from its first byte.
        explicit: whether elements say their value representation.

    Raises:
        UnreadableError: it is no data set, or an element is missing, empty or too long.
        TooShortError: more of it is needed.
    """
    walk = _Walk(data, explicit)
    found: dict[int, str] = {}
    before = -1
    while len(found) < len(WANTED):
        tag, vr, length = walk.element()
        if tag > _LAST or tag <= before:
            raise UnreadableError
        before = tag
        if tag in WANTED:
            if not 0 < length <= _MOST_VALUE:
                raise UnreadableError
            found[tag] = walk.value(length).decode("latin-1").rstrip("\0 ")
        else:
            walk.skip(vr, length)
    return found


class _Walk:
    """A position in a data set.

    Args:
        data: of it.
        explicit: at the top; what is unknown and of undefined length is implicit inside.
    """

    def __init__(self, data: bytes, explicit: bool) -> None:
        self._data, self._explicit = data, explicit
        self._at = 0
        self._count = 0

    def element(self) -> tuple[int, bytes, int]:
        """Read the head of an element: tag, value representation (empty where it is implicit), length of the value."""
        self._count += 1
        if self._count > _MOST_ELEMENTS:
            raise UnreadableError
        head = self.value(_HEAD.size)
        group, element, length = _HEAD.unpack(head)
        tag = group << 16 | element
        if not self._explicit or group == 0xFFFE:  # items never say one
            return tag, b"", length
        vr = head[4:6]
        if not (vr.isalpha() and vr.isupper()):
            raise UnreadableError
        length = int.from_bytes(self.value(4) if vr in _LONG_VRS else head[6:], "little")
        return tag, vr, length

    def value(self, length: int) -> bytes:
        """Read a value."""
        start = self._at
        self._move(length)
        return self._data[start : self._at]

    def skip(self, vr: bytes, length: int, depth: int = 0) -> None:
        """Pass over a value."""
        if length != _UNDEFINED:
            self._move(length)
            return
        if vr not in (b"SQ", b"UN", b"") or depth > _DEEPEST:
            raise UnreadableError
        before = self._explicit
        self._explicit = before and vr == b"SQ"
        self._skip_items(depth)
        self._explicit = before

    def _skip_items(self, depth: int) -> None:
        while True:
            tag, _, length = self.element()
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise UnreadableError
            if length != _UNDEFINED:
                self._move(length)
            else:
                self._skip_item(depth)

    def _skip_item(self, depth: int) -> None:
        while True:
            tag, vr, length = self.element()
            if tag == _ITEM_END:
                return
            self.skip(vr, length, depth + 1)

    def _move(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise TooShortError
