"""A name for a study that says nothing of the patient, and is the same on this machine each time.

The name is a keyed hash: without the key, which stays on this machine, nobody can find out which patient's UIDs gave
it, not even by trying all UIDs that an archive has.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

_KEY_BYTES = 32


def study_id(study_uid: str, series_uid: str) -> str:
    """16 hexadecimal digits: HMAC-SHA256 of both UIDs with this machine's key."""
    return hmac.new(_key(), f"{study_uid}|{series_uid}".encode(), hashlib.sha256).hexdigest()[:16]


@cache
def _key() -> bytes:
    """The key of this machine, made where there is none; one for this process where it cannot be kept."""
    folder = _folder()
    path = folder / "study-id.key"
    with suppress(OSError, RuntimeError):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            work = folder / f".study-id.{secrets.token_hex(8)}.tmp"
            with open(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(work, path)  # the first process wins; unlike a rename this replaces nothing
            finally:
                work.unlink()
        key = path.read_bytes()
        if len(key) == _KEY_BYTES:
            return key
    return secrets.token_bytes(_KEY_BYTES)


def _folder() -> Path:
    chosen = os.environ.get("LNFAST_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("lnfast", appauthor=False))
