"""Lymph nodes: their shapes, the stations they lie at, their placement on the voxel grid, and their signal."""

from __future__ import annotations
