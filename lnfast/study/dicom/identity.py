"""A name for a study that says nothing of the patient, and is the same on this machine each time.

The name is a keyed hash: without the key, which stays on this machine, nobody can find out which patient's UIDs gave
it, not even by trying all UIDs that an archive has.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

_KEY_BYTES = 32


def study_id(study_uid: str, series_uid: str) -> str:
    """16 hexadecimal digits: HMAC-SHA256 of both UIDs with this machine's key."""
    return hmac.new(study_key(), f"{study_uid}|{series_uid}".encode(), hashlib.sha256).hexdigest()[:16]


def instances_of(uids: Iterable[tuple[str, str]]) -> str:
    """Hex digest of the study and instance UIDs of slices in their order: it tells files that took others' place."""
    return hashlib.sha256("".join(f"{study}|{instance}\n" for study, instance in uids).encode()).hexdigest()


def study_key() -> bytes:
    """Return the key by which this process names studies: this machine's, or the one that it was given."""
    return _given or _key()


def use_study_key(key: bytes) -> None:
    """Name studies by another machine's key from now on: processes that work on one cohort give the same names.

    Args:
        key: of `study_key`.
    """
    global _given
    _given = key


_given: bytes | None = None


def exam_id(study_uid: str, key: bytes) -> str:
    """16 hexadecimal digits: HMAC-SHA256 of a StudyInstanceUID with a key of `load_key`."""
    return hmac.new(key, study_uid.encode(), hashlib.sha256).hexdigest()[:16]


def load_key(path: Path) -> bytes:
    """Read a key, made where there is none; of several processes that make it at once, all get the same.

    Args:
        path: of its file, in a folder that is there. Nobody but its owner may read it. A damaged key is replaced.

    Raises:
        OSError: of the file system.
    """
    if not _is_key(path):
        _write_key(path)
    return path.read_bytes()


@cache
def _key() -> bytes:
    """The key of this machine; one for this process where it cannot be kept."""
    with suppress(OSError, RuntimeError):
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        return load_key(folder / "study-id.key")
    return secrets.token_bytes(_KEY_BYTES)


def _is_key(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_size == _KEY_BYTES
    return False


def _write_key(path: Path) -> None:
    # Not by `lnfast.atomic`: nobody else may read the key, not even while it is written.
    work = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            _place(work, path)
    finally:
        work.unlink(missing_ok=True)


def _place(work: Path, path: Path) -> None:
    """Give a new key its name, unless another process was first; a damaged key is replaced."""
    if path.exists() and path.stat().st_size != _KEY_BYTES:
        os.replace(work, path)
        return
    try:
        os.link(work, path)  # unlike a rename this replaces nothing
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise
        os.replace(work, path)


def _folder() -> Path:
    chosen = os.environ.get("LNFAST_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("lnfast", appauthor=False))
