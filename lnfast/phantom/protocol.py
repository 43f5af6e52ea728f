"""Scan protocols, and the oblique grid of one scan of one patient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lnfast.errors import UsageError
from lnfast.geometry import Grid


@dataclass(frozen=True)
class Protocol:
    """One DWI protocol.

    Attributes:
        name: short identifier; part of the phantom's seed.
        matrix_yx: pixels along (y, x), at least 8 each.
        field_of_view_yx_mm: edge-to-edge size along (y, x).
        slice_mm: slice thickness; slices lie without gap.
        slices: number of slices, at least 4.
        b_value: in s/mm2.
        te_ms: artefacts time.
        tr_ms: repetition time.

    Raises:
        UsageError: ``bad-protocol`` for a size or a time that no scan can have.
    """

    name: str
    matrix_yx: tuple[int, int]
    field_of_view_yx_mm: tuple[float, float]
    slice_mm: float
    slices: int
    b_value: float
    te_ms: float
    tr_ms: float

    def __post_init__(self) -> None:
        # 5 and 5.0 are one protocol, and its text is part of the seed.
        for name in ("slice_mm", "b_value", "te_ms", "tr_ms"):
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "field_of_view_yx_mm", tuple(float(value) for value in self.field_of_view_yx_mm))
        object.__setattr__(self, "matrix_yx", tuple(int(value) for value in self.matrix_yx))
        object.__setattr__(self, "slices", int(self.slices))
        sizes = (*self.field_of_view_yx_mm, self.slice_mm, self.tr_ms)
        valid = min(self.matrix_yx) >= 8 and self.slices >= 4 and all(0 < value < math.inf for value in sizes)
        # Beyond these no tissue has any signal left.
        if not (valid and 0 < self.te_ms <= 500 and 0 <= self.b_value <= 5000):
            raise UsageError(
                "bad-protocol",
                f"protocol {self.name!r}: wanted a matrix of at least 8x8, 4 slices, positive sizes and times, TE up "
                "to 500 ms, b from 0 to 5000 s/mm2",
            )


# Table 1 of the paper. It prints the field of view as 360 x 400 mm2 without saying which is which: a pelvis is wider
# than deep, so 360 mm is read as y (the phase-encoding direction of axial EPI) and 400 mm as x.
SCANNERS: dict[str, Protocol] = {
    "achieva": Protocol("achieva", (224, 224), (375.0, 375.0), 6.0, 24, 800.0, 54.0, 3400.0),
    "discovery": Protocol("discovery", (256, 256), (360.0, 400.0), 8.0, 25, 800.0, 60.0, 3000.0),
    "ingenia": Protocol("ingenia", (240, 240), (360.0, 400.0), 7.0, 28, 1000.0, 78.0, 4959.0),
}


def sample_grid(protocol: Protocol, centre_ras_mm: np.ndarray, tilt_rad: float) -> Grid:
    """Return the grid of a scan: x runs to the patient's left, y to the back, z to the head, tilted about the x axis.

    Args:
        protocol: matrix, field of view and slices.
        centre_ras_mm: (3,) the centre of the field.
        tilt_rad: positive leans the slices' normal backwards, as prostate protocols do.
    """
    (ny, nx), (fy, fx) = protocol.matrix_yx, protocol.field_of_view_yx_mm
    c, s = float(np.cos(tilt_rad)), float(np.sin(tilt_rad))
    affine = np.eye(4)
    affine[:3, 0] = np.array((-1.0, 0.0, 0.0)) * fx / nx
    affine[:3, 1] = np.array((0.0, -c, -s)) * fy / ny
    affine[:3, 2] = np.array((0.0, -s, c)) * protocol.slice_mm
    centre_index = (np.array((nx, ny, protocol.slices)) - 1) / 2
    affine[:3, 3] = centre_ras_mm - affine[:3, :3] @ centre_index
    return Grid((protocol.slices, ny, nx), affine)
