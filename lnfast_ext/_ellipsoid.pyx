# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/components/ellipsoid.hpp."""

import numpy as np
from libc.stdint cimport int32_t

from lnfast_ext import _check
from lnfast_ext._part cimport Part, part_of
from lnfast_ext._view cimport View3, integer_t, logit_t

ctypedef fused real_t:
    float
    double

cdef extern from "components/ellipsoid.hpp" namespace "lnfast::components" nogil:
    void _ellipsoid_short_axes "lnfast::components::ellipsoid_short_axes"[Label, Logit](
        const View3[Label]& labels, const int32_t* bounds, Py_ssize_t count, const View3[Logit]& logits,
        const Part& part, const double* affine, double* out) except +
    double _equivalent_short_axis "lnfast::components::equivalent_short_axis"[Real](
        const View3[Real]& weights, const double* step)


def ellipsoid_short_axes(labels, bounds_zyx, logits, affine, *, grid=None, start=(0, 0, 0)):
    """Return the short axis of each node's ellipsoid: the solid one with the second moments of its probability.

    A voxel of the logits counts as a solid block with the weight 1 / (1 + exp(-logit)) where it is the node's own or one
    of the 26 neighbours of such a voxel. It is the node's own when its centre lies in one of the node's voxels, or when it
    contains the centre of one. Another node's own voxels do not count, and what touches two nodes and belongs to neither
    counts half.

    Args:
        labels: (z, y, x) integers, any strides; node i + 1 has a voxel within bounds_zyx[i] and none outside.
        bounds_zyx: (n, 3, 2) whole numbers, first voxel and one past the last, as measure_components returns them.
        logits: (z, y, x) float32 or float16 on any grid with the same outer edges.
        affine: (4, 4), voxel-centre index (x, y, z, 1) of labels -> RAS+ mm.
        grid, start: logits holds the voxels from start on of a grid of this shape; None for logits as the whole grid.
            Voxels beyond it do not count.

    Returns:
        (n,) float64, mm; NaN for a node whose weights are all 0.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, bounds outside labels, a singular or non-finite affine, or a part outside its grid.
    """
    _check.volume("labels", labels, _check.INTEGERS)
    _check.volume("logits", logits, ("float32", "float16"))
    grid, start = _check.part("logits", logits, grid, start)
    matrix = _check.affine(affine)
    bounds = np.asarray(bounds_zyx)
    if bounds.size == 0:
        return np.zeros(0)
    if bounds.dtype.kind not in "iu":
        raise TypeError(f"bounds_zyx: got dtype {bounds.dtype.name}, wanted whole numbers")
    if bounds.shape[1:] != (3, 2):
        raise ValueError(f"bounds_zyx: got shape {bounds.shape}, wanted (n, 3, 2)")
    first, past = bounds[:, :, 0], bounds[:, :, 1]
    if not ((first >= 0) & (first < past) & (past <= labels.shape)).all() or max(labels.shape) > _check.LONGEST:
        raise ValueError(f"bounds_zyx: reach beyond labels of shape {labels.shape}, or enclose no voxel")
    out = np.empty(len(bounds))
    source = logits if logits.dtype == np.float32 else logits.view(np.uint16)
    _measure_any(labels, np.ascontiguousarray(bounds.reshape(-1, 6), np.int32), source, grid, start, matrix, out)
    return out


def _measure_any(const integer_t[:, :, :] labels, const int32_t[:, ::1] bounds, const logit_t[:, :, :] logits, grid, start,
                 const double[:, ::1] affine, double[::1] out):
    cdef View3[integer_t] nodes
    cdef View3[logit_t] answer
    cdef Part part = part_of(grid, start, logits.shape)
    nodes.bind(&labels[0, 0, 0], labels.shape, labels.strides)
    answer.bind(&logits[0, 0, 0], logits.shape, logits.strides)
    with nogil:
        _ellipsoid_short_axes(nodes, &bounds[0, 0], bounds.shape[0], answer, part, &affine[0, 0], &out[0])


def equivalent_short_axis(weights, step_mm):
    """Return the short axis of the solid ellipsoid with the second moments of voxels as solid blocks.

    Args:
        weights: (z, y, x) float32 or float64, not negative: how much of each voxel counts.
        step_mm: (3, 3), whose columns are the edges of a voxel along x, y and z.

    Returns:
        Millimetres; NaN where all weights are 0.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, or a step that is not finite.
    """
    _check.volume("weights", weights, ("float32", "float64"))
    edges = np.array(step_mm, np.float64, order="C")
    if edges.shape != (3, 3) or not np.isfinite(edges).all():
        raise ValueError(f"step_mm: got {edges.tolist()}, wanted (3, 3) finite numbers")
    return _equivalent_any(weights, edges)


def _equivalent_any(const real_t[:, :, :] weights, const double[:, ::1] step):
    cdef View3[real_t] view
    cdef double short_mm
    view.bind(&weights[0, 0, 0], weights.shape, weights.strides)
    with nogil:
        short_mm = _equivalent_short_axis(view, &step[0, 0])
    return short_mm
