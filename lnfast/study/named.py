"""Find the b-values in a text: in a file's name, or in a scanner's description of a series."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Words that confirm that a number behind a b is a b-value, and not the number of a batch or a bed.
_DIFFUSION = re.compile(r"dwi|dti|diff|difus|trace|ep2d|epi|resolve|zoom|calc")
_LEAST_LOW = 10


def plain(text: str) -> str:
    """Return a text in lower case, with ``_`` for all that is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def says_b0(text: str) -> bool:
    """Return whether a plain text names b = 0 and no other b-value: ``dwi_b0``, not ``dwi_b0_800`` or ``b0b1000``."""
    values = list(named_b_values(text))
    return bool(values) and max(values) == 0


def low_b(text: str, least: float) -> int | None:
    """Return the greatest b-value of a plain text that names diffusion, if all are below ``least`` s/mm2; else None."""
    highest = max(named_b_values(text), default=0)
    return highest if _LEAST_LOW <= highest < least and _DIFFUSION.search(text) else None


def named_b_values(text: str) -> Iterator[int]:
    """Yield all numbers of a text that may be b-values: those behind a ``b``, and those listed after them."""
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
