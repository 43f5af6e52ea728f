"""One frame of an MR image: what its header says, whatever kind of file it lies in.

A classic file holds one frame, an enhanced one many; both give the same `Frame`. Text of the header, which may name a
patient, stays inside and goes into no message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from lnfast.study.dicom import tags
from lnfast.study.dicom.tags import Elements
from lnfast.study.kind import code_of_series
from lnfast.study.named import plain

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.1"
SOP_CLASSES = (MR_IMAGE, ENHANCED_MR_IMAGE)

B0_BELOW = 10.0  # s/mm2; Philips writes 0.001 to 0.004
_GE_BIAS = 1e9  # GE adds it to mark b-values that were rounded
# In the languages of scanners and workstations, and as GE (sDWI), Philips (cDWI, cb) and Siemens (types) write it.
_COMPUTED = re.compile(r"calc|comput|synth|sint[e_]t|rechn|extrapol|virtual|(?:^|_)(?:[csv]_?dwi|c_?b_?(?:val|\d))")
_RANGE_OF_B = re.compile(r"b\d+_\d+")  # Siemens names what was computed from two b-values by both
_TRACE_NAME = re.compile(r"b\d+t(?:_|$)")
_DIFFUSIVITY = re.compile("m(?:\\^?2|\xb2)/s")  # a unit of ADC
_GE_MAPS, _GE_TRACE = (18.0, 20.0), 19.0
_REFORMATTED = {"MPR", "CPR", "MPVR"}  # slices that were not acquired
_MAGNITUDE = ("", "MAGNITUDE")  # the others are phase, real and imaginary images
_TILED = {"MOSAIC", "VFRAME"}
_TRACE_TYPES = {"TRACEW", "TRACE", "ISOTROPIC"}


@dataclass(frozen=True)
class Pixels:
    """How a frame's pixels are stored.

    Attributes:
        rows, columns: of the frame.
        bits_allocated, bits_stored, high_bit: as in the header.
        representation: 1 for two's complement, 0 for none; -1 where it is not said.
        samples: per pixel; 1 in a magnitude image.
        photometric: what a value means, ``MONOCHROME2`` where greater is brighter; empty where missing.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    representation: int
    samples: int
    photometric: str = ""

    @property
    def signed(self) -> bool:
        """Whether the values are in two's complement."""
        return self.representation == 1

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


@dataclass(frozen=True)
class Frame:
    """What one frame's header says.

    Attributes:
        path: of its file.
        index: of the frame within the file, from 0.
        offset: byte of the file at which its native pixels begin; None where pydicom must decode them.
        sop_class: UID.
        patient, study_uid, series_uid, sop_uid: identity; never printed.
        series_number: of the series, -1 where there is none.
        kind: ``"map"`` (or another sequence, by its name), ``"tiled"``, ``"b0"``, ``"trace"``, ``"computed"``,
            ``"directional"`` or ``"unknown"``.
        code: of a map: the code with which it is refused, else empty.
        b_value: s/mm2, where the header has one.
        position_mm, orientation: of the first pixel's centre and of row and column, LPS; empty where missing.
        spacing_mm: between rows, between columns; empty where missing.
        slope, inter: real value = slope * stored + inter.
        frame_of_reference: UID; never printed.
        pixels: how its pixels are stored.
        lossy: marked as having been compressed with loss.
        concatenation: UID of the object that this file is a part of, empty where it is whole; never printed.
        parts: how many files that object has at least; 0 where it is whole.
        description: of the series; for `lnfast.study.dicom.select` alone, never printed.
    """

    path: Path
    index: int
    offset: int | None
    sop_class: str
    patient: bytes = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_uid: str = field(repr=False)
    series_number: int
    kind: str
    code: str
    b_value: float | None
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slope: float
    inter: float
    frame_of_reference: str = field(repr=False)
    pixels: Pixels
    lossy: bool
    concatenation: str = field(default="", repr=False)
    parts: int = 0
    description: str = field(default="", repr=False)


def frame_of(path: Path, index: int, offset: int | None, elements: Elements) -> Frame:
    """The frame that elements describe.

    Args:
        path, index, offset: where it is.
        elements: of a classic file, or of an enhanced one with those of the shared and the frame's own functional
            groups; private ones as they are stored.
    """
    elements = tags.resolve_private(elements)
    b_value = _b_value(elements)
    kind, code = _kind(elements, b_value)
    return Frame(
        path=path,
        index=index,
        offset=offset,
        sop_class=tags.text(elements, tags.SOP_CLASS_UID),
        patient=elements.get(tags.PATIENT_ID, b"").strip(b" \0") + b"\n" + elements.get(tags.PATIENT_NAME, b"").strip(),
        study_uid=tags.text(elements, tags.STUDY_UID),
        series_uid=tags.text(elements, tags.SERIES_UID),
        sop_uid=tags.text(elements, tags.SOP_INSTANCE_UID),
        series_number=tags.integer(elements, tags.SERIES_NUMBER),
        kind=kind,
        code=code,
        b_value=b_value,
        position_mm=tags.numbers(elements, tags.IMAGE_POSITION),
        orientation=tags.numbers(elements, tags.IMAGE_ORIENTATION),
        spacing_mm=tags.numbers(elements, tags.PIXEL_SPACING),
        slope=_or(tags.number(elements, tags.RESCALE_SLOPE), 1.0),
        inter=_or(tags.number(elements, tags.RESCALE_INTERCEPT), 0.0),
        frame_of_reference=tags.text(elements, tags.FRAME_OF_REFERENCE_UID),
        pixels=Pixels(
            rows=tags.integer(elements, tags.ROWS),
            columns=tags.integer(elements, tags.COLUMNS),
            bits_allocated=tags.integer(elements, tags.BITS_ALLOCATED),
            bits_stored=tags.integer(elements, tags.BITS_STORED),
            high_bit=tags.integer(elements, tags.HIGH_BIT),
            representation=tags.integer(elements, tags.PIXEL_REPRESENTATION),
            samples=tags.integer(elements, tags.SAMPLES_PER_PIXEL, 1),
            photometric=tags.text(elements, tags.PHOTOMETRIC).upper(),
        ),
        lossy=tags.text(elements, tags.LOSSY_COMPRESSION) == "01",
        concatenation=tags.text(elements, tags.CONCATENATION_UID),
        parts=max(tags.integer(elements, tag, 0) for tag in (tags.CONCATENATION_NUMBER, tags.CONCATENATION_TOTAL)),
        description=tags.text(elements, tags.SERIES_DESCRIPTION),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _b_value(elements: Elements) -> float | None:
    """s/mm2: the standard's element, else the vendor's."""
    for tag in (tags.DIFFUSION_B_VALUE, tags.SIEMENS_B_VALUE, tags.GE_B_VALUE, tags.PHILIPS_B_VALUE, tags.UIH_B_VALUE):
        value = tags.number(elements, tag)
        if value is not None:
            value = value % _GE_BIAS if tag == tags.GE_B_VALUE else value
            return value if 0 <= value < 1e5 else None
    return None


def _types(elements: Elements) -> set[str]:
    return {word.upper() for tag in (tags.IMAGE_TYPE, tags.FRAME_TYPE) for word in tags.words(elements, tag)}


def _kind(elements: Elements, b_value: float | None) -> tuple[str, str]:
    """What the frame shows, and the code of its refusal where it is a map.

    A description only ever excludes: anybody may write anything there.
    """
    types = _types(elements)
    if types & _TILED:
        return "tiled", ""
    description = tags.text(elements, tags.SERIES_DESCRIPTION)
    if tags.number(elements, tags.GE_COLLAPSE_FLAG) in _GE_MAPS:
        return "map", "adc-map"
    if _DIFFUSIVITY.search(tags.text(elements, tags.RESCALE_TYPE).lower()):
        return "map", "adc-map"
    code = code_of_series(" ".join(sorted(types)), description or tags.text(elements, tags.PROTOCOL_NAME))
    if not code and (types & _REFORMATTED or tags.text(elements, tags.COMPLEX_COMPONENT).upper() not in _MAGNITUDE):
        code = "not-dwi"
    if code:
        return "map", code
    sequence = plain(tags.text(elements, tags.SEQUENCE_NAME))
    if any(_COMPUTED.search(plain(words)) for words in (description, *types)) or _RANGE_OF_B.search(sequence):
        return "computed", ""
    if b_value is not None and b_value < B0_BELOW:
        return "b0", ""
    if _is_trace(elements, types, sequence):
        return "trace", ""
    return ("directional" if _is_directional(elements) else "unknown"), ""


def _is_trace(elements: Elements, types: set[str], sequence: str) -> bool:
    directionality = tags.text(elements, tags.DIFFUSION_DIRECTIONALITY).upper()
    if directionality:
        return directionality == "ISOTROPIC"
    if types & _TRACE_TYPES or _TRACE_NAME.search(sequence):
        return True
    if tags.number(elements, tags.GE_DIRECTION) == 7 or tags.number(elements, tags.GE_COLLAPSE_FLAG) == _GE_TRACE:
        return True
    if tags.PHILIPS_DIRECTION in elements:
        return tags.text(elements, tags.PHILIPS_DIRECTION) == "I"
    gradient = [tags.number(elements, tag) for tag in tags.PHILIPS_GRADIENT]
    return None not in gradient and not any(gradient)


def _is_directional(elements: Elements) -> bool:
    directionality = tags.text(elements, tags.DIFFUSION_DIRECTIONALITY).upper()
    present = (tags.PHILIPS_DIRECTION, tags.GE_DIRECTION, tags.GRADIENT_ORIENTATION)
    return directionality in ("DIRECTIONAL", "BMATRIX") or any(tag in elements for tag in present)
