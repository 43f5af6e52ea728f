"""Lymph node stations: how frequent nodes are at each, and the vessel along which they lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy.vessels import iliac_vessels

# Share of the placements attempted at each station.
STATIONS = {"common iliac": 0.11, "external iliac": 0.33, "internal iliac": 0.13, "obturator": 0.18, "inguinal": 0.25}


def station_path(station: str, s: float) -> tuple[NDArray[np.float64], float]:
    """Return the line (n, 3) in atlas mm along which a station's nodes lie on a side, and its vessel's radius in mm."""
    common, external, internal, obturator = iliac_vessels(s)
    if station == "inguinal":
        return np.array([(s * 82, 62, 2), (s * 74, 68, -22), (s * 72, 64, -70)]), 1.0
    path, radius = {
        "common iliac": common,
        "external iliac": external,
        "internal iliac": internal,
        "obturator": obturator,
    }[station]
    points = np.array(path, dtype=np.float64)
    return (points[:-1] if station == "external iliac" else points), radius
