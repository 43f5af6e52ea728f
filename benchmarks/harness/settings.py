"""The options of one call of ``python -m benchmarks``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lnfast.card import Model
from lnfast.geometry import Volume
from lnfast.phantom import SCANNERS, make_phantom

# Far from any seed that training draws.
DEFAULT_SEED = 7_000_000


@dataclass(frozen=True)
class Settings:
    """The same options for every group.

    Attributes:
        model: its network is run by every subject and peer.
        threads: of every subject and peer, at least 1.
        repeats: measured rounds.
        kernel_repeats: measured rounds of kernels, which take milliseconds.
        warmups: rounds before them, beside the run in which the answers are compared.
        seed: of the first phantom; the others follow.
        device: ``cpu``, or ``cuda`` for the first GPU, of the group ``network``.
        quick: one study instead of one for each scanner.
        progress: takes one line at a time.
    """

    model: Model
    threads: int
    repeats: int
    kernel_repeats: int
    warmups: int
    seed: int
    device: str
    quick: bool
    progress: Callable[[str], None]

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of the JSON's environment."""
        card = self.model.card
        return {
            "model": {"name": card.name, "version": card.version, "sha256": self.model.sha256},
            "repeats": self.repeats,
            "kernel_repeats": self.kernel_repeats,
            "warmups": self.warmups,
            "seed": self.seed,
            "device": self.device,
            "quick": self.quick,
        }

    def phantoms(self) -> dict[str, Volume]:
        """Return a study for each scanner by name; the quick run takes the scanner with most voxels."""
        names = sorted(SCANNERS)
        chosen = [max(names, key=_voxels)] if self.quick else names
        return {name: make_phantom(self.seed + names.index(name), name).volume for name in chosen}


def _voxels(scanner: str) -> int:
    protocol = SCANNERS[scanner]
    return protocol.matrix_yx[0] * protocol.matrix_yx[1] * protocol.slices
