"""What the node speaks: SOP classes and transfer syntaxes of each service, in both roles.

`lnfast.node.conformance` prints these tables, and receiver and client negotiate by them: there is no other list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lnfast.study.dicom.frames import ENHANCED_MR_IMAGE, MR_IMAGE

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS_UID = "2.25.186217339188878339442356279448952593705"  # made once, by chance
MOST_PDU_BYTES = 128 << 10
"""The longest PDU that the node announces to take and sends."""

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Uid:
    """A UID of the standard with its name there."""

    name: str
    uid: str


@dataclass(frozen=True)
class Context:
    """A SOP class, and the transfer syntaxes that are taken or proposed for it, the preferred first."""

    sop_class: Uid
    syntaxes: tuple[Uid, ...]


EXPLICIT = Uid("Explicit VR Little Endian", EXPLICIT_LITTLE_ENDIAN)
IMPLICIT = Uid("Implicit VR Little Endian", IMPLICIT_LITTLE_ENDIAN)
NATIVE = (EXPLICIT, IMPLICIT)
# Without loss, and readable by `lnfast.study.dicom`. Not deflated: it is a bomb; not big endian: it is retired.
COMPRESSED = (
    Uid("JPEG-LS Lossless Image Compression", "1.2.840.10008.1.2.4.80"),
    Uid("JPEG 2000 Image Compression (Lossless Only)", "1.2.840.10008.1.2.4.90"),
    Uid("RLE Lossless", "1.2.840.10008.1.2.5"),
)

VERIFICATION = Uid("Verification", "1.2.840.10008.1.1")
KEPT = (Uid("MR Image Storage", MR_IMAGE), Uid("Enhanced MR Image Storage", ENHANCED_MR_IMAGE))
"""What the node analyses."""

_STORAGE = "1.2.840.10008.5.1.4.1.1"
DROPPED = (
    Uid("MR Spectroscopy Storage", f"{_STORAGE}.4.2"),
    Uid("Enhanced MR Color Image Storage", f"{_STORAGE}.4.3"),
    Uid("Legacy Converted Enhanced MR Image Storage", f"{_STORAGE}.4.4"),
    Uid("Secondary Capture Image Storage", f"{_STORAGE}.7"),
    Uid("Multi-frame Single Bit Secondary Capture Image Storage", f"{_STORAGE}.7.1"),
    Uid("Multi-frame Grayscale Byte Secondary Capture Image Storage", f"{_STORAGE}.7.2"),
    Uid("Multi-frame Grayscale Word Secondary Capture Image Storage", f"{_STORAGE}.7.3"),
    Uid("Multi-frame True Color Secondary Capture Image Storage", f"{_STORAGE}.7.4"),
    Uid("Grayscale Softcopy Presentation State Storage", f"{_STORAGE}.11.1"),
    Uid("Color Softcopy Presentation State Storage", f"{_STORAGE}.11.2"),
    Uid("Pseudo-Color Softcopy Presentation State Storage", f"{_STORAGE}.11.3"),
    Uid("Blending Softcopy Presentation State Storage", f"{_STORAGE}.11.4"),
    Uid("Advanced Blending Presentation State Storage", f"{_STORAGE}.11.8"),
    Uid("Parametric Map Storage", f"{_STORAGE}.30"),
    Uid("Raw Data Storage", f"{_STORAGE}.66"),
    Uid("Spatial Registration Storage", f"{_STORAGE}.66.1"),
    Uid("Spatial Fiducials Storage", f"{_STORAGE}.66.2"),
    Uid("Segmentation Storage", f"{_STORAGE}.66.4"),
    Uid("Real World Value Mapping Storage", f"{_STORAGE}.67"),
    Uid("Basic Text SR Storage", f"{_STORAGE}.88.11"),
    Uid("Enhanced SR Storage", f"{_STORAGE}.88.22"),
    Uid("Comprehensive SR Storage", f"{_STORAGE}.88.33"),
    Uid("Comprehensive 3D SR Storage", f"{_STORAGE}.88.34"),
    Uid("Procedure Log Storage", f"{_STORAGE}.88.40"),
    Uid("Key Object Selection Document Storage", f"{_STORAGE}.88.59"),
    Uid("Encapsulated PDF Storage", f"{_STORAGE}.104.1"),
)
"""What else belongs to an MR study: accepted and thrown away, so that the scanner does not count its job as failed."""

SEGMENTATION = Uid("Segmentation Storage", f"{_STORAGE}.66.4")
COMPREHENSIVE_SR = Uid("Comprehensive SR Storage", f"{_STORAGE}.88.33")

OFFERED = (
    Context(VERIFICATION, (IMPLICIT,)),
    Context(SEGMENTATION, NATIVE),
    Context(COMPREHENSIVE_SR, NATIVE),
)
"""What the node proposes to a target, each syntax in a context of its own: that in which it wrote the object is sent as
it is, and the default one (PS3.5 10.1) is written anew for a target that takes no other."""


def accepted(others: Literal["drop", "refuse"]) -> tuple[Context, ...]:
    """Return what the receiver accepts.

    Args:
        others: of ``[receive]``; with ``refuse`` only what is kept.
    """
    kept = [Context(sop_class, NATIVE + COMPRESSED) for sop_class in KEPT]
    dropped = [Context(sop_class, NATIVE + COMPRESSED) for sop_class in DROPPED] if others == "drop" else []
    return (Context(VERIFICATION, NATIVE), *kept, *dropped)


def implementation_version() -> str:
    """Return the Implementation Version Name of association and files, of at most 16 characters."""
    from lnfast._version import __version__

    return f"LNFAST {__version__}"[:16].rstrip(" .+")
