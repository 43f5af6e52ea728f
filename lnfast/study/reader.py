"""Read a study from a path or an array, in the order of the stages of `lnfast.study`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume, as_numpy
from lnfast.study.bvalues import BVAL_ENDINGS, BRule, choose_volume, read_bvalues
from lnfast.study.dicom import DicomChoice, is_dicom, read_dicom
from lnfast.study.file_content import open_stored
from lnfast.study.json_sidecar import check_b_value, read_sidecar
from lnfast.study.kind import refuse_other_kinds
from lnfast.study.nifti import NiftiHeader, parse_header
from lnfast.study.record import Provenance, Study
from lnfast.study.sidecar_files import files_beside, shown, stem
from lnfast.study.trailing_bytes import check_tail

_KINDS = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}


def study_name(path: str | os.PathLike[str]) -> str:
    """Return a file name without ``.nii`` or ``.nii.gz`` and a trailing ``_0000``; never empty, ``.`` or ``..``."""
    full = Path(path).name
    name = stem(full).removesuffix("_0000")
    return full if name in ("", ".", "..") else name


def read_study(
    path: str | os.PathLike[str],
    *,
    b_targets: tuple[float, ...] = (800.0, 1000.0),
    b_range: tuple[float, float] = (500.0, 1500.0),
    max_bytes: int = 2 << 30,
    choice: DicomChoice | None = None,
) -> Study:
    """Read a NIfTI-1 or NIfTI-2 file, ``.nii`` or ``.nii.gz`` by content, or DICOM: a folder, or an enhanced file.

    From a folder of DICOM files the acquired high-b trace image is read (`lnfast.study.dicom`).

    A file with a few more bytes than its header promises is read with the warning ``trailing-data``; one with more
    whole rows, slices or volumes, or with the bytes of a wider type, is refused as ``damaged-header``
    (`lnfast.study.trailing_bytes`).

    From a 4D file the volume within ``b_range`` whose b-value is nearest to any of ``b_targets`` is taken, the higher
    at a tie. A 3D file without ``.bval`` is read with the warning ``unknown-b-value``, unless its name or its ``.json``
    gives a b-value outside ``b_range``. The file may be changed or deleted once this returns.

    Args:
        path: the file; ``.bval`` (or ``.bvals``) and ``.json`` of the same name beside it are read too, in any case,
            and for ``x_0000.nii.gz`` also those of ``x`` (`lnfast.study.sidecar_files`).
        b_targets: s/mm2, at least one.
        b_range: least and greatest b-value to take, s/mm2.
        max_bytes: greatest size of the file, compressed and not.
        choice: a person's choice of the series; for DICOM only.

    Raises:
        StudyError: ``not-found``, ``not-a-file``, ``unreadable``, ``not-nifti``, ``damaged-header``, ``truncated``,
            ``damaged``, ``too-large``, ``not-3d``, ``rgb-or-complex``, ``unsupported-type``, ``bad-scaling``,
            ``no-geometry``, ``bad-geometry``, ``adc-map``, ``not-dwi``, ``bad-bval``, ``no-high-b``, ``ambiguous``; for
            DICOM those of `lnfast.study.dicom.read_dicom`.
        BackendError: ``backend-missing`` where DICOM needs a package that is not installed.
    """
    file = Path(path)
    if is_dicom(file):
        # File names of DICOM may name a patient: no message begins with them.
        return read_dicom(file, BRule(b_targets, *b_range), choice)
    try:
        return _read(file, BRule(b_targets, *b_range), max_bytes)
    except StudyError as error:
        raise StudyError(error.code, f"{shown(file.name)}: {error.message}") from error


def study_from_array(array: Any, affine: ArrayLike, *, name: str = "array") -> Study:
    """Make a study from voxels in memory, without a copy.

    Args:
        array: ``(z, y, x)``, at least 2 along each, int8 to uint64, float32 or float64, any strides, read-only too;
            NumPy or anything that lends its memory by the buffer, array or DLPack protocol
            (`lnfast.geometry.as_numpy`). Copied only when its byte order is foreign or its values are not aligned. It
            is read until the study has been run, and `Study.volume` stays a view of it.
        affine: (4, 4), voxel-centre index ``(x, y, z, 1)`` to RAS+ mm.
        name: for the report.

    Raises:
        StudyError: ``unsupported-type``, ``not-on-cpu``, ``rgb-or-complex``, ``not-3d``, ``bad-geometry``.
    """
    values = _usable(as_numpy(array))
    if values.ndim != 3 or min(values.shape) < 2:
        raise StudyError("not-3d", f"got an array of shape {values.shape}, wanted (z, y, x) with at least 2 along each")
    return Study(name, Volume(values, Grid(values.shape, affine)), 1.0, 0.0, None, Provenance("array"))


def _read(path: Path, rule: BRule, max_bytes: int) -> Study:
    with open_stored(path, max_bytes) as stored:
        header = parse_header(stored.head, max_bytes)
        grid = Grid(header.shape_xyz[::-1], header.affine)
        sidecars = tuple(map(read_sidecar, files_beside(path, (".json",))))
        refuse_other_kinds(path.name, header.free_text, sidecars, rule, single=header.volumes == 1)
        b_values = read_bvalues(files_beside(path, BVAL_ENDINGS), header.volumes)
        if b_values is None and header.volumes == 1:
            check_b_value(stem(path.name).removesuffix("_0000"), sidecars, rule)
        index = choose_volume(b_values, header.volumes, rule)
        size = header.volume_bytes
        start = header.data_offset
        content, extra = stored.values(start + index * size, size, start + header.volumes * size)
        tail_warnings = check_tail(header, extra)
        values = _usable(np.frombuffer(content, header.dtype).reshape(grid.shape))
        sha256 = stored.sha256()
    b_value = b_values[index] if b_values is not None else None
    notes, warnings = _remarks(header, index, b_values)
    provenance = Provenance(
        format=f"nifti-{header.version}",
        path=str(path),
        sha256=sha256,
        volume_index=index if header.volumes > 1 else None,
        b_values=b_values,
        notes=notes,
        warnings=warnings + tail_warnings,
    )
    return Study(study_name(path), Volume(values, grid), header.slope, header.inter, b_value, provenance)


def _remarks(
    header: NiftiHeader, index: int, b_values: tuple[float, ...] | None
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    notes: list[str] = []
    warnings = list(header.warnings)
    if b_values is None:
        warnings.append(("unknown-b-value", "no .bval file: that this is a high-b image was taken on trust"))
    elif header.volumes > 1:
        notes.append(f"took volume {index + 1} of {header.volumes}, b = {b_values[index]:g}")
    return tuple(notes), tuple(warnings)


def _usable(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values native-endian and aligned: as a view where they already are, else as a copy."""
    kind = values.dtype.str[1:]
    if values.dtype.kind == "c":
        raise StudyError("rgb-or-complex", f"got values of type {values.dtype}, wanted a magnitude image")
    if kind not in _KINDS:
        raise StudyError(
            "unsupported-type",
            f"got values of type {values.dtype}, wanted int8 to uint64, float32 or float64; convert them",
        )
    if values.dtype.isnative and values.flags.aligned:
        return values
    return values.astype(values.dtype.newbyteorder("="))
