"""Where cases come from: `training.data.phantom_source` and `training.data.own_studies`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from lnfast.card import ModelCard
from training.data.batches import CasePool


class PriorRun(Protocol):
    """A run whose weights another run builds on.

    Attributes:
        run: its folder.
        header: the header of its weights.
    """

    @property
    def run(self) -> Path: ...
    @property
    def header(self) -> dict[str, Any]: ...


class Source(Protocol):
    """Cases to train and to validate on."""

    def describe(self, run: Path, earlier: Sequence[PriorRun]) -> dict[str, Any]:
        """What the run is of, in JSON; a run that goes on must be of the same. Writes nothing."""
        ...

    def open(self, run: Path, card: ModelCard) -> CasePool:
        """What was described, for the card's grid; makes it first where that is asked for."""
        ...

    def save_into(self, run: Path) -> None:
        """Write into the run what it must have to go on."""
        ...

    def take_new_cases(self, studies: CasePool) -> None:
        """Take in what has been made since."""
        ...

    def provenance(self, studies: CasePool) -> dict[str, Any]:
        """What a snapshot says of the cases that were learned from."""
        ...

    def validated_on(self, studies: CasePool) -> dict[str, Any]:
        """What a snapshot says of the cases that it was judged on."""
        ...
