"""Parse the header of a single-file NIfTI-1 or NIfTI-2, checked field by field before any voxel is read.

Field offsets follow nifti1.h and nifti2.h (nifti.nimh.nih.gov). The header also has free text that may name a patient:
`lnfast.study.kind` searches it, and no message quotes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.study.affine import patient_affine

_FIELDS = ["dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units"]
_FIELDS += ["descrip", "aux_file", "qform_code", "sform_code", "quatern", "qoffset", "srow", "intent_name"]
NIFTI1 = np.dtype(
    {
        "names": _FIELDS,
        "formats": ["8<i2", "<i2", "<i2", "8<f4", "<f4", "<f4", "<f4", "u1"]
        + ["S80", "S24", "<i2", "<i2", "3<f4", "3<f4", "(3,4)<f4", "S16"],
        "offsets": [40, 70, 72, 76, 108, 112, 116, 123, 148, 228, 252, 254, 256, 268, 280, 328],
        "itemsize": 348,
    }
)
_NIFTI2 = np.dtype(
    {
        "names": _FIELDS,
        "formats": ["8<i8", "<i2", "<i2", "8<f8", "<i8", "<f8", "<f8", "<i4"]
        + ["S80", "S24", "<i4", "<i4", "3<f8", "3<f8", "(3,4)<f8", "S16"],
        "offsets": [16, 12, 14, 104, 168, 176, 184, 500, 240, 320, 344, 348, 352, 376, 400, 508],
        "itemsize": 540,
    }
)
_MAGIC1, _MAGIC2 = b"n+1\0", b"n+2\0\r\n\x1a\n"
_PAIR1, _PAIR2 = b"ni1\0", b"ni2\0"
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOUR_OR_COMPLEX = {32: "complex64", 128: "RGB", 1792: "complex128", 2048: "complex256", 2304: "RGBA"}
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown (taken as mm), metre, mm, micron


@dataclass(frozen=True)
class NiftiHeader:
    """The content of a header, checked.

    Attributes:
        version: 1 or 2.
        dtype: stored type with its byte order.
        shape_xyz: voxels along x, y, z.
        volumes: how many volumes the file has; 1 for a 3D file.
        data_offset: of the first voxel, in bytes.
        affine: (4, 4) float64, voxel-centre index ``(x, y, z, 1)`` to RAS+ mm.
        slope, inter: real value = slope * stored + inter.
        free_text: descrip, aux_file and intent_name. May name a patient: never printed.
        warnings: ``(code, message)`` pairs.
    """

    version: int
    dtype: np.dtype[Any]
    shape_xyz: tuple[int, int, int]
    volumes: int
    data_offset: int
    affine: NDArray[np.float64]
    slope: float
    inter: float
    free_text: str = field(repr=False)
    warnings: tuple[tuple[str, str], ...]

    @property
    def volume_bytes(self) -> int:
        """The stored size of one volume, in bytes."""
        return math.prod(self.shape_xyz) * self.dtype.itemsize


def parse_header(head: bytes, max_bytes: int) -> NiftiHeader:
    """Parse and check the first bytes of a file.

    Args:
        head: at least the header, when the file has one.
        max_bytes: greatest number of bytes that the whole content may have.

    Raises:
        StudyError: ``not-nifti``, ``truncated``, ``damaged-header``, ``not-3d``, ``rgb-or-complex``,
            ``unsupported-type``, ``too-large``, ``bad-scaling``, ``no-geometry``, ``bad-geometry``.
    """
    version, order = _recognize(head)
    layout = (NIFTI1 if version == 1 else _NIFTI2).newbyteorder(order)
    if len(head) < layout.itemsize:
        raise StudyError(
            "truncated", f"stops inside its header ({len(head)} of {layout.itemsize} bytes); copy it again"
        )
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        row = np.frombuffer(head, layout, count=1)[0]
        fields: dict[str, Any] = {name: row[name].tolist() for name in _FIELDS}
    shape_xyz, volumes = _shape(fields["dim"])
    dtype = _dtype(fields["datatype"], fields["bitpix"]).newbyteorder(order)
    data_offset = _data_offset(fields["vox_offset"], layout.itemsize + 4)
    promised = data_offset + math.prod(shape_xyz) * volumes * dtype.itemsize
    if promised > max_bytes:
        raise StudyError(
            "too-large", f"the header promises {promised} bytes, wanted at most {max_bytes}; crop the study"
        )
    slope, inter = _scaling(fields["scl_slope"], fields["scl_inter"])
    unit = fields["xyzt_units"] & 7
    if unit not in _MM_PER_UNIT:
        raise StudyError("damaged-header", f"the unit of length has code {unit}, wanted 0 to 3; re-export the study")
    affine, warnings = patient_affine(fields, shape_xyz, _MM_PER_UNIT[unit])
    text = " ".join(fields[name].decode("latin-1") for name in ("descrip", "aux_file", "intent_name"))
    return NiftiHeader(version, dtype, shape_xyz, volumes, data_offset, affine, slope, inter, text, warnings)


def _recognize(head: bytes) -> tuple[int, Literal["<", ">"]]:
    """Return version and byte order, from the header's size field and its magic."""
    for version, size, magic, pair, at in ((1, 348, _MAGIC1, _PAIR1, 344), (2, 540, _MAGIC2, _PAIR2, 4)):
        signature = head[at : at + len(magic)]
        orders: dict[bytes, Literal["<", ">"]] = {size.to_bytes(4, "little"): "<", size.to_bytes(4, "big"): ">"}
        order = orders.get(head[:4])
        if order is not None and signature == magic:
            return version, order
        if order is not None and signature[:4] == pair:
            raise StudyError(
                "not-nifti", "is one half of a .hdr/.img pair, wanted a single .nii or .nii.gz; convert it"
            )
        if order is not None and len(head) < size:
            raise StudyError("truncated", f"stops inside its header ({len(head)} of {size} bytes); copy it again")
        if signature[:3] == magic[:3]:
            raise StudyError("damaged-header", "the header's size or signature is damaged; copy or export it again")
    if head[128:132] == b"DICM":
        raise StudyError("not-nifti", "is a compressed DICOM file; unpack it, and give the folder of its series")
    raise StudyError("not-nifti", "is no single-file NIfTI-1 or NIfTI-2; export the study as .nii or .nii.gz")


def _shape(dim: list[int]) -> tuple[tuple[int, int, int], int]:
    rank = dim[0]
    if not 1 <= rank <= 7 or min(dim[1 : rank + 1]) < 1:
        raise StudyError("damaged-header", f"the dimensions are {dim}, wanted positive ones; export the study again")
    shape = dim[1 : rank + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (3, 4) or min(shape[:3]) < 2:
        got = " x ".join(map(str, shape))
        raise StudyError(
            "not-3d", f"has {got} voxels, wanted at least 2 along x, y and z, and volumes along a fourth axis"
        )
    return (shape[0], shape[1], shape[2]), math.prod(shape[3:])


def _dtype(code: int, bits: int) -> np.dtype[Any]:
    if code in _COLOUR_OR_COMPLEX:
        raise StudyError("rgb-or-complex", f"holds {_COLOUR_OR_COMPLEX[code]} values, wanted a magnitude image")
    if code not in _DTYPES:
        raise StudyError(
            "unsupported-type",
            f"stores values of NIfTI type {code}, wanted int8 to uint64, float32 or float64; convert it",
        )
    dtype = np.dtype(_DTYPES[code])
    if bits != 8 * dtype.itemsize:
        raise StudyError("damaged-header", f"says {bits} bits for a voxel of type {dtype}; export the study again")
    return dtype


def _data_offset(value: float, least: int) -> int:
    if not math.isfinite(value) or value != int(value) or value < least:
        raise StudyError("damaged-header", f"says that voxels begin at byte {value:g}, wanted {least} or more")
    return int(value)


def _scaling(slope: float, inter: float) -> tuple[float, float]:
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or slope < 0 or not math.isfinite(inter):
        raise StudyError(
            "bad-scaling", f"the scale is {slope:g} and the offset {inter:g}, wanted finite, scale above 0"
        )
    return slope, inter
