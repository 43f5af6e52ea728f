"""Files that are whole or absent: written beside, flushed to the disk, renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnfast.atomic import flush


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, which takes its place when the block ends well.

    The flush comes before the rename: without it a power cut may leave the new name with nothing in it.

    Raises:
        OSError: what the disk said; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """A whole file or none."""
    with beside(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """A whole UTF-8 file or none; lines end as they are given."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """A whole JSON file or none."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def sweep(run: Path) -> None:
    """Remove what killed tries left in a run: temporary files, and checkpoints without their last file."""
    left = [path for pattern in (".*.tmp", "*.tmp") for part in ("", "checkpoints", "mimics") for path in
            (run / part).glob(pattern)]  # fmt: skip
    half = [path for path in (run / "checkpoints").glob("step-*") if not (path / "state.json").exists()]
    for path in {*left, *half}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
