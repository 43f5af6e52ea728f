"""One instance that arrives: straight to the disk, checked, and given its place in the spool.

Its bytes are written as they came, so an instance of any size costs the memory of one PDU. pynetdicom collects a data
set in memory and copies it twice, or writes it into a file of the system's temporary folder that stays there when the
association breaks off.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import BackendError
from lnfast.node.spool import Spool, Stored
from lnfast.node.transport import contexts
from lnfast.node.transport.dataset_head import TooShortError, UnreadableError, read_uids
from lnfast.node.transport.messages import Command, is_uid
from lnfast.study.dicom import tags

SUCCESS = 0x0000
_PREAMBLE = bytes(128) + b"DICM"
_LONG_VRS = (b"OB",)
_HEADS = (64 << 10, 16 << 20)  # bytes in which the UIDs are looked for; nearly always the first few hundred have them


@dataclass(frozen=True)
class Refusal:
    """Why an instance is not taken.

    Attributes:
        status: of the answer (PS3.4 B.2.3, PS3.7 annex C).
        code: for log and metrics.
        comment: for the peer, at most 64 characters.
    """

    status: int
    code: str
    comment: str


DISK_FULL = Refusal(0xA700, "spool-full", "no room on the disk: try again later")
DISK_FAILED = Refusal(0xA700, "spool-failed", "the disk failed: try again later")
MISMATCH = Refusal(0xA900, "class-mismatch", "class or instance UID differ from those of the request")
UNREADABLE = Refusal(0xC000, "instance-unreadable", "no UIDs of class, instance and study can be read")
TOO_LARGE = Refusal(0xC001, "instance-too-large", "larger than what this node takes")
BAD_UID = Refusal(0x0117, "bad-uid", "not made as UIDs are")
FAILED = Refusal(0xC002, "receiver-failed", "this node failed; its log has the place")
REFUSALS = (DISK_FULL, DISK_FAILED, MISMATCH, UNREADABLE, TOO_LARGE, FAILED, BAD_UID)


class Incoming:
    """The data set of a C-STORE while it arrives.

    Args:
        command: of the request.
        context: SOP class and transfer syntax of its presentation context.
        spool: where it is stored.
        most_bytes: of the data set.
        keep: whether it is stored at all; else its bytes are only counted.
    """

    def __init__(
        self, command: Command, context: tuple[str, str], spool: Spool, *, most_bytes: int, keep: bool
    ) -> None:
        self.command = command
        self.keep = keep
        self.size = 0
        self.exam: str | None = None
        self.refusal: Refusal | None = None
        self._syntax = context[1]
        self._spool, self._most_bytes = spool, most_bytes
        self._part: Path | None = None
        self._file: int | None = None  # descriptor
        self._head = bytearray()  # also of what is refused
        self._start = 0
        if not is_uid(command.sop_class) or not is_uid(command.sop_instance):
            self.refusal = BAD_UID
        elif command.sop_class != context[0]:
            self.refusal = MISMATCH
        elif keep:
            self._open()

    def write(self, data: memoryview) -> None:
        """Add bytes of the data set; once there is a reason to refuse it they are thrown away."""
        self.size += len(data)
        self._head += data[: _HEADS[0] - len(self._head)]
        if self._file is None:
            return
        if self.size > self._most_bytes:
            self._refuse(TOO_LARGE)
            return
        try:
            with self._spool.writing():
                _write_all(self._file, data)
        except BackendError as error:
            self._refuse(_of_disk(error))

    def identify(self) -> str | None:
        """Return the id of the exam of an instance that has come whole; None where it is refused or not kept."""
        if self._file is None:
            return None
        try:
            self.exam = self._spool.exam_id(self._study())
        except BackendError as error:
            self._refuse(_of_disk(error))
        except UnreadableError:
            self._refuse(UNREADABLE)
        except _MismatchError:
            self._refuse(MISMATCH)
        return self.exam

    def exam_of_head(self) -> str | None:
        """Return the id of the exam of an instance that was refused, or came in part; None where nobody can tell."""
        try:
            uids = read_uids(bytes(self._head), explicit=self._syntax != contexts.IMPLICIT_LITTLE_ENDIAN)
        except (UnreadableError, TooShortError):
            return None
        study = uids[tags.STUDY_UID]
        return self._spool.exam_id(study) if is_uid(study) else None

    def store(self) -> Stored | None:
        """Store an instance that was identified, durably; None where it is refused."""
        assert self._part is not None and self.exam is not None
        part, self._part = self._part, None
        self._close()
        try:
            return self._spool.store(part, self.exam, self.command.sop_instance)
        except BackendError as error:
            self._refuse(_of_disk(error))
            return None

    def discard(self) -> None:
        """Throw away what has come."""
        self._close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None

    def _open(self) -> None:
        if not self._spool.has_room():
            self.refusal = DISK_FULL
            return
        header = _PREAMBLE + file_meta(self.command.sop_class, self.command.sop_instance, self._syntax)
        self._start = len(header)
        try:
            with self._spool.writing():
                self._part = self._spool.new_part()
                self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                _write_all(self._file, memoryview(header))
        except BackendError as error:
            self._refuse(_of_disk(error))

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.discard()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _study(self) -> str:
        """Study Instance UID."""
        uids = self._uids()
        if not all(is_uid(uid) for uid in uids.values()):
            raise UnreadableError
        command = (self.command.sop_class, self.command.sop_instance)
        if (uids[tags.SOP_CLASS_UID], uids[tags.SOP_INSTANCE_UID]) != command:
            raise _MismatchError
        return uids[tags.STUDY_UID]

    def _uids(self) -> dict[int, str]:
        assert self._file is not None
        explicit = self._syntax != contexts.IMPLICIT_LITTLE_ENDIAN
        for size in _HEADS:
            with self._spool.writing():
                data = os.pread(self._file, size, self._start)
            try:
                return read_uids(data, explicit=explicit)
            except TooShortError:
                if len(data) < size:
                    break
        raise UnreadableError


class _MismatchError(Exception):
    """The data set is another instance than the request says."""


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def file_meta(sop_class: str, sop_instance: str, syntax: str) -> bytes:
    """Return the File Meta Information of an instance.

    Nothing in it tells from whom the instance came or by which version it was taken, so that the same one gives the
    same file. Not by pydicom, which warns of a UID with a leading zero by quoting it.
    """
    elements = (
        (0x0001, b"OB", b"\0\1"),
        (0x0002, b"UI", sop_class.encode("ascii")),
        (0x0003, b"UI", sop_instance.encode("ascii")),
        (0x0010, b"UI", syntax.encode("ascii")),
        (0x0012, b"UI", contexts.IMPLEMENTATION_CLASS_UID.encode("ascii")),
    )
    body = b"".join(_meta_element(*element) for element in elements)
    return _meta_element(0x0000, b"UL", struct.pack("<I", len(body))) + body


def _meta_element(element: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    length = struct.pack("<2xI" if vr in _LONG_VRS else "<H", len(value))
    return struct.pack("<HH2s", 2, element, vr) + length + value


def _of_disk(error: BackendError) -> Refusal:
    return DISK_FULL if error.code == DISK_FULL.code else DISK_FAILED
