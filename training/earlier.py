"""The runs that a run builds on: ``--start`` and ``--teacher``.

A run keeps the snapshots that it began with, so that it goes on when the other run has gone, and notices when the
other has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lnfast.errors import UsageError
from training.files import write_bytes
from training.snapshot import SNAPSHOT, build, load_tensors, weights_sha256
from training.unet import UNet


@dataclass(frozen=True, eq=False)
class Earlier:
    """A snapshot of another run.

    Attributes:
        role: "start" or "teacher".
        run: where it is from.
        path: the file that was read.
        tensors, meta: what is in it.
        sha256: of its weights.
    """

    role: str
    run: Path
    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    sha256: str

    def network(self) -> UNet:
        """In evaluation mode.

        Raises:
            ModelError: ``bad-snapshot``.
        """
        return build(self.path, self.tensors, self.meta)

    def keep(self, run: Path) -> None:
        """Copy the snapshot into the run that builds on it."""
        kept = _kept(run, self.role)
        if self.path != kept:
            write_bytes(kept, self.path.read_bytes())


def find(run: Path, role: str, given: Path | None) -> Earlier | None:
    """The snapshot of another run: the copy that ``run`` began with, else the other's own.

    Args:
        run: that builds on it.
        role: "start" or "teacher".
        given: the other run, or None.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
        UsageError: ``other-run`` when the other run has other weights than ``run`` began with.
    """
    if given is None:
        return None
    own, kept = given / SNAPSHOT, _kept(run, role)
    if not (run / "run.json").exists() or not kept.is_file():
        return _read(role, given, own)
    found = _read(role, given, kept)
    if own.is_file() and (now := _read(role, given, own).sha256) != found.sha256:
        raise UsageError(
            "other-run",
            f"{run} began with {role} weights {found.sha256[:8]}, {given} now has {now[:8]}; give another folder",
        )
    return found


def _read(role: str, run: Path, path: Path) -> Earlier:
    tensors, meta = load_tensors(path)
    return Earlier(role, run, path, tensors, meta, weights_sha256(tensors))


def _kept(run: Path, role: str) -> Path:
    return run / f"{role}.safetensors"
