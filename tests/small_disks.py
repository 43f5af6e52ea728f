"""A disk that is soon full: a tmpfs of some hundred KiB, which only root can mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

needs_tmpfs = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounts a tmpfs, which needs root on Linux"
)
SIZE = "600k"


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount an empty file system of some size (as tmpfs takes it: 600k) at a folder, which is made.

    For a test with `needs_tmpfs`. Where the system does not let root mount it skips, but not in CI.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"no disk can be mounted ({done.stderr.strip()}): CI must not skip this test")
        pytest.skip("this root may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of `SIZE`."""
    with mounted(tmp_path / "small", SIZE) as folder:
        yield folder


def fill(path: Path, leave: int = 0) -> None:
    """Write a file that takes all room of its disk but so many bytes."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while (free := shutil.disk_usage(path.parent).free) > leave:
            file.write(b"\0" * min(1 << 20, free - leave))
