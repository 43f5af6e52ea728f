# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/components/outline.hpp."""

import numpy as np

from lnfast_ext import _check
from lnfast_ext._part cimport Part, part_of
from lnfast_ext._view cimport View3, logit_t, voxel_t

ctypedef unsigned short ushort

LONGEST_MM = 1e6  # sums of micrometres stay within 64 bits

cdef extern from "components/outline.hpp" namespace "lnfast::components" nogil:
    cdef cppclass OutlineLevels:
        double join, seed, sure
    Py_ssize_t _outline_nodes "lnfast::components::outline_nodes"[T, Logit](
        const View3[T]& image, const View3[Logit]& logits, const Part& part, const View3[ushort]& labels,
        Py_ssize_t count, const OutlineLevels& levels, const double* spacing_mm, double floor) except +
    void _number_nodes "lnfast::components::number_nodes"(const View3[ushort]& labels, Py_ssize_t count) except +


def outline_nodes(labels, count, image, logits, *, join, seed, sure, spacing_mm, floor=-np.inf, grid=None,
                  start=(0, 0, 0)):
    """Make nodes of marks, in place: take apart what holds several, and outline each at its half maximum.

    A mark with two or more seeds becomes as many nodes: each of its voxels goes to the seed that is nearest within the
    mark. A seed is 26-connected voxels, at least 3, whose logit exceeds `seed`, and that of one of them `sure`.

    A node is then outlined where the image is halfway between it (the 90th percentile of its voxels) and what surrounds
    it (the median of the pixels that lie 3 or 4 from it in its slices, and more than 2 from other nodes; at least 6), or
    at the median of its voxels if that is darker. A voxel beside it in its slice, or straight above or below, joins it
    if it is no darker, its logit exceeds `join`, at least 3 of its 8 neighbours in the slice are of the node, and it
    touches no other node. Of the node's own voxels those at its border (one of these ten neighbours is not of it) that
    are darker are taken away, unless their logit exceeds `sure` or the others enclose them in their slice. None is
    taken away if nothing would be left, or two parts of 3 voxels or more. A node that is no brighter than what
    surrounds it stays as it is.

    Args:
        labels: (z, y, x) uint16, any strides, writable; 1 to count, each 26-connected. Axis 0 counts
            slices.
        count: of the marks.
        image: the same shape, any voxel type.
        logits: (z, y, x) float32 or float16, any strides, on any grid with the same outer edges, interpolated as by
            threshold_resample; where they are missing, none exceeds anything.
        join, seed, sure: finite.
        spacing_mm: between voxels along z, y and x.
        floor: darker values of the image count as it.
        grid, start: logits holds the voxels from start on of a grid of this shape; None for logits as the whole grid.

    Returns:
        The number of nodes. In which order they are numbered is not said: see number_nodes.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, a label without voxels or outside 0 to count, labels that can not be written, a level
            or a spacing that is no number, a mark that is not connected, a part outside its grid, a node or its surroundings with NaN or infinity, or
            more than 65535 nodes; labels may be changed then.
    """
    _check.volume("labels", labels, ("uint16",), empty=True)
    _check.writable("labels", labels, contiguous=False)
    _check.volume("image", image, _check.VOXELS, empty=True)
    if image.shape != labels.shape:
        raise ValueError(f"image: got shape {image.shape}, wanted that of labels, {labels.shape}")
    _check.volume("logits", logits, ("float32", "float16"))
    grid, start = _check.part("logits", logits, grid, start)
    if not 0 <= count <= labels.size:
        raise ValueError(f"count: got {count}, wanted 0 to the number of voxels, {labels.size}")
    levels = [_check.finite(name, level) for name, level in (("join", join), ("seed", seed), ("sure", sure))]
    spacing = np.array([_check.finite("spacing_mm", length) for length in spacing_mm])
    if spacing.shape != (3,) or not ((spacing > 0) & (spacing < LONGEST_MM)).all():
        raise ValueError(f"spacing_mm: got {spacing.tolist()}, wanted three lengths above 0 and below {LONGEST_MM:g}")
    if labels.size == 0:
        return 0
    source = logits if logits.dtype == np.float32 else logits.view(np.uint16)
    return _outline_any(labels, count, image, source, grid, start, levels, spacing, float(floor))


def _outline_any(ushort[:, :, :] labels, Py_ssize_t count, const voxel_t[:, :, :] image,
                 const logit_t[:, :, :] logits, grid, start, levels, const double[::1] spacing, double floor):
    cdef View3[ushort] target
    cdef View3[voxel_t] source
    cdef View3[logit_t] answer
    cdef Part part = part_of(grid, start, logits.shape)
    cdef OutlineLevels limits
    cdef Py_ssize_t nodes
    target.bind(&labels[0, 0, 0], labels.shape, labels.strides)
    source.bind(&image[0, 0, 0], image.shape, image.strides)
    answer.bind(&logits[0, 0, 0], logits.shape, logits.strides)
    limits.join, limits.seed, limits.sure = levels
    with nogil:
        nodes = _outline_nodes(source, answer, part, target, count, limits, &spacing[0], floor)
    return nodes


def number_nodes(labels, count):
    """Number nodes anew, in place, in the raster order of their first voxels.

    Args:
        labels: (z, y, x) uint16, any strides, writable; 0 to count.
        count: of the nodes.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, labels that can not be written, or a label above count; labels are untouched then.
    """
    _check.volume("labels", labels, ("uint16",), empty=True)
    _check.writable("labels", labels, contiguous=False)
    if labels.size == 0:
        return
    if labels.max() > count:
        raise ValueError(f"labels: holds {labels.max()}, wanted 0 to count = {count}")
    _number_any(labels, count)


def _number_any(ushort[:, :, :] labels, Py_ssize_t count):
    cdef View3[ushort] view
    view.bind(&labels[0, 0, 0], labels.shape, labels.strides)
    with nogil:
        _number_nodes(view, count)
