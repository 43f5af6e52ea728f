"""Read the bytes of a study file, plain or gzip, each once, into the one buffer that the voxels stay in.

A plain file is read and not mapped. If a mapped file were rewritten while its study waits for the network, the measured
voxels would not be those of the hash; if it were truncated, the process would die (SIGBUS). Reading costs one pass over
the bytes, which the hash needs anyway. A gzip stream is always read to its end, where its checksum is.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import threading
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from lnfast.errors import StudyError

HEADER_BYTES = 540
# No deflate stream expands further, so a header that promises more is known to be wrong before memory is allocated.
_DEFLATE_MAX_RATIO = 1032
_CHUNK = 1 << 20


class Stored(Protocol):
    """The decompressed content of an open file; a context manager."""

    head: bytes
    """The first `HEADER_BYTES`, or all of a shorter file."""

    def __enter__(self) -> Stored: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sha256(self) -> str:
        """Return the hex digest of the file as stored on the disk; call it after `values`."""

    def values(self, start: int, size: int, end: int) -> tuple[memoryview, int]:
        """Return the bytes ``[start, start + size)``, and how many bytes follow ``end``.

        Raises:
            StudyError: ``truncated`` when the content stops before ``end``; ``damaged``, ``too-large``.
        """


def open_stored(path: Path, max_bytes: int) -> Stored:
    """Open a plain or gzip file; its content decides which it is.

    Raises:
        StudyError: ``not-found``, ``not-a-file``, ``unreadable``, ``truncated`` (empty), ``too-large``, ``damaged``.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise StudyError(
                "not-a-file", "is not an ordinary file, wanted one .nii or .nii.gz file, or a folder of DICOM files"
            )
        with ExitStack() as stack:
            # A buffered reader would copy the bytes twice.
            file = stack.enter_context(open(path, "rb", buffering=0))
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise StudyError("truncated", "is empty, wanted a .nii or .nii.gz file; copy it again")
            if size > max_bytes:
                raise StudyError("too-large", f"has {size} bytes, wanted at most {max_bytes}; give one smaller study")
            head = file.read(HEADER_BYTES)
            file.seek(0)
            if head[:2] == b"\x1f\x8b":
                return _GzipStored(file.read(), max_bytes)
            return _PlainStored(file, head, size, stack.pop_all())
    except OSError as error:
        raise _refusal_of(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise StudyError("not-found", "cannot be opened under this name; check the path") from error


def _refusal_of(error: OSError, path: Path | None = None) -> StudyError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return StudyError("not-found", _why_absent(path) if path else "no such file; check the path")
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return StudyError("unreadable", f"cannot be read ({reason}); check its permissions and the disk")


def _why_absent(path: Path) -> str:
    if path.is_symlink():
        return "is a link to a file that is not there; mend the link, or fetch what it points to"
    try:
        os.getcwd()
    except OSError:
        if not path.is_absolute():
            return "the working folder was deleted; change into one that exists, or give the whole path"
    return "no such file; check the path"


class _PlainStored:
    def __init__(self, file: FileIO, head: bytes, size: int, closing: ExitStack) -> None:
        self.head = head
        self._file, self._size, self._closing = file, size, closing
        self._digest = hashlib.sha256()

    def __enter__(self) -> Stored:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def values(self, start: int, size: int, end: int) -> tuple[memoryview, int]:
        if self._size < end:
            raise _truncated(self._size, end)
        try:
            self._pass_over(start)
            content = bytearray(size)
            self._fill(memoryview(content))
            self._pass_over(self._size - start - size)
        except OSError as error:
            raise _refusal_of(error) from error
        except MemoryError as error:
            raise _no_memory(size) from error
        return memoryview(content).toreadonly(), self._size - end

    def _pass_over(self, size: int) -> None:
        scratch = memoryview(bytearray(min(size, _CHUNK)))
        while size:
            part = scratch[: min(size, _CHUNK)]
            self._fill(part)
            size -= len(part)

    def _fill(self, target: memoryview) -> None:
        """Read on until ``target`` is full."""
        done = 0
        while done < len(target):
            got = self._file.readinto(target[done:])
            if not got:
                raise StudyError("truncated", "became shorter while it was read; wait until it is written, then run")
            done += got
        self._digest.update(target)


class _GzipStored:
    def __init__(self, packed: bytes, max_bytes: int) -> None:
        # The package is small (1 ms) but needed for compressed files only.
        from isal import igzip, isal_zlib

        stream_error: Any = isal_zlib.error
        self._errors: tuple[type[Exception], ...] = (OSError, stream_error)
        self._packed_size = len(packed)
        self._max_bytes = max_bytes
        open_stream: Any = igzip.IGzipFile
        self._stream = open_stream(fileobj=io.BytesIO(packed), mode="rb")
        # Hashing beside the decompression hides its 0.7 ms/MB: both release the GIL.
        self._digest = hashlib.sha256()
        self._hashing = threading.Thread(target=self._digest.update, args=(packed,))
        self._hashing.start()
        self.head = self._read(HEADER_BYTES)

    def __enter__(self) -> Stored:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def sha256(self) -> str:
        self._hashing.join()
        return self._digest.hexdigest()

    def values(self, start: int, size: int, end: int) -> tuple[memoryview, int]:
        if end > self._packed_size * _DEFLATE_MAX_RATIO + _CHUNK:
            raise StudyError(
                "truncated",
                f"the header promises {end} bytes, more than {self._packed_size} packed bytes can hold; copy it again",
            )
        self._skip_to(start)
        content = self._read(size)
        have = start + len(content)
        while chunk := self._read(_CHUNK):
            have += len(chunk)
            if have > self._max_bytes:
                raise StudyError("too-large", f"unpacks to more than {self._max_bytes} bytes; give one smaller study")
        if have < end:
            raise _truncated(have, end)
        return memoryview(content), have - end

    def _skip_to(self, start: int) -> None:
        try:
            reached = self._stream.seek(start)
        except EOFError as error:
            raise _cut_stream() from error
        except self._errors as error:
            raise _damaged() from error
        if reached < start:
            raise _truncated(reached, start)

    def _read(self, size: int) -> bytes:
        # `read` of a buffered stream fills one bytes object of this size in place: that object is the voxel buffer.
        try:
            content: bytes = self._stream.read(size)
        except EOFError as error:
            raise _cut_stream() from error
        except MemoryError as error:
            raise _no_memory(size) from error
        except self._errors as error:
            raise _damaged() from error
        return content


def _truncated(have: int, end: int) -> StudyError:
    return StudyError("truncated", f"holds {have} of the {end} bytes that its header promises; copy it again")


def _no_memory(size: int) -> StudyError:
    return StudyError("too-large", f"needs {size} bytes of memory, which are not free here")


def _cut_stream() -> StudyError:
    return StudyError("truncated", "the gzip stream stops before its end; copy the file again")


def _damaged() -> StudyError:
    return StudyError("damaged", "the gzip stream is damaged (bad block or checksum); copy the file again")
