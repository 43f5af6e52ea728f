# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/grid/statistics.hpp."""

import numpy as np

from lnfast_ext import _check
from lnfast_ext._view cimport View3, voxel_t

cdef extern from "grid/statistics.hpp" namespace "lnfast::grid" nogil:
    cdef cppclass Moments:
        double min, max, mean, std
    cdef cppclass Percentiles:
        const double* percents
        Py_ssize_t count
        double* out
        bint clipped
    Moments _intensity_statistics "lnfast::grid::intensity_statistics"[T](
        const View3[T]& volume, const Percentiles& requested, int threads) except +


def intensity_statistics(volume, percentiles=(0.5, 99.5), *, clipped=False, threads=0):
    """Return (min, max, mean, std, percentiles) of all voxels as float64: numpy's numbers on the exact same data.

    std is that of the population; percentiles are linear between ranks, as numpy.percentile's default.

    Args:
        volume: (z, y, x) of any integer or float type but float16, any strides.
        percentiles: numbers from 0 to 100, any order.
        clipped: mean and std are those of the voxels clipped to the lowest and the highest of the percentiles, so that
            a few stray voxels cannot move them.
        threads: 0 for one for each core; the result does not depend on it.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, no voxels, percentiles outside 0 to 100, or a non-finite voxel.
    """
    _check.volume("volume", volume, _check.VOXELS)
    percents = np.array(percentiles, dtype=np.float64, ndmin=1)
    if percents.ndim != 1 or not ((percents >= 0) & (percents <= 100)).all():
        raise ValueError(f"percentiles: got {percentiles}, wanted a sequence of numbers from 0 to 100")
    return _measure(volume, percents, clipped, _check.threads(threads))


def _measure(const voxel_t[:, :, :] volume, percents, bint clipped, int threads):
    result = np.empty(percents.size)
    cdef const double[::1] percent_view = percents
    cdef double[::1] out = result
    cdef Percentiles requested
    requested.count, requested.clipped = percent_view.shape[0], clipped
    requested.percents = &percent_view[0] if requested.count else NULL
    requested.out = &out[0] if requested.count else NULL
    cdef View3[voxel_t] view
    view.bind(&volume[0, 0, 0], volume.shape, volume.strides)
    cdef Moments moments
    with nogil:
        moments = _intensity_statistics(view, requested, threads)
    return moments.min, moments.max, moments.mean, moments.std, result
