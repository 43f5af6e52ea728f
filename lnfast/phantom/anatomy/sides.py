"""The two sides of the pelvis: name, and the sign of x in atlas coordinates."""

from __future__ import annotations

SIDES = (("right", 1.0), ("left", -1.0))
