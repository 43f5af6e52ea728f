"""The box of the model grid on which the network runs, and every decision about it.

. .[. . . . .]. .    The network sees nothing beyond the window, so nothing is found there; within it every voxel has
                     the value that it has when the network runs on the whole grid.

    window_shapes        which windows an engine is built for
    choose_window        which of an engine's windows holds a patient
    Window.edge_slabs    where a node is too near to a face that cuts the grid, so that the whole grid must be run
    Window.interior      what the self-test compares where a window cuts the probe's patient
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lnfast.errors import UsageError

Zyx = tuple[int, int, int]

# Networks halve their plane three or four times: a window begins and ends where the whole grid's coarsest voxels do.
STEP = 16
# Windows, as parts of the grid. Of 48 phantoms on three scanners these two hold all but three with a margin of 4 voxels
# and leave 82 % of the voxels; narrower ones hold few, for the body reaches both sides of most fields of view.
PARTS_ZYX = ((1.0, 0.75, 1.0), (1.0, 0.875, 1.0))
# Voxels of an axis that a window cuts: the self-test looks at what is `INSIDE_VOX` from either face.
CUT_AT_LEAST = 64
MARGIN_ZYX: Zyx = (0, 4, 4)  # voxels of the model grid around the body
EDGE_VOX = 4  # how near to a cut face a node may come before the whole grid is run
INSIDE_VOX = 24  # from a face that cuts the probe's patient, which no study's patient is cut by


@dataclass(frozen=True)
class Window:
    """Voxels ``start_zyx`` to ``stop_zyx`` (one past the last) of a grid.

    Attributes:
        grid_zyx: voxels of the whole grid.
        start_zyx: the window's first voxel.
        shape_zyx: voxels of the window.

    Raises:
        UsageError: ``bad-window`` for a window that is empty or sticks out of its grid.
    """

    grid_zyx: Zyx
    start_zyx: Zyx
    shape_zyx: Zyx

    def __post_init__(self) -> None:
        axes = zip(self.grid_zyx, self.start_zyx, self.shape_zyx, strict=True)
        if not all(0 <= start < start + size <= grid for grid, start, size in axes):
            raise UsageError(
                "bad-window",
                f"got a window of {self.shape_zyx} voxels from {self.start_zyx} on, wanted one of at least a voxel "
                f"inside the grid of {self.grid_zyx}",
            )

    @classmethod
    def whole(cls, grid_zyx: Zyx) -> Window:
        """Return the window that is all of a grid."""
        return cls(grid_zyx, (0, 0, 0), grid_zyx)

    @classmethod
    def around(cls, middle_zyx: Zyx, shape_zyx: Zyx, grid_zyx: Zyx) -> Window:
        """Return the window of a shape about a voxel, begun at a multiple of `STEP` or flush with the grid's end."""
        axes = zip(middle_zyx, shape_zyx, grid_zyx, strict=True)
        z, y, x = (min(max(middle - size // 2, 0) // STEP * STEP, grid - size) for middle, size, grid in axes)
        return cls(grid_zyx, (z, y, x), shape_zyx)

    @property
    def stop_zyx(self) -> Zyx:
        """One past the window's last voxel."""
        (z, y, x), (depth, height, width) = self.start_zyx, self.shape_zyx
        return z + depth, y + height, x + width

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its grid."""
        return self.shape_zyx == self.grid_zyx

    def part_of(self, buffer: NDArray[Any]) -> NDArray[Any]:
        """Return the slices of a network's buffer that are the window's: the middle ones, where it has more.

        Args:
            buffer: ``(z, y, x)``, input or output.
        """
        depth = self.shape_zyx[0]
        first = (len(buffer) - depth) // 2
        return buffer[first : first + depth]

    def with_slices(self, slices: int) -> Window:
        """Return the window of the same rows and columns of a grid of that many slices, all of which it has."""
        assert self.shape_zyx[0] == self.grid_zyx[0], "a window that cuts slices off"
        return Window((slices, *self.grid_zyx[1:]), self.start_zyx, (slices, *self.shape_zyx[1:]))

    def check(self, shape: tuple[int, ...], grid_zyx: Zyx | None = None) -> None:
        """Refuse an array of another shape than the window's, or a window of another grid.

        Args:
            shape: of the array.
            grid_zyx: that the window must be of; one of more slices is accepted too. None for any.

        Raises:
            UsageError: ``bad-window``.
        """
        if shape != self.shape_zyx:
            raise UsageError("bad-window", f"got an array of {shape} voxels, wanted the window's {self.shape_zyx}")
        if grid_zyx is not None and (self.grid_zyx[1:] != grid_zyx[1:] or self.grid_zyx[0] < grid_zyx[0]):
            raise UsageError("bad-window", f"got a window of a grid of {self.grid_zyx} voxels, wanted {grid_zyx}")

    def interior(self, native_shape: tuple[int, ...], inside_vox: int = INSIDE_VOX) -> tuple[slice, ...]:
        """Return the native voxels of the window's middle.

        Args:
            native_shape: ``(z, y, x)`` of the native grid in the model's axes.
            inside_vox: voxels of the model grid to keep from a face; a face that is the grid's own needs no distance.
        """
        slices = []
        for start, stop, grid, native in zip(self.start_zyx, self.stop_zyx, self.grid_zyx, native_shape, strict=True):
            low = start + inside_vox if start > 0 else 0
            high = stop - inside_vox if stop < grid else grid
            slices.append(slice(-(-low * native // grid), max(high * native // grid, 0)))
        return tuple(slices)

    def edge_slabs(self, native_shape: tuple[int, ...], margin_vox: int = EDGE_VOX) -> list[tuple[slice, ...]]:
        """Return the native voxels that lie near a face of the window, a box for each face.

        Faces of the window that are faces of the grid cut nothing off and have no box.

        Args:
            native_shape: ``(z, y, x)`` of the native grid in the model's axes.
            margin_vox: voxels of the model grid; the near side of a native voxel must be nearer to the face than this.
        """
        axes = list(zip(self.start_zyx, self.stop_zyx, self.grid_zyx, native_shape, strict=True))
        inside = [slice(start * native // grid, -(-stop * native // grid)) for start, stop, grid, native in axes]
        slabs: list[tuple[slice, ...]] = []
        for axis, (start, stop, grid, native) in enumerate(axes):
            # Native voxel o spans o to o + 1 native voxels, that is o * grid / native on of the model grid's.
            near = []
            if start > 0:
                near.append(slice(inside[axis].start, -(-(start + margin_vox) * native // grid)))
            if stop < grid:
                near.append(slice(max((stop - margin_vox) * native // grid, 0), inside[axis].stop))
            slabs += [(*inside[:axis], slab, *inside[axis + 1 :]) for slab in near]
        return slabs


def window_shapes(grid_zyx: Zyx) -> tuple[Zyx, ...]:
    """Return the windows worth building for a grid, in steps that its network can halve; none for a small grid."""
    shapes: list[Zyx] = []
    for parts in PARTS_ZYX:
        z, y, x = (
            size if part == 1 else int(part * size) // STEP * STEP for part, size in zip(parts, grid_zyx, strict=True)
        )
        shape = z, y, x
        axes = zip(shape, grid_zyx, strict=True)
        fits = all(size == grid or (size >= CUT_AT_LEAST and grid % STEP == 0) for size, grid in axes)
        if fits and shape != grid_zyx:
            shapes.append(shape)
    return tuple(dict.fromkeys(shapes))


def choose_window(
    extent: tuple[Zyx, Zyx], shapes: Sequence[Zyx], grid_zyx: Zyx, margin_zyx: Zyx = MARGIN_ZYX
) -> Window:
    """Return the smallest of some windows that holds a box with a margin around it; the whole grid where none does.

    Args:
        extent: ``(start_zyx, stop_zyx)`` of the box on the grid.
        shapes: ``(z, y, x)`` of the windows that there are.
        grid_zyx: voxels of the grid.
        margin_zyx: voxels around the box, as far as the grid goes; negative where a rim of the box may be left out.

    Returns:
        A window that begins at multiples of `STEP`, as nearly about the box's middle as these and the grid allow.
    """
    for shape in sorted(shapes, key=voxel_count):
        axes = zip(*extent, shape, grid_zyx, margin_zyx, strict=True)
        starts = [_start(max(a - margin, 0), min(b + margin, grid), size, grid) for a, b, size, grid, margin in axes]
        z, y, x = starts
        if z is not None and y is not None and x is not None:
            return Window(grid_zyx, (z, y, x), shape)
    return Window.whole(grid_zyx)


def fits_grid(shape_zyx: Zyx, grid_zyx: Zyx) -> bool:
    """Return whether a window of a shape can be part of a grid."""
    return all(size <= grid for size, grid in zip(shape_zyx, grid_zyx, strict=True))


def voxel_count(shape_zyx: Zyx) -> int:
    """Return how many voxels a shape has: on a CPU the network's time goes with them."""
    z, y, x = shape_zyx
    return z * y * x


def shape_text(shape_zyx: Zyx) -> str:
    """Return ``"64x192x256"``."""
    return "x".join(map(str, shape_zyx))


def _start(start: int, stop: int, size: int, grid: int) -> int | None:
    """Return where ``size`` voxels that hold ``start`` to ``stop`` can begin; None where they cannot."""
    first = -(-max(stop - size, 0) // STEP) * STEP
    starts = range(first, min(start, grid - size) + 1, STEP)
    return min(starts, key=lambda candidate: abs(2 * candidate + size - start - stop), default=None)
