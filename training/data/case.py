"""A case: a study with its truth, whether a phantom or a patient's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Volume


class LoadableCase(Protocol):
    """A case that may still be on the disk: a thousand phantoms do not fit into memory.

    Attributes:
        name: one word, unique among the cases of a run; a phantom's is its seed in five digits.
    """

    @property
    def name(self) -> str: ...

    def load(self) -> Case:
        """Return the case with its voxels."""
        ...


@dataclass(frozen=True, eq=False)
class Case:
    """One study on its native grid, with axes as the card's (a view at no cost, `Volume.oriented`).

    Attributes:
        name: as of `LoadableCase`, which a case is as well.
        volume: the study, native grid.
        labels: ``(z, y, x)`` uint16, 0 background, else the node; nodes are numbered from 1 without a gap.
    """

    name: str
    volume: Volume
    labels: NDArray[np.uint16]

    def load(self) -> Case:
        """Return the case itself."""
        return self
