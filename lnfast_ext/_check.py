"""Checks of arguments that all bindings make before they release the GIL."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
LONGEST = 2**31 - 1  # voxels along an axis of a grid
VOXELS = (*INTEGERS, "float32", "float64")


def volume(name: str, array: Any, dtypes: tuple[str, ...], *, empty: bool = False) -> NDArray[Any]:
    """Return ``array`` unchanged if it is a (z, y, x) array of one of ``dtypes`` in native byte order.

    Raises:
        TypeError: not an array, or another dtype or byte order.
        ValueError: not three axes, not aligned, or no voxels (unless ``empty``).
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: got {type(array).__name__}, wanted a numpy array")
    if not array.dtype.isnative or array.dtype.name not in dtypes:
        order = "" if array.dtype.isnative else " in foreign byte order"
        raise TypeError(f"{name}: got dtype {array.dtype.name}{order}, wanted one of {', '.join(dtypes)}")
    if array.ndim != 3:
        raise ValueError(f"{name}: got {array.ndim} axes, wanted 3: (z, y, x)")
    if not array.flags.aligned:
        raise ValueError(f"{name}: its memory is not aligned to its dtype; pass a copy")
    if array.size == 0 and not empty:
        raise ValueError(f"{name}: got an empty array of shape {array.shape}")
    return array


def writable(name: str, array: NDArray[Any], *, contiguous: bool) -> NDArray[Any]:
    """Return ``array`` unchanged if a kernel may write into it.

    Raises:
        ValueError: read-only, or not C-contiguous although it must be.
    """
    if not array.flags.writeable:
        raise ValueError(f"{name}: is read-only")
    if contiguous and not array.flags.c_contiguous:
        raise ValueError(f"{name}: is not C-contiguous")
    return array


def part(name: str, array: NDArray[Any], grid: Any, start: Any) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return ``(grid, start)`` as ints if ``array`` can be the voxels from ``start`` on of a grid of that shape.

    Raises:
        TypeError: not whole numbers.
        ValueError: not three of them, or a part that is not inside its grid.
    """
    shape = _three("grid", array.shape if grid is None else grid)
    begin = _three("start", start)
    for size, first, width in zip(shape, begin, array.shape, strict=True):
        if not (0 <= first <= size - width and size <= LONGEST):
            raise ValueError(
                f"grid, start: got {name} of shape {array.shape} from {begin} on in a grid of shape {shape}, wanted it "
                "inside"
            )
    return shape, begin


def _three(name: str, numbers: Any) -> tuple[int, int, int]:
    values = tuple(index(number) for number in numbers)
    if len(values) != 3:
        raise ValueError(f"{name}: got {len(values)} numbers, wanted 3: (z, y, x)")
    return values


def threads(count: int) -> int:
    """Return ``count`` as an int; 0 means one thread for each core."""
    count = int(count)
    if not 0 <= count <= 4096:
        raise ValueError(f"threads: got {count}, wanted 0 (one for each core) to 4096")
    return count


def finite(name: str, value: float) -> float:
    """Return ``value`` as a finite float."""
    value = float(value)
    if not np.isfinite(value):
        raise ValueError(f"{name}: got {value}, wanted a finite number")
    return value


def affine(matrix: Any) -> NDArray[np.float64]:
    """Return a non-singular (4, 4) float64 matrix of voxels of 1e-30 to 1e30 mm; its last row is (0, 0, 0, 1)."""
    array = np.array(matrix, dtype=np.float64, order="C")
    if array.shape != (4, 4):
        raise ValueError(f"affine: got shape {array.shape}, wanted (4, 4)")
    if not np.isfinite(array).all():
        raise ValueError("affine: holds non-finite values")
    if not np.array_equal(array[3], (0.0, 0.0, 0.0, 1.0)):
        raise ValueError(f"affine: got last row {array[3].tolist()}, wanted [0, 0, 0, 1]")
    lengths = np.linalg.norm(array[:3, :3], axis=0)
    if lengths.min() < 1e-30 or lengths.max() > 1e30:
        raise ValueError(f"affine: got voxels of {lengths.tolist()} mm, wanted 1e-30 to 1e30")
    if abs(np.linalg.det(array[:3, :3] / lengths)) < 1e-6:
        raise ValueError("affine: is singular")
    return array
