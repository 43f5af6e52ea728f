"""A box of the network's grid: the part of it that the network is run on.

. .[. . . . .]. .    The network sees nothing beyond the window, so nothing is found there; within it every voxel is
                     the one that the whole grid has in this place.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnfast.errors import UsageError

Three = tuple[int, int, int]

# Networks halve their plane three or four times: a window begins and ends where the whole grid's coarsest voxels do.
STEP = 16


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

    grid_zyx: Three
    start_zyx: Three
    shape_zyx: Three

    def __post_init__(self) -> None:
        axes = zip(self.grid_zyx, self.start_zyx, self.shape_zyx, strict=True)
        if not all(0 <= start < start + size <= grid for grid, start, size in axes):
            raise UsageError(
                "bad-window",
                f"got a window of {self.shape_zyx} voxels from {self.start_zyx} on, wanted one of at least a voxel "
                f"inside the grid of {self.grid_zyx}",
            )

    @classmethod
    def whole(cls, grid_zyx: Three) -> Window:
        """All of a grid."""
        return cls(grid_zyx, (0, 0, 0), grid_zyx)

    @property
    def stop_zyx(self) -> Three:
        """One past the window's last voxel."""
        (z, y, x), (depth, height, width) = self.start_zyx, self.shape_zyx
        return z + depth, y + height, x + width

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its grid."""
        return self.shape_zyx == self.grid_zyx

    def check(self, shape: tuple[int, ...], grid_zyx: Three | None = None) -> None:
        """Refuse an array of another shape than the window's, or a window of another grid.

        Raises:
            UsageError: ``bad-window``.
        """
        if shape != self.shape_zyx:
            raise UsageError("bad-window", f"got an array of {shape} voxels, wanted the window's {self.shape_zyx}")
        if grid_zyx not in (None, self.grid_zyx):
            raise UsageError("bad-window", f"got a window of a grid of {self.grid_zyx} voxels, wanted {grid_zyx}")
