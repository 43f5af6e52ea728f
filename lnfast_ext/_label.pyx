# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Border of src/label.hpp."""

import numpy as np

from lnfast_ext import _check
from lnfast_ext._view cimport View3, integer_t

cdef extern from "label.hpp" namespace "lnfast" nogil:
    int _label "lnfast::label_components"[T, Label](
        const View3[T]& mask, const View3[Label]& out, int connectivity, bint out_is_zero) except +


def label_components(mask, out=None, *, connectivity=26):
    """Label connected components; return (labels, count).

    Labels 1 to count follow the raster order of each component's first voxel, exactly as scipy.ndimage.label.

    Args:
        mask: (z, y, x) bool or integers, any strides; what is not 0 is foreground.
        out: int32 or uint32 of the mask's shape, any strides, written and returned; None allocates int32. May be mask.
        connectivity: 6 (faces), 18 (and edges) or 26 (and corners).

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, an output that can not be written, or another connectivity.
    """
    _check.volume("mask", mask, ("bool", *_check.INTEGERS), empty=True)
    if connectivity not in (6, 18, 26):
        raise ValueError(f"connectivity: got {connectivity}, wanted 6, 18 or 26")
    fresh = out is None
    if fresh:
        out = np.zeros(mask.shape, dtype=np.int32)
    _check.volume("out", out, ("int32", "uint32"), empty=True)
    _check.writable("out", out, contiguous=False)
    if out.shape != mask.shape:
        raise ValueError(f"out: got shape {out.shape}, wanted the mask's {mask.shape}")
    if mask.size == 0:
        return out, 0
    source = mask.view(np.uint8) if mask.dtype == np.bool_ else mask
    return out, _into(source, out.view(np.int32), connectivity, fresh)


def _into(const integer_t[:, :, :] mask, int[:, :, :] out, int connectivity, bint out_is_zero):
    cdef View3[integer_t] source
    source.look_at(&mask[0, 0, 0], mask.shape, mask.strides)
    cdef View3[int] target
    target.look_at(&out[0, 0, 0], out.shape, out.strides)
    cdef int count
    with nogil:
        count = _label(source, target, connectivity, out_is_zero)
    return count
