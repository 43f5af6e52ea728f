# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Border of src/resample.hpp and src/threshold.hpp."""

import numpy as np

from lnfast_ext import _check
from lnfast_ext._view cimport View3, logit_t, voxel_t

ctypedef unsigned char uchar

cdef extern from "resample.hpp" namespace "lnfast" nogil:
    cdef cppclass Window:
        double lo, hi, shift, scale
    void _normalize "lnfast::resample_normalize"[T, Out](
        const View3[T]& volume, const View3[Out]& out, const Window& window, int threads) except +

cdef extern from "threshold.hpp" namespace "lnfast" nogil:
    cdef cppclass Thresholded:
        bint finite
        Py_ssize_t ones
    Thresholded _threshold "lnfast::threshold_resample"[T](
        const View3[T]& logits, const View3[uchar]& out, double level, int threads) except +


def resample_normalize(volume, out, *, lo, hi, shift, scale, threads=0):
    """Write (clip(volume, lo, hi) - shift) * scale, resampled to the shape of out, into out.

    Clipped before interpolation; trilinear, half-pixel centres (outer edges coincide, as torch's align_corners=False),
    edges clamped. The window is applied in float64, interpolation is float32, float16 is rounded to nearest even.
    The result does not depend on threads. NaN stays NaN; results beyond 1e38 may overflow.

    Args:
        volume: (z, y, x) of any integer or float type but float16, any strides, at least one voxel.
        out: (z, y, x) float32 or float16, C-contiguous and writable; any shape; shares no memory with volume.
        lo, hi: window in units of volume; infinities switch a side off.
        shift, scale: in units of volume and its inverse.
        threads: 0 for one for each core.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, an output that can not be written, or a window that is none.
    """
    _check.volume("volume", volume, _check.VOXELS)
    _check.volume("out", out, ("float32", "float16"), empty=True)
    _check.writable("out", out, contiguous=True)
    shift, scale = _check.finite("shift", shift), _check.finite("scale", scale)
    if not float(lo) <= float(hi):
        raise ValueError(f"lo, hi: got {lo}, {hi}, wanted lo <= hi")
    count = _check.threads(threads)
    if out.size != 0:
        target = out if out.dtype == np.float32 else out.view(np.uint16)
        _normalize_any(volume, target, float(lo), float(hi), shift, scale, count)


def _normalize_any(const voxel_t[:, :, :] volume, logit_t[:, :, :] out, double lo, double hi, double shift,
                   double scale, int threads):
    cdef View3[voxel_t] source
    cdef View3[logit_t] target
    cdef Window window
    source.look_at(&volume[0, 0, 0], volume.shape, volume.strides)
    target.look_at(&out[0, 0, 0], out.shape, out.strides)
    window.lo, window.hi, window.shift, window.scale = lo, hi, shift, scale
    with nogil:
        _normalize(source, target, window, threads)


def threshold_resample(logits, out, level, *, threads=0):
    """Write 1 into out where the interpolated logit is greater than level, else 0; return the count of ones.

    A logit equal to level gives 0. Trilinear as resample_normalize, in float64 and in a fixed order (x, y, z), so the
    mask depends neither on threads nor on strides.

    Args:
        logits: (z, y, x) float32 or float16, any strides, at least one voxel.
        out: (z, y, x) uint8, any strides, writable; any shape; shares no memory with logits.
        level: finite.
        threads: 0 for one for each core.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, an output that can not be written, or any non-finite logit (out is untouched then).
    """
    _check.volume("logits", logits, ("float32", "float16"))
    _check.volume("out", out, ("uint8",), empty=True)
    _check.writable("out", out, contiguous=False)
    source = logits if logits.dtype == np.float32 else logits.view(np.uint16)
    return _threshold_any(source, out, _check.finite("level", level), _check.threads(threads))


def _threshold_any(const logit_t[:, :, :] logits, unsigned char[:, :, :] out, double level, int threads):
    cdef View3[logit_t] source
    cdef View3[uchar] target
    cdef Thresholded done
    source.look_at(&logits[0, 0, 0], logits.shape, logits.strides)
    cdef bint empty = out.shape[0] == 0 or out.shape[1] == 0 or out.shape[2] == 0
    target.look_at(NULL if empty else &out[0, 0, 0], out.shape, out.strides)
    with nogil:
        done = _threshold(source, target, level, threads)
    if not done.finite:
        raise ValueError("logits: holds non-finite values (NaN or infinity)")
    return done.ones
