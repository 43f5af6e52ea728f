"""b-values that a text names: a file's name, or what a scanner calls a series."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Without the b-value itself: what else says that a number behind a b is one, and not a batch or a bed.
_DIFFUSION = re.compile(r"dwi|dti|diff|difus|trace|ep2d|epi|resolve|zoom|calc")
_LEAST_LOW = 10


def plain(text: str) -> str:
    """Lower case, and what is neither letter nor digit as ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def says_b0(text: str) -> bool:
    """A plain text names b = 0 and no other b-value: ``dwi_b0``, ``b=0``, but not ``dwi_b0_800`` or ``b0b1000``."""
    values = list(named_b_values(text))
    return bool(values) and max(values) == 0


def low_b(text: str, least: float) -> int | None:
    """The greatest b-value of a plain text that names diffusion, where all are below ``least`` s/mm2; else None."""
    highest = max(named_b_values(text), default=0)
    return highest if _LEAST_LOW <= highest < least and _DIFFUSION.search(text) else None


def named_b_values(text: str) -> Iterator[int]:
    """All numbers of a text that may be b-values: those behind a ``b``, and what is listed behind these."""
    listing = False
    for word in text.split("_"):
        numbers = re.fullmatch(r"(?:b|bval(?:ue)?s?)(\d{1,4})(?:(?:b|to|s|x|t)(\d{1,4}))*(?:s|t|tr|trace\w*)?", word)
        if numbers:
            listing = True
            yield from map(int, re.findall(r"\d+", word))
        elif re.fullmatch(r"[1-9]\d{1,3}|0", word):
            # A number of three or four digits may be a b-value wherever it stands: 800_b0.
            if listing or len(word) > 2:
                yield int(word)
        elif word not in ("and", "to", "s", "mm2", "und", "bis", "et", "b"):
            listing = False
        else:
            listing = listing or word == "b"
