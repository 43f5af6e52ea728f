"""Read the ``.json`` sidecar that a converter wrote beside an image.

dcm2niix writes DICOM's ``ImageType``, ``SeriesDescription``, ``ProtocolName``, ``ImageComments`` and ``Modality`` under
these names, and Siemens' second list of types as ``ImageTypeText``; other converters write the keyword
``DiffusionBValue``. A sidecar is optional, may have any content and may name a patient: one that cannot be read is no
evidence, and messages quote nothing from it but the names of fields, a modality's code and a b-value.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnfast.errors import StudyError
from lnfast.study.bvalues import BRule
from lnfast.study.named import low_b, plain

_TYPE_FIELDS = ("ImageType", "ImageTypeText", "FrameType", "ComplexImageComponent")
_TEXT_FIELDS = ("SeriesDescription", "ImageComments")
_B_FIELDS = ("DiffusionBValue", "BValue", "b_value", "bvalue")
_MAX_LETTERS = 512  # DICOM's descriptions have at most 64, and a search in megabytes of text would delay a study
_MAX_JSON_BYTES = 1 << 22


@dataclass(frozen=True)
class Sidecar:
    """The fields of a sidecar that identify the kind of image.

    Attributes:
        types: ``(field, words)``: lists of defined terms, joined.
        descriptions: ``(field, text)``: the name of the series, by the scanner or a person.
        comments: ``(field, text)``: free text.
        modality: DICOM's code; empty where there is none.
        b_values: ``(field, s/mm2)`` where there is one number, or a list of equal ones.
    """

    types: tuple[tuple[str, str], ...] = ()
    descriptions: tuple[tuple[str, str], ...] = ()
    comments: tuple[tuple[str, str], ...] = ()
    modality: str = ""
    b_values: tuple[tuple[str, float], ...] = ()


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar; an empty one where the file cannot be read."""
    try:
        if not path.is_file():  # reading a pipe would never end
            return Sidecar()
        with open(path, "rb") as file:
            content = json.loads(file.read(_MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return Sidecar()
    if not isinstance(content, dict):
        return Sidecar()
    texts = {field: _text(content.get(field)) for field in (*_TYPE_FIELDS, *_TEXT_FIELDS, "ProtocolName", "Modality")}
    # A protocol's name is also that of all series computed from it, so it counts only for a series without a name.
    named = "SeriesDescription" if texts["SeriesDescription"] else "ProtocolName"
    b_values = ((field, _number(content.get(field))) for field in _B_FIELDS)
    return Sidecar(
        types=tuple((field, texts[field]) for field in _TYPE_FIELDS if texts[field]),
        descriptions=((named, texts[named]),),
        comments=(("ImageComments", texts["ImageComments"]),),
        modality=texts["Modality"].strip().upper(),
        b_values=tuple((field, value) for field, value in b_values if value is not None),
    )


def check_b_value(name: str, sidecars: tuple[Sidecar, ...], rule: BRule) -> None:
    """Refuse a single volume without ``.bval`` whose name or sidecar gives a b-value that the model does not take.

    A b-value within the range is not adopted: a sidecar is often that of the whole series, the ``.bval`` is not.

    Args:
        name: of the file, without ending.
        sidecars: of the file.
        rule: which b-values are taken.

    Raises:
        StudyError: ``no-high-b``.
    """
    for sidecar in sidecars:
        for field, value in sidecar.b_values:
            if not rule.low <= value <= rule.high:
                raise _low(value, f"{field} in its .json", rule)
        for field, text in sidecar.descriptions:
            number = low_b(plain(text), rule.low)
            if number is not None:
                raise _low(number, f"{field} in its .json", rule)
    number = low_b(plain(name), rule.low)
    if number is not None:
        raise _low(number, "its name", rule)


def _low(value: float, source: str, rule: BRule) -> StudyError:
    return StudyError(
        "no-high-b",
        f"has b = {value:g} by {source} and no .bval, wanted {rule.text()}; give the series with the high b-value, or "
        "add the .bval if that is wrong",
    )


def _text(value: Any) -> str:
    words = value if isinstance(value, list) else [value]
    return " ".join(word for word in words if isinstance(word, str))[:_MAX_LETTERS]


def _number(value: Any) -> float | None:
    """Return a b-value; None for anything else, and for a list of different values, which is that of a 4D series."""
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(entry, bool) or not isinstance(entry, int | float) for entry in values):
        return None
    try:
        number = float(values[0])
    except OverflowError:
        return None
    return number if math.isfinite(number) and values.count(values[0]) == len(values) else None
