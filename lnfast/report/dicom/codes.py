"""The coded concepts of the objects that are written: SNOMED CT, DCM, UCUM, and lnfast's own scheme 99LNFAST."""

from __future__ import annotations

from typing import Any

from lnfast.study.dicom.packages import PYDICOM

SCHEME = "99LNFAST"
SCHEME_NAME = "lnfast private codes"

LYMPH_NODE = ("59441001", "SCT", "Lymph node")
PELVIC_LYMPH_NODE = ("54268001", "SCT", "Pelvic lymph node")
PELVIS = ("816092008", "SCT", "Pelvis")
ANATOMICAL_STRUCTURE = ("91723000", "SCT", "Anatomical Structure")
PROCEDURE = ("25056-3", "LN", "MRI unspecified body region")

VOLUME = ("118565006", "SCT", "Volume")
VOXEL_SUM = ("126030", "DCM", "Sum of segmented voxel volumes")
SHORT_AXIS = ("103340004", "SCT", "Short axis")
PERPENDICULAR_AXIS = ("131189007", "SCT", "Perpendicular axis")
LONG_AXIS = ("103339001", "SCT", "Long axis")
METHODS = {
    "box": ("LNF001", SCHEME, "Minimum-volume oriented bounding box"),
    "axial": ("LNF002", SCHEME, "Perpendicular to the longest in-plane diameter"),
    "ellipsoid": ("LNF003", SCHEME, "Ellipsoid with the moments of the network's probability"),
}
MILLIMETER = ("mm", "UCUM", "millimeter")
CUBIC_MILLIMETER = ("mm3", "UCUM", "cubic millimeter")
NO_UNITS = ("1", "UCUM", "no units")
SECONDS_PER_MM2 = ("s/mm2", "UCUM", "s/mm2")

SIZE_CRITERION = ("LNF010", SCHEME, "Short axis above the limit")
SUSPECTED = ("415684004", "SCT", "Suspected")
NORMAL = ("17621005", "SCT", "Normal")
SLICE_LIMITED = ("LNF011", SCHEME, "Short axis limited by the thickness of slices")
YES = ("373066001", "SCT", "Yes")
NO = ("373067005", "SCT", "No")

NUMBER_OF_LESIONS = ("246206008", "SCT", "Number of lesions")
B_VALUE = ("113240", "DCM", "Source image diffusion b-value")
COMMENT = ("121106", "DCM", "Comment")
STAGE = ("399534004", "SCT", "cN category")
STAGE_BY_RULE = {
    "box": ("LNF021", SCHEME, "cN category by the bounding box"),
    "axial": ("LNF022", SCHEME, "cN category by axial diameters"),
    "ellipsoid": ("LNF023", SCHEME, "cN category by the ellipsoid"),
}
STAGES = {
    "N0": ("1229967007", "SCT", "American Joint Committee on Cancer cN0"),
    "N1": ("1229973008", "SCT", "American Joint Committee on Cancer cN1"),
}


def code(triplet: tuple[str, str, str]) -> Any:
    """The coded entry of pydicom for value, scheme and meaning."""
    return PYDICOM.load("pydicom.sr.coding").Code(*triplet)
