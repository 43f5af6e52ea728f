"""The disk that a spool is on: how much is free, and whether it keeps what is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lnfast.errors import BackendError

_IN_MEMORY = ("tmpfs", "ramfs")
_OF_A_CONTAINER = ("overlay", "aufs")
# SQLite's log needs memory that all processes share, and renames must be the disk's own.
_ON_A_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "ncpfs")


def free_bytes(folder: Path) -> int:
    """Return how much the disk of a folder, or of the nearest one above it, has free for this user; else 0."""
    try:
        return shutil.disk_usage(nearest(folder)).free
    except OSError:
        return 0


def nearest(path: Path) -> Path:
    """Return a path, or the nearest one above it that is there, whatever it is."""
    return next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path("/"))


def unsafe_disk(folder: Path) -> BackendError | None:
    """Return why the disk of a folder does not keep a spool as it must, where that can be told."""
    kind = file_system(folder)
    if kind in _IN_MEMORY:
        return BackendError("spool-in-memory", f"{folder} is in memory ({kind}): a restart loses it; give a disk")
    if kind in _ON_A_NETWORK:
        return BackendError("spool-on-network", f"{folder} is on a network share ({kind}); give a local disk")
    if kind in _OF_A_CONTAINER:
        return BackendError(
            "spool-in-container", f"{folder} is in the container's own layer ({kind}) and goes with it; mount a volume"
        )
    return None


def file_system(folder: Path) -> str | None:
    """Return the kind of file system that a folder is on; None where the system does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = nearest(folder).resolve()
    except OSError:
        return None
    mounts: dict[Path, str] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        mounts[Path(before.split()[4].replace("\\040", " "))] = after.split()[0]
    return next((mounts[parent] for parent in (place, *place.parents) if parent in mounts), None)
