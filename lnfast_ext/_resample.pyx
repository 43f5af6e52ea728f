# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/grid/resample.hpp and src/grid/threshold.hpp."""

import numpy as np

from lnfast_ext import _check
from lnfast_ext._part cimport Part, part_of
from lnfast_ext._view cimport View3, logit_t, voxel_t

ctypedef unsigned char uchar

cdef extern from "grid/resample.hpp" namespace "lnfast::grid" nogil:
    cdef cppclass IntensityWindow:
        double lo, hi, shift, scale
    void _resample_normalize "lnfast::grid::resample_normalize"[T, Out](
        const View3[T]& volume, const View3[Out]& out, const Part& part, const IntensityWindow& window, int threads) except +

cdef extern from "grid/threshold.hpp" namespace "lnfast::grid" nogil:
    cdef cppclass Thresholded:
        bint finite
        Py_ssize_t ones
    Thresholded _threshold_resample "lnfast::grid::threshold_resample"[T](
        const View3[T]& logits, const Part& part, const View3[uchar]& out, double level, int threads) except +


def resample_normalize(volume, out, *, lo, hi, shift, scale, grid=None, start=(0, 0, 0), threads=0):
    """Write (clip(volume, lo, hi) - shift) * scale, resampled to a grid, into out, which is the grid or a part of it.

    Clipped before interpolation; trilinear, half-pixel centres (outer edges coincide, as torch's align_corners=False),
    edges clamped. The window is applied in float64, interpolation is float32, float16 is rounded to nearest even.
    The result does not depend on threads, and a part has the bits of the same part of the whole. NaN stays NaN; results
    beyond 1e38 may overflow.

    Args:
        volume: (z, y, x) of any integer or float type but float16, any strides, at least one voxel.
        out: (z, y, x) float32 or float16, C-contiguous and writable; any shape; shares no memory with volume.
        lo, hi: window in units of volume; infinities switch a side off.
        shift, scale: in units of volume and its inverse.
        grid, start: out holds the voxels from start on of a grid of this shape; None for out as the whole grid.
        threads: 0 for one for each core.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, an output that can not be written, an empty window, or a part outside its grid.
    """
    _check.volume("volume", volume, _check.VOXELS)
    _check.volume("out", out, ("float32", "float16"), empty=True)
    _check.writable("out", out, contiguous=True)
    shift, scale = _check.finite("shift", shift), _check.finite("scale", scale)
    if not float(lo) <= float(hi):
        raise ValueError(f"lo, hi: got {lo}, {hi}, wanted lo <= hi")
    grid, start = _check.part("out", out, grid, start)
    count = _check.threads(threads)
    if out.size != 0:
        target = out if out.dtype == np.float32 else out.view(np.uint16)
        _normalize_any(volume, target, grid, start, float(lo), float(hi), shift, scale, count)


def _normalize_any(const voxel_t[:, :, :] volume, logit_t[:, :, :] out, grid, start, double lo, double hi,
                   double shift, double scale, int threads):
    cdef View3[voxel_t] source
    cdef View3[logit_t] target
    cdef Part part = part_of(grid, start, out.shape)
    cdef IntensityWindow window
    source.bind(&volume[0, 0, 0], volume.shape, volume.strides)
    target.bind(&out[0, 0, 0], out.shape, out.strides)
    window.lo, window.hi, window.shift, window.scale = lo, hi, shift, scale
    with nogil:
        _resample_normalize(source, target, part, window, threads)


def threshold_resample(logits, out, level, *, grid=None, start=(0, 0, 0), threads=0):
    """Write 1 into out where the interpolated logit is greater than level, else 0; return the number of ones.

    A logit equal to level gives 0. Trilinear as resample_normalize, in float64 and in a fixed order (x, y, z), so the
    mask depends neither on threads nor on strides. Where logits are a part of their grid, a voxel of out that would also
    need logits beyond the part (with a weight that is not 0) is 0, and every other one is as from the whole grid.

    Args:
        logits: (z, y, x) float32 or float16, any strides, at least one voxel.
        out: (z, y, x) uint8, any strides, writable; any shape; shares no memory with logits.
        level: finite.
        grid, start: logits holds the voxels from start on of a grid of this shape; None for logits as the whole grid.
        threads: 0 for one for each core.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, an output that can not be written, a part outside its grid, or any non-finite logit
            (out is untouched then).
    """
    _check.volume("logits", logits, ("float32", "float16"))
    _check.volume("out", out, ("uint8",), empty=True)
    _check.writable("out", out, contiguous=False)
    grid, start = _check.part("logits", logits, grid, start)
    source = logits if logits.dtype == np.float32 else logits.view(np.uint16)
    return _threshold_any(source, grid, start, out, _check.finite("level", level), _check.threads(threads))


def _threshold_any(const logit_t[:, :, :] logits, grid, start, unsigned char[:, :, :] out, double level, int threads):
    cdef View3[logit_t] source
    cdef View3[uchar] target
    cdef Part part = part_of(grid, start, logits.shape)
    cdef Thresholded result
    source.bind(&logits[0, 0, 0], logits.shape, logits.strides)
    cdef bint empty = out.shape[0] == 0 or out.shape[1] == 0 or out.shape[2] == 0
    target.bind(NULL if empty else &out[0, 0, 0], out.shape, out.strides)
    with nogil:
        result = _threshold_resample(source, part, target, level, threads)
    if not result.finite:
        raise ValueError("logits: holds non-finite values (NaN or infinity)")
    return result.ones
