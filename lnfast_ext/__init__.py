"""Compiled kernels: arrays and numbers in, arrays out. Knows nothing of studies, models or files.

Every function takes read-only input of any strides, releases the GIL and may be called from many threads at once.
Arrays are (z, y, x); affines map voxel-centre indices (x, y, z, 1) to RAS+ millimetres.
"""

from lnfast_ext._body_statistics import body_statistics
from lnfast_ext._box import min_volume_box
from lnfast_ext._cpu import instruction_set
from lnfast_ext._ellipsoid import ellipsoid_short_axes, equivalent_short_axis
from lnfast_ext._label import Components, label_components
from lnfast_ext._measure import measure_components
from lnfast_ext._outline import number_nodes, outline_nodes
from lnfast_ext._records import BodyStatistics
from lnfast_ext._resample import resample_normalize, threshold_resample
from lnfast_ext._statistics import intensity_statistics

__all__ = [
    "BodyStatistics",
    "Components",
    "body_statistics",
    "ellipsoid_short_axes",
    "equivalent_short_axis",
    "instruction_set",
    "intensity_statistics",
    "label_components",
    "measure_components",
    "min_volume_box",
    "number_nodes",
    "outline_nodes",
    "resample_normalize",
    "threshold_resample",
]
