"""The runs that a run builds on: ``--start`` and ``--teacher``.

A run keeps the snapshots that it began with, so that it goes on when the other run has gone, and notices when the
other has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lnfast.errors import UsageError
from training.files import write_bytes
from training.model.weights_file import SNAPSHOT, build, load_weights, weights_sha256

# Weights that come with this repository, by name: those of the models that ship.
WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, eq=False)
class Earlier:
    """A snapshot of another run, or weights that came without one.

    Attributes:
        role: "start" or "teacher".
        run: where it is from: the run's folder or the weights' file.
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

    @property
    def config(self) -> dict[str, Any]:
        """What kind of network it is."""
        config: dict[str, Any] = self.meta["config"]
        return config

    def network(self) -> nn.Module:
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
        given: the other run, a file of weights, or the name of weights in `WEIGHTS`; None where there is none.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
        UsageError: ``other-run`` when the other run has other weights than ``run`` began with.
    """
    if given is None:
        return None
    own, kept = weights_of(given), _kept(run, role)
    if not (run / "run.json").exists() or not kept.is_file():
        return _read(role, given, own)
    found = _read(role, given, kept)
    if own.is_file() and (now := _read(role, given, own).sha256) != found.sha256:
        raise UsageError(
            "other-run",
            f"{run} began with {role} weights {found.sha256[:8]}, {given} now has {now[:8]}; give another folder",
        )
    return found


def weights_of(given: Path) -> Path:
    """The file that a run, a file of weights, or the name of weights in `WEIGHTS` means."""
    named = WEIGHTS / f"{given}.safetensors"
    if given.name == str(given) and not given.exists() and named.is_file():
        return named
    return given if given.is_file() else given / SNAPSHOT


def _read(role: str, run: Path, path: Path) -> Earlier:
    tensors, meta = load_weights(path)
    return Earlier(role, run, path, tensors, meta, weights_sha256(tensors))


def _kept(run: Path, role: str) -> Path:
    return run / f"{role}.safetensors"
