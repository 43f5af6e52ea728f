"""The weights that a run builds on: ``--start`` and ``--teacher``.

A run keeps a copy of the weights that it began with, so that it can be resumed without the other run, and notices when
the other has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lnfast.atomic import write_file
from lnfast.errors import UsageError
from training.model.weights_file import WEIGHTS_FILE, load_initial_weights, network_from, weights_sha256

# Weights that come with this repository, by name: those of the models that ship.
WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, eq=False)
class PriorWeights:
    """Weights of another run, or from a file of their own.

    Attributes:
        role: "start" or "teacher".
        run: where it is from: the run's folder or the weights' file.
        path: the file that was read.
        tensors, header: what is in it.
        sha256: of its weights.
    """

    role: str
    run: Path
    path: Path
    tensors: dict[str, Tensor]
    header: dict[str, Any]
    sha256: str

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the network."""
        config: dict[str, Any] = self.header["config"]
        return config

    def network(self) -> nn.Module:
        """Build the network, in evaluation mode.

        Raises:
            ModelError: ``bad-snapshot``.
        """
        return network_from(self.path, self.tensors, self.header)

    def copy_into(self, run: Path) -> None:
        """Copy the weights into the run that builds on them."""
        copy = _copy_in(run, self.role)
        if self.path != copy:
            write_file(copy, self.path.read_bytes())


def find_prior_weights(run: Path, role: str, origin: Path | None) -> PriorWeights | None:
    """Read prior weights: the copy that ``run`` began with, else those of the other run.

    Args:
        run: that builds on it.
        role: "start" or "teacher".
        origin: the other run, a file of weights, or the name of weights in `WEIGHTS`; None where there is none.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
        UsageError: ``other-run`` when the other run has other weights than ``run`` began with.
    """
    if origin is None:
        return None
    current, copy = weights_path(origin), _copy_in(run, role)
    if not (run / "run.json").exists() or not copy.is_file():
        return _read(role, origin, current)
    weights = _read(role, origin, copy)
    if current.is_file() and (now := _read(role, origin, current).sha256) != weights.sha256:
        raise UsageError(
            "other-run",
            f"{run} began with {role} weights {weights.sha256[:8]}, {origin} now has {now[:8]}; give another folder",
        )
    return weights


def weights_path(origin: Path) -> Path:
    """Return the file of a run, a weights file, or the name of weights in `WEIGHTS`."""
    named = WEIGHTS / f"{origin}.safetensors"
    if origin.name == str(origin) and not origin.exists() and named.is_file():
        return named
    return origin if origin.is_file() else origin / WEIGHTS_FILE


def _read(role: str, run: Path, path: Path) -> PriorWeights:
    tensors, header = load_initial_weights(path)
    return PriorWeights(role, run, path, tensors, header, weights_sha256(tensors))


def _copy_in(run: Path, role: str) -> Path:
    return run / f"{role}.safetensors"
