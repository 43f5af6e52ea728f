# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Bindings of src/components/measure.hpp and src/components/means.hpp."""

import math

import numpy as np

from lnfast_ext import _check
from lnfast_ext._label cimport CComponents, Components
from lnfast_ext._part cimport Part, part_of
from lnfast_ext._view cimport View3, integer_t, logit_t, voxel_t

cdef extern from "components/measure.hpp" namespace "lnfast::components" nogil:
    cdef cppclass Runs:
        Runs()
    Runs _read_runs "lnfast::components::read_runs"[T](const View3[T]& labels, Py_ssize_t count) except +
    Runs _runs_of "lnfast::components::runs_of"(const CComponents& components) except +
    cdef cppclass Node:
        double mean_intensity, mean_probability
    void _measure_nodes "lnfast::components::measure_nodes"(const Runs& runs, const double* affine, Node* out, int threads) except +

cdef extern from "components/means.hpp" namespace "lnfast::components" nogil:
    void _mean_intensity "lnfast::components::mean_intensity"[T](
        const Runs& runs, const View3[T]& image, double* out, size_t record) except +
    void _mean_probability "lnfast::components::mean_probability"[T](
        const Runs& runs, const View3[T]& logits, const Part& part, double* out, size_t record) except +

NODE = np.dtype(
    [
        ("label", "i4"),
        ("voxels", "i8"),
        ("slices", "i4"),
        ("volume_mm3", "f8"),
        ("centroid_ras_mm", "f8", 3),
        ("box_mm", "f8", 3),
        ("box_centre_ras_mm", "f8", 3),
        ("box_axes_ras", "f8", (3, 3)),
        ("axial_short_mm", "f8"),
        ("axial_long_mm", "f8"),
        ("slice_limited", "?"),
        ("bounds_zyx", "i4", (3, 2)),
        ("mean_intensity", "f8"),
        ("mean_probability", "f8"),
    ],
    align=True,
)
if NODE.itemsize != sizeof(Node):
    raise ImportError(f"record of {NODE.itemsize} bytes in numpy, {sizeof(Node)} in C++")


cdef class _NodeTable:
    """The runs of the labels of one call, and the table of nodes that is measured on them."""

    cdef Runs runs
    cdef Node* nodes
    cdef readonly object out

    def __init__(self, Py_ssize_t count):
        cdef unsigned char[::1] memory
        self.out = np.zeros(count, dtype=NODE)
        self.out["mean_intensity"] = self.out["mean_probability"] = np.nan
        memory = self.out.view(np.uint8)
        self.nodes = <Node*> &memory[0]

    def read_labels(self, const integer_t[:, :, :] labels):
        cdef View3[integer_t] view
        view.bind(&labels[0, 0, 0], labels.shape, labels.strides)
        cdef Py_ssize_t count = len(self.out)
        with nogil:
            self.runs = _read_runs(view, count)

    def read_components(self, Components components):
        with nogil:
            self.runs = _runs_of(components.components)

    def measure(self, const double[:, ::1] affine, int threads):
        with nogil:
            _measure_nodes(self.runs, &affine[0, 0], self.nodes, threads)

    def measure_intensity(self, const voxel_t[:, :, :] image):
        cdef View3[voxel_t] view
        view.bind(&image[0, 0, 0], image.shape, image.strides)
        with nogil:
            _mean_intensity(self.runs, view, &self.nodes.mean_intensity, sizeof(Node))

    def measure_probability(self, const logit_t[:, :, :] logits, grid, start):
        cdef View3[logit_t] view
        cdef Part part = part_of(grid, start, logits.shape)
        view.bind(&logits[0, 0, 0], logits.shape, logits.strides)
        with nogil:
            _mean_probability(self.runs, view, part, &self.nodes.mean_probability, sizeof(Node))


def measure_components(labels, count, affine, *, intensity=None, logits=None, grid=None, start=(0, 0, 0), threads=0):
    """Measure every node of a label image.

    The box is the exact minimum-volume box (see min_volume_box) of all voxel corners, the hull being found in integer
    arithmetic on the voxel lattice. The axial rule takes, over all slices of axis 0, the longest distance between pixel
    corners, and the extent of that slice at right angles to it; diameters equal to 1e-9 yield the smallest extent.
    slice_limited: a shortest edge of the box lies within 30 degrees of the slice normal and is no longer than two
    slice spacings. Nothing depends on threads.

    Args:
        labels: (z, y, x) integers 0 to count; axis 0 counts slices. Or the Components of a mask.
        count: number of labels; each must have a voxel.
        affine: (4, 4), voxel-centre index (x, y, z, 1) of this array -> RAS+ mm.
        intensity: (z, y, x) of the same shape, any voxel type; or None.
        logits: (z, y, x) float32 or float16 on any grid with the same outer edges; or None.
        grid, start: logits holds the voxels from start on of a grid of this shape; None for logits as the whole grid.
            Every voxel of a mask that threshold_resample computed from the same part has all logits that it needs.
        threads: 0 for one for each core.

    Returns:
        One record for each label, in order: label, voxels, slices, volume_mm3, centroid_ras_mm (3), box_mm (3,
        ascending), box_centre_ras_mm (3), box_axes_ras (3, 3: row i belongs to box_mm[i]), axial_short_mm,
        axial_long_mm, slice_limited, bounds_zyx (3, 2: first, one past the last), mean_intensity (NaN without
        intensity), mean_probability (mean of sigmoid(interpolated logit); NaN without logits).

    Raises:
        TypeError: wrong type of array.
        ValueError: wrong shape, a label without voxels or outside 0 to count, a singular or non-finite affine,
            non-finite intensities or logits within a node, a part outside its grid, or a voxel of a node that needs
            logits beyond the part.
    """
    from_components = isinstance(labels, Components)
    if not from_components:
        _check.volume("labels", labels, _check.INTEGERS, empty=True)
    affine = _check.affine(affine)
    workers = _check.threads(threads)
    if not 0 <= count <= math.prod(labels.shape) or (from_components and count != labels.count):
        wanted = labels.count if from_components else f"0 to the number of voxels, {labels.size}"
        raise ValueError(f"count: got {count}, wanted {wanted}")
    if intensity is not None:
        _check.volume("intensity", intensity, _check.VOXELS, empty=True)
        if intensity.shape != labels.shape:
            raise ValueError(f"intensity: got shape {intensity.shape}, wanted that of labels, {labels.shape}")
    if logits is not None:
        _check.volume("logits", logits, ("float32", "float16"))
        grid, start = _check.part("logits", logits, grid, start)
    if count == 0:
        if not from_components and labels.any():
            raise ValueError("count: got 0, but labels holds nonzero voxels")
        return np.zeros(0, dtype=NODE)
    table = _NodeTable(count)
    if from_components:
        table.read_components(labels)
    else:
        table.read_labels(labels)
    table.measure(affine, workers)
    if intensity is not None:
        table.measure_intensity(intensity)
    if logits is not None:
        table.measure_probability(logits if logits.dtype == np.float32 else logits.view(np.uint16), grid, start)
    return table.out
