"""Where the field of view lies in the pelvis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.atlas import AtlasTransform
from lnfast.phantom.nodes.stations import STATIONS, station_path
from lnfast.phantom.protocol import Protocol

# Atlas mm; beyond these the centre of a field leaves the pelvis.
LOWEST, HIGHEST = np.array((-90.0, -40.0, -75.0)), np.array((90.0, 50.0, 100.0))


def usual_centre(protocol: Protocol, transform: AtlasTransform, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the centre of a field in RAS mm (3,): mid-pelvis for a staging scan, the prostate for a thin stack."""
    height = 22.0 if protocol.slices * protocol.slice_mm > 110 else -4.0
    return transform.to_ras(np.array((0.0, -4.0, height)) + rng.normal(0, (6.0, 6.0, 7.0)))


def any_centre(protocol: Protocol, transform: AtlasTransform, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the centre of a field in RAS mm (3,) that has a station's nodes at its middle or near its edge."""
    station = str(rng.choice(list(STATIONS)))
    path, _ = station_path(station, SIDES[rng.integers(2)][1])
    i = int(rng.integers(len(path) - 1))
    point = path[i] + rng.random() * (path[i + 1] - path[i])
    fy, fx = protocol.field_of_view_yx_mm
    size = np.array((fx, fy, protocol.slices * protocol.slice_mm))
    shift = rng.uniform(-1, 1, 3) * (0.45, 0.2, 0.45) * size
    return transform.to_ras(np.clip(point + shift, LOWEST, HIGHEST))
