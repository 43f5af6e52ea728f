# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/obb/min_volume_box.hpp."""

import numpy as np

cdef extern from "obb/min_volume_box.hpp" namespace "lnfast::obb" nogil:
    void _box "lnfast::obb::min_volume_box"(
        const char* data, Py_ssize_t n, const Py_ssize_t* stride,
        double* centre, double* axes, double* extents) except +


def min_volume_box(points_mm):
    """Return the exact minimum-volume bounding box of a set of points.

    Source: O'Rourke, "Finding minimal enclosing boxes", 1985: two adjacent faces of some smallest box are each flush with
    an edge of the convex hull. All pairs of hull edges are searched, each over the whole interval on which both can be
    flush. An edge, or an interval, is pruned only when a lower bound proves that it holds no smaller box (width times
    projected area for an edge; the Bernstein coefficients of a quartic for an interval, whichever vertices support it);
    otherwise every stationary point and every change of supporting vertices on it is evaluated. So no rotation gives a
    volume smaller than this one by more than a fraction of 1e-9; the rest is rounding, which in practice is 1e-11. One
    limit: an interval that is still open after 500 splits is abandoned with the best box found on it. The limit exists
    for needles, where rounding alone would require splits without end.

    The hull is exact on a lattice of 2^40 steps along each of the set's own axes. What is less than 16 steps (1.5e-11 of
    the set) counts as rounding: points that stick out by less are left out; edges that bend by less than 5e-11 rad open
    no interval. The returned extents and centre are measured on all points as they are.
    Of several smallest boxes (to 1e-9) the one with the shortest short edge, then the shortest middle edge, is returned,
    so that extents do not depend on the frame.

    With E hull edges the work is E^2 vector operations and, for a rounded body, about E^1.5 bounds: 0.1 ms for E = 50,
    some ms for E = 700, half a second for E = 12000. Prisms and cones with thousands of sides need E^2 bounds: seconds.

    Flat, collinear and single-point sets (to 64 ulp of the largest coordinate) are ordinary: their missing extents are
    exactly 0, and a flat set gets its least rectangle.

    Args:
        points_mm: (n, 3) real numbers, n at least 1.

    Returns:
        centre (3,); axes (3, 3), rows unit, right-handed, each of the first two with its largest component positive;
        extents (3,), ascending, matched to the rows. All float64.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape, no points, or coordinates that are not finite or beyond 1e100.
    """
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
