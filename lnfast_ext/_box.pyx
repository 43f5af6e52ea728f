# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Border of src/cloud.hpp."""

import numpy as np

cdef extern from "cloud.hpp" namespace "lnfast" nogil:
    void _box "lnfast::min_volume_box"(
        const char* data, Py_ssize_t n, const Py_ssize_t* stride, double* centre, double* axes, double* extents) except +


def min_volume_box(points_mm):
    points = np.asarray(points_mm)
    if points.dtype.kind not in "fiu":
        raise TypeError(f"points_mm: got dtype {points.dtype.name}, wanted real numbers")
    if points.ndim != 2 or points.shape[1] != 3 or points.shape[0] == 0:
        raise ValueError(f"points_mm: got shape {points.shape}, wanted (n, 3) with n of at least 1")
    points = np.require(points, np.float64, "A")
    if not np.isfinite(points).all():
        raise ValueError("points_mm: holds non-finite values (NaN or infinity)")
    if np.abs(points).max() > 1e100:
        raise ValueError("points_mm: holds a coordinate beyond 1e100")
    centre, axes, extents = np.empty(3), np.empty((3, 3)), np.empty(3)
    cdef const double[:, :] source = points
    cdef double[::1] c = centre
    cdef double[:, ::1] a = axes
    cdef double[::1] e = extents
    with nogil:
        _box(<const char*> &source[0, 0], source.shape[0], source.strides, &c[0], &a[0, 0], &e[0])
    return centre, axes, extents
