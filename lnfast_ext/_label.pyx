# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/components/label.hpp."""

import numpy as np

from lnfast_ext import _check
from lnfast_ext._view cimport View3

ctypedef fused mask_t:
    unsigned char
    unsigned short
    unsigned int
    unsigned long long

ctypedef fused label_t:
    unsigned short
    unsigned int

cdef extern from "components/label.hpp" namespace "lnfast::components" nogil:
    CComponents _find_components "lnfast::components::find_components"[T](
        const View3[T]& mask, int connectivity) except +
    void _write_labels "lnfast::components::write_labels"[Label](
        const CComponents& components, const View3[Label]& out, bint out_is_zero) except +


cdef class Components:
    """The connected components of a mask as runs of voxels, without a label map.

    measure_components takes it in place of labels, where only the nodes are needed.

    Args:
        mask: (z, y, x) bool or integers, any strides; what is not 0 is foreground. Read once, not stored.
        connectivity: 6 (faces), 18 (and edges) or 26 (and corners).

    Attributes:
        shape: of the mask.
        count: number of components. They are numbered 1 to count in the raster order of their first voxels, exactly as
            scipy.ndimage.label.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape or another connectivity.
    """

    def __init__(self, mask, *, connectivity=26):
        _check.volume("mask", mask, ("bool", *_check.INTEGERS), empty=True)
        if connectivity not in (6, 18, 26):
            raise ValueError(f"connectivity: got {connectivity}, wanted 6, 18 or 26")
        self.shape = mask.shape
        if mask.size != 0:
            self._find(mask.view(f"u{mask.dtype.itemsize}"), connectivity)

    def _find(self, const mask_t[:, :, :] mask, int connectivity):
        cdef View3[mask_t] view
        view.bind(&mask[0, 0, 0], mask.shape, mask.strides)
        with nogil:
            self.components = _find_components(view, connectivity)

    @property
    def count(self):
        return self.components.count()

    def label(self, out=None):
        """Write the labels into out and return it.

        Args:
            out: int32, uint32 or uint16 of the mask's shape, any strides; None allocates int32. May be the mask.

        Raises:
            TypeError: wrong type of array.
            ValueError: wrong shape, an output that can not be written, or more components than uint16 can number; out
                is untouched then.
        """
        allocated = out is None
        if allocated:
            out = np.zeros(self.shape, dtype=np.int32)
        _check.volume("out", out, ("int32", "uint32", "uint16"), empty=True)
        _check.writable("out", out, contiguous=False)
        if out.shape != self.shape:
            raise ValueError(f"out: got shape {out.shape}, wanted the mask's {self.shape}")
        if out.size != 0:
            self._write(out if out.dtype == np.uint16 else out.view(np.uint32), allocated)
        return out

    def _write(self, label_t[:, :, :] out, bint out_is_zero):
        cdef View3[label_t] view
        view.bind(&out[0, 0, 0], out.shape, out.strides)
        with nogil:
            _write_labels(self.components, view, out_is_zero)


def label_components(mask, out=None, *, connectivity=26):
    """Label connected components; return (labels, count).

    Labels 1 to count follow the raster order of each component's first voxel, exactly as scipy.ndimage.label.

    Args:
        mask: (z, y, x) bool or integers, any strides; what is not 0 is foreground.
        out: int32, uint32 or uint16 of the mask's shape, any strides, written and returned; None allocates int32. May
            be mask.
        connectivity: 6 (faces), 18 (and edges) or 26 (and corners).

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, an output that can not be written, another connectivity, or more components than
            uint16 can number; out is untouched then.
    """
    components = Components(mask, connectivity=connectivity)
    return components.label(out), components.count
