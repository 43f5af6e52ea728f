# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/grid/body_statistics.hpp."""

import numpy as np
from libcpp.vector cimport vector

from lnfast_ext import _check
from lnfast_ext._records import BodyStatistics
from lnfast_ext._view cimport View3, voxel_t

cdef extern from "grid/body_statistics.hpp" namespace "lnfast::grid" nogil:
    cdef cppclass Statistics "lnfast::grid::BodyStatistics":
        double floor, tissue, level, spread
        double low, median, high
        double darkest_cells, central_cells
        double body, bright
        Py_ssize_t voxels, greys, bright_patch, saturated
    cdef cppclass PaddingValue:
        double value
        Py_ssize_t voxels
        bint at_rim
    Statistics _body_statistics "lnfast::grid::body_statistics"[T](
        const View3[T]& volume, int threads, vector[PaddingValue]& padding) except +


def body_statistics(volume, *, threads=0):
    """Return how bright the patient is, whatever lies around him, as a `BodyStatistics`.

    Padding, flares and pile-ups in a tenth of the voxels hardly move these numbers. Nothing changes under
    ``slope * v + inter`` with a positive slope but the units.

    Padding is a value of at least 64 and 0.05 % of the voxels, half of which or more lie in runs along x of eight and
    more, or of any length at the ends of rows; and it lies below the 2nd percentile of all other voxels, or at the ends
    of rows for the most part. The cells are means of 4 x 4 pixels over about eight slices, of voxels that are
    no padding, each clipped to ``floor`` and to the 80th percentile and seven times its height.

    Args:
        volume: (z, y, x) of any integer or float type but float16, any strides; x runs from side to side.
        threads: 0 for one for each core; the result does not depend on it.

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, no voxels, or a non-finite voxel.
    """
    _check.volume("volume", volume, _check.VOXELS)
    return _measure(volume, _check.threads(threads))


def _measure(const voxel_t[:, :, :] volume, int threads):
    cdef View3[voxel_t] view
    cdef vector[PaddingValue] padding
    cdef Statistics body
    view.bind(&volume[0, 0, 0], volume.shape, volume.strides)
    with nogil:
        body = _body_statistics(view, threads, padding)
    return BodyStatistics(
        body.floor, body.tissue, body.level, body.spread, body.low, body.median, body.high, body.darkest_cells, body.central_cells,
        body.body, body.bright, body.bright_patch, body.saturated, body.voxels, body.greys,
        np.array([value.value for value in padding], dtype=np.float64),
        np.array([value.voxels for value in padding], dtype=np.int64),
        np.array([value.at_rim for value in padding], dtype=np.bool_),
    )
