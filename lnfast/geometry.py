"""The one carrier of geometry: where voxels are in the patient.

    array index (z, y, x)   C order, x fastest: the byte order of a NIfTI file
    affine                  voxel-centre index (x, y, z, 1)  ->  RAS+ millimetres

Reorientation is a change of strides, never a copy, and comes back through the same object: writing into
``volume.oriented("LPS").array`` writes into ``volume.array``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.errors import StudyError, UsageError

SPACING_RANGE_MM = (0.2, 20.0)
# Cosine between two voxel axes above which they are called sheared. Headers round their quaternions and direction
# cosines to about 1e-6; a tilt of 1e-3 (0.06 degrees) moves a corner of a 400 mm field by 0.4 mm.
SHEAR_COSINE = 1e-3
# Two headers of one study differ by the rounding of float32: 1e-4 mm at 1 m.
SAME_PLACE_MM = 1e-2
# DLPack's device types: CPU, memory pinned for CUDA or ROCm, memory managed by CUDA.
_SEEN_BY_CPU = {1, 3, 11, 13}


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice in the patient.

    Attributes:
        shape: voxels along ``(z, y, x)``, all at least 1.
        affine: (4, 4) float64, read-only; index ``(x, y, z, 1)`` of a voxel's centre to RAS+ mm.

    Raises:
        StudyError: ``bad-geometry`` for a non-finite, singular or sheared affine or a spacing outside 0.2-20 mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __init__(self, shape: tuple[int, ...], affine: ArrayLike) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise StudyError("not-3d", f"got a grid of shape {tuple(shape)}, wanted three axes of at least one voxel")
        try:
            stated = np.asarray(affine)
        except Exception as error:  # rows of different lengths, a tensor on a device
            raise StudyError(
                "bad-geometry", f"got an affine that NumPy cannot read ({str(error)[:200]}), wanted 4x4 real numbers"
            ) from error
        if stated.shape != (4, 4) or stated.dtype.kind not in "fiu":
            raise StudyError(
                "bad-geometry", f"got an affine of {stated.dtype} and shape {stated.shape}, wanted 4x4 real numbers"
            )
        matrix = np.array(stated, dtype=np.float64)
        matrix.flags.writeable = False
        object.__setattr__(self, "shape", (int(shape[0]), int(shape[1]), int(shape[2])))
        object.__setattr__(self, "affine", matrix)
        _check_affine(matrix)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along ``(z, y, x)`` in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def extent_zyx_mm(self) -> tuple[float, float, float]:
        """Edge-to-edge size of the field of view along ``(z, y, x)`` in mm."""
        (z, y, x), (dz, dy, dx) = self.shape, self.spacing_zyx_mm
        return z * dz, y * dy, x * dx

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in cubic mm."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_ras_mm(self, index_xyz: ArrayLike) -> NDArray[np.float64]:
        """Map voxel indices ``(..., 3)`` in ``(x, y, z)`` order to RAS+ mm; halves address voxel faces."""
        points = np.asarray(index_xyz, dtype=np.float64)
        mapped: NDArray[np.float64] = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return mapped


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values on a grid.

    Attributes:
        array: ``(z, y, x)``, any strides (a view is welcome), never copied here. What is not NumPy's and lends its
            memory becomes a NumPy view of it (`as_numpy`).
        grid: where the voxels are; ``grid.shape == array.shape``.

    Raises:
        StudyError: ``not-3d`` for another shape than the grid's; as `as_numpy`.
    """

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        array: Any = self.array
        if not isinstance(array, np.ndarray):
            object.__setattr__(self, "array", as_numpy(array))
        if self.array.shape != self.grid.shape:
            raise StudyError("not-3d", f"got an array of shape {self.array.shape} for a grid of {self.grid.shape}")

    def oriented(self, code: str) -> Volume:
        """The same voxels with axes running as ``code`` says, as a view.

        Args:
            code: direction of growing index for ``(x, y, z)``, each a letter of R/L, A/P, S/I; ``"LPS"`` runs to the
                patient's left, back and head. An oblique axis counts as the one that it is nearest to.
        """
        order, flips, grid = _turned(self.grid, code)
        array = self.array.transpose([2 - order[2 - axis] for axis in range(3)])
        array = array[tuple(slice(None, None, -1) if flips[2 - axis] else slice(None) for axis in range(3))]
        return Volume(array, grid)


@lru_cache(64)  # a study's stages ask a dozen times for the same turn of the same grid
def _turned(grid: Grid, code: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], Grid]:
    """Return `axes_toward` of a grid, and the grid with its axes in that order."""
    order, flips = axes_toward(grid.affine, code)
    shape_xyz = grid.shape[::-1]
    turn = np.zeros((4, 4))
    turn[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        turn[old, new] = -1.0 if flip else 1.0
        turn[old, 3] = shape_xyz[old] - 1 if flip else 0
    return order, flips, Grid(tuple(shape_xyz[order[2 - axis]] for axis in range(3)), grid.affine @ turn)


def as_numpy(array: Any) -> NDArray[Any]:
    """Somebody else's voxels as a NumPy array on the same memory.

    Args:
        array: NumPy; or what speaks DLPack (tensors of PyTorch, CuPy, JAX); or a buffer, such as a memoryview cast to
            three axes. Read-only memory stays read-only. A list has no memory to share: it is the one that is copied.

    Raises:
        StudyError: ``not-on-cpu`` for memory that the CPU does not see; ``not-3d`` for bytes without a shape;
            ``unsupported-type`` for whatever NumPy cannot view, with the reason.
    """
    kind = type(array).__name__
    if isinstance(array, np.ma.MaskedArray):
        raise StudyError("unsupported-type", "got a masked array, wanted plain values; fill the masked ones")
    if isinstance(array, np.ndarray):
        return np.asarray(array)
    try:
        if isinstance(array, (bytes, bytearray, mmap)):
            array = memoryview(array)
        if isinstance(array, memoryview) and array.ndim == 1:
            raise StudyError(
                "not-3d",
                f"got a {kind} of {array.nbytes} bytes without a shape, wanted (z, y, x); give "
                "numpy.frombuffer(buffer, dtype).reshape(z, y, x), which copies nothing",
            )
        _refuse_foreign(array, kind)
        viewed = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    except StudyError:
        raise
    except Exception as error:  # whatever a foreign array raises: a layout without strides, a ragged list
        dtype = f" of {array.dtype}" if hasattr(array, "dtype") else ""
        reason = f"({str(error)[:200]})" if str(error) else ""
        raise StudyError(
            "unsupported-type",
            f"got a {kind}{dtype} that NumPy cannot view {reason}, wanted plain voxels in CPU memory",
        ) from error
    if viewed.dtype == object:
        raise StudyError("unsupported-type", f"got a {kind}, wanted an array of numbers")
    return viewed


def _refuse_foreign(array: Any, kind: str) -> None:
    """Refuse memory that the CPU does not see, and tensors whose memory does not hold their values."""
    lent = array.__dlpack_device__()[0] if hasattr(array, "__dlpack_device__") else 1
    if int(lent) not in _SEEN_BY_CPU or (
        not hasattr(array, "__dlpack__") and hasattr(array, "__cuda_array_interface__")
    ):
        raise StudyError("not-on-cpu", f"got a {kind} in a device's memory, wanted voxels in CPU memory; copy it there")
    if getattr(array, "requires_grad", False) is True:
        raise StudyError("unsupported-type", f"got a {kind} that requires a gradient; give its .detach()")
    # PyTorch lends the memory of such a tensor as it lies, with every sign the wrong way round.
    is_negated = getattr(array, "is_neg", None)
    if callable(is_negated) and is_negated() is True:
        raise StudyError("unsupported-type", f"got a {kind} that is negated when read; give its .resolve_neg()")


def check_same_grid(first: Grid, second: Grid) -> None:
    """Refuse two grids whose voxels do not lie on each other.

    Args:
        first, second: turned to the same axes; how a file stores them is a difference here.

    Raises:
        UsageError: ``grid-mismatch`` for another shape, or where a corner voxel lies more than 0.01 mm apart.
    """
    if first.shape != second.shape:
        raise UsageError("grid-mismatch", f"got grids of {first.shape} and {second.shape}, wanted one grid")
    corners = np.array(list(product((0, 1), repeat=3))) * (np.array(first.shape[::-1]) - 1)
    apart = float(np.abs(first.to_ras_mm(corners) - second.to_ras_mm(corners)).max())
    if apart > SAME_PLACE_MM:
        raise UsageError("grid-mismatch", f"the two grids lie {apart:.3g} mm apart, wanted at most {SAME_PLACE_MM} mm")


def axes_toward(affine: NDArray[np.float64], code: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which voxel axis runs nearest to each direction of ``code``, and whether it runs backwards.

    Args:
        affine: (4, 4), index ``(x, y, z, 1)`` to RAS+ mm.
        code: as in `Volume.oriented`.

    Returns:
        ``(order, flips)``: new axis ``i`` (in x, y, z order) is old axis ``order[i]``, reversed where ``flips[i]``.
        Among the six assignments the one with the greatest sum of cosines wins, so that no axis is used twice. At 45
        degrees several are as near; how a file happens to store its axes does not choose between them (`_nearness`).
    """
    world, sign = zip(*(_LETTERS[letter] for letter in code), strict=True)
    if sorted(world) != [0, 1, 2]:
        raise ValueError(f"got orientation {code!r}, wanted one letter of each of R/L, A/P, S/I")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    order = max(permutations(range(3)), key=lambda axes: _nearness(axes, world, cosines, spacing))
    flips = [bool(cosines[w, a] * s < 0) for w, a, s in zip(world, order, sign, strict=True)]
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def _nearness(
    axes: tuple[int, ...], world: tuple[int, ...], cosines: NDArray[np.float64], spacing: NDArray[np.float64]
) -> tuple[float, float, float]:
    """How near voxel axes run to world axes; of equals, thick slices go head to foot; of those, a sense of rotation."""
    pairs = list(zip(world, axes, strict=True))
    total = sum(abs(cosines[w, a]) for w, a in pairs)
    thickness = spacing[axes[world.index(2)]]
    turn = sum(np.sign(cosines[w, a]) * cosines[(w + 1) % 3, a] for w, a in pairs)
    return round(float(total), 6), round(float(thickness), 6), round(float(turn), 6)


_LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def _check_affine(affine: NDArray[np.float64]) -> None:
    if not np.isfinite(affine).all():
        raise StudyError("bad-geometry", "the affine has a value that is not finite; re-export the study")
    if not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise StudyError("bad-geometry", f"the affine's last row is {affine[3].tolist()}, wanted 0 0 0 1")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_RANGE_MM
    if spacing.min() < low or spacing.max() > high:
        got = " x ".join(f"{value:.4g}" for value in spacing)
        raise StudyError(
            "bad-geometry", f"got a voxel of {got} mm (x, y, z), wanted {low} to {high} mm along each axis"
        )
    cosines = affine[:3, :3] / spacing
    worst = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if worst > SHEAR_COSINE:
        raise StudyError(
            "bad-geometry",
            f"the voxel axes are sheared (cosine {worst:.2g} between two of them, at most {SHEAR_COSINE:g}); "
            "resample the study to a right-angled grid",
        )
