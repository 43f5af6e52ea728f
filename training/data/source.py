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


class CaseSource(Protocol):
    """Cases to train and to validate on."""

    def describe(self, run: Path, earlier: Sequence[PriorRun]) -> dict[str, Any]:
        """Return what identifies the cases, as JSON; a resumed run must have the same. Write nothing."""
        ...

    def open(self, run: Path, card: ModelCard) -> CasePool:
        """Return the described cases for the card's grid; make missing ones first where that is wanted."""
        ...

    def save_into(self, run: Path) -> None:
        """Write into the run what it needs to resume."""
        ...

    def take_new_cases(self, pool: CasePool) -> None:
        """Add the cases that have been made in the meantime."""
        ...

    def provenance(self, pool: CasePool) -> dict[str, Any]:
        """Return what the header of the weights says about the training cases."""
        ...

    def validated_on(self, pool: CasePool) -> dict[str, Any]:
        """Return what the header of the weights says about the validation cases."""
        ...
