"""Evidence that a file is an ADC map and not a diffusion-weighted image.

An ADC map shows nodes dark where a DWI shows them bright, and its ``.bval`` may still say 800. Three things are looked
at: the file's name, the header's text fields, and what the ``.json`` that dcm2niix writes beside it calls the image.
The voxels are not: a renamed ADC map without these is **not detected**, because no sign of it in the values is safe. A
background of exact zeros is shared by computed b-value images, the scale of a DWI is arbitrary and may lie where ADC
values do (0 to 3000 in 1e-6 mm2/s), and the order of bright and dark tissues is what only a model can tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from lnfast.errors import StudyError

# "ADC" as a word of its own, with what scanners and converters put before it (dwi_ADC, eADC, regADC) and after it
# (ADCmap, the letter or number of a second series of one name: ADCa, ADC0001), but not the letters inside a
# hexadecimal name (3adc71) or a word (cascade, broadcast).
_ADC_WORD = re.compile(
    r"(?<![a-z0-9])(?:dwi|dti|diff|trace|avg|mean|reg|iso|[desr])?-?adc(?:_?maps?|[a-z])?\d*(?![a-z0-9])"
    r"|apparent.?diffusion",
    re.IGNORECASE,
)
_SIDECAR_FIELDS = ("ImageType", "SeriesDescription", "ImageComments")
_MAX_JSON_BYTES = 1 << 22


def refuse_adc(name: str, header_text: str, sidecar: Path) -> None:
    """Refuse an ADC map.

    Args:
        name: the file's name.
        header_text: the header's text fields; they may name a patient and go into no message.
        sidecar: where a ``.json`` would lie.

    Raises:
        StudyError: ``adc-map``.
    """
    if _ADC_WORD.search(name):
        _refuse("its name says so; rename it if that is wrong")
    if _ADC_WORD.search(header_text):
        _refuse("its header says so")
    for field, words in _sidecar_words(sidecar):
        if any(_ADC_WORD.search(word) for word in words):
            _refuse(f"{field} in its .json says so")


def _refuse(evidence: str) -> None:
    raise StudyError(
        "adc-map", f"is an ADC map ({evidence}), wanted a high-b diffusion-weighted image; give that series"
    )


def _sidecar_words(sidecar: Path) -> Iterator[tuple[str, list[str]]]:
    """Text fields of a sidecar; nothing where there is none to read, because the sidecar is optional."""
    try:
        if not sidecar.is_file():  # a pipe of that name would never end
            return
        with open(sidecar, "rb") as file:
            content = json.loads(file.read(_MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return
    for field in _SIDECAR_FIELDS if isinstance(content, dict) else ():
        words = content.get(field)
        yield field, [word for word in (words if isinstance(words, list) else [words]) if isinstance(word, str)]
