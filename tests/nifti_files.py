"""Writes NIfTI files field by field, so that a test can make one that no library would write."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
SROW = ((-1.5, 0.0, 0.0, 60.0), (0.0, -1.5, 0.0, 70.0), (0.0, 0.0, 5.0, -40.0))
# name: (format, offset in NIfTI-1, format, offset in NIfTI-2)
FIELDS = {
    "dim": ("8h", 40, "8q", 16),
    "datatype": ("h", 70, "h", 12),
    "bitpix": ("h", 72, "h", 14),
    "pixdim": ("8f", 76, "8d", 104),
    "vox_offset": ("f", 108, "q", 168),
    "scl_slope": ("f", 112, "d", 176),
    "scl_inter": ("f", 116, "d", 184),
    "xyzt_units": ("B", 123, "i", 500),
    "descrip": ("80s", 148, "80s", 240),
    "aux_file": ("24s", 228, "24s", 320),
    "qform_code": ("h", 252, "i", 344),
    "sform_code": ("h", 254, "i", 348),
    "quatern": ("3f", 256, "3d", 352),
    "qoffset": ("3f", 268, "3d", 376),
    "srow": ("12f", 280, "12d", 400),
    "intent_name": ("16s", 328, "16s", 508),
}


def voxels(shape: tuple[int, ...], kind: str = "i2", seed: int = 0) -> np.ndarray:
    """Seeded values over much of the type's range, in array order (..., z, y, x)."""
    rng = np.random.default_rng(seed)
    if kind[0] == "f":
        return rng.normal(100, 50, shape).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


def nifti_bytes(array: np.ndarray, *, version: int = 1, order: str = "<", extension: int = 0, **fields: Any) -> bytes:
    """A file's bytes; ``array`` is (..., z, y, x), and any of `FIELDS` may be overridden.

    Args:
        array: values; the type of an unknown kind must come as ``datatype`` and ``bitpix``.
        version: 1 or 2.
        order: ``"<"`` or ``">"``.
        extension: bytes of a header extension, a multiple of 16.
        fields: header fields; ``magic`` too.
    """
    size, at = (348, 344) if version == 1 else (540, 4)
    kind = array.dtype.str[1:]
    header: dict[str, Any] = {
        "dim": (array.ndim, *array.shape[::-1], *(1,) * (7 - array.ndim)),
        "datatype": CODES.get(kind, 0),
        "bitpix": 8 * array.dtype.itemsize,
        "pixdim": (1, 1.5, 1.5, 5, 1, 1, 1, 1),
        "vox_offset": size + 4 + extension,
        "xyzt_units": 2,
        "sform_code": 1,
        "srow": sum(SROW, ()),
    } | fields
    magic = header.pop("magic", b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n")
    raw = bytearray(size)
    struct.pack_into(order + "i", raw, 0, size)
    raw[at : at + len(magic)] = magic
    for name, value in header.items():
        form, offset = FIELDS[name][:2] if version == 1 else FIELDS[name][2:]
        struct.pack_into(order + form, raw, offset, *(value if isinstance(value, tuple) else (value,)))
    flag = bytes((1, 0, 0, 0)) if extension else bytes(4)
    block = struct.pack(order + "ii", extension, 6).ljust(extension, b"x") if extension else b""
    return bytes(raw) + flag + block + array.astype(array.dtype.newbyteorder(order)).tobytes()


def write_nifti(path: Path, array: np.ndarray, *, bval: str | None = None, **options: Any) -> Path:
    """Write `nifti_bytes` to ``path``, compressed when it ends in ``.gz``, with a ``.bval`` beside it when given."""
    content = nifti_bytes(array, **options)
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    if bval is not None:
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        path.with_name(stem + ".bval").write_text(bval)
    return path
