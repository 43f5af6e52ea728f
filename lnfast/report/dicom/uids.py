"""UIDs that follow from what an object says: the same input and result have the same, another result has others."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

# Of lnfast's objects; it never changes.
_NAMESPACE = uuid.UUID("5b0b9d5c-53f0-5b8a-9c40-6f0f5f2f4a6e")


@dataclass(frozen=True)
class UidSource:
    """What all UIDs of one result follow from.

    Attributes:
        parts: of the source images, the model, the rules, this version of lnfast, and the label map.
    """

    parts: tuple[str, ...]

    @classmethod
    def of(cls, source_uids: Iterable[str], *facts: str) -> UidSource:
        """From the SOP instance UIDs of the images, in any order, and further facts."""
        return cls((*sorted(set(source_uids)), "", *facts))

    def uid(self, *names: str) -> str:
        """The UID of an object, series or node by its name: ``2.25.`` and a name-based UUID (PS3.5 B.2)."""
        return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join((*self.parts, '', *names))).int}"
