"""A slice with the outlines of both sides, as SVG: voxels unsmoothed, outlines sharp at any size.

The page holds the image once; the close-ups show the same elements through a smaller view box.

    <g id="case-1">                       pixels of the slice, scaled to millimetres
      <image>                             8 bits a pixel, PNG
      <g id="case-1-outlines"> <path>     along the voxels' edges, clockwise; a path for each side and size
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.output.page.cells import text
from lnfast.evaluate.output.page.slices import Labels, Slice
from lnfast.measure import LymphNode

# Size of one slice before base64, so that ten stay below 1.5 MB. A larger slice loses greys: 512 x 512 keeps 64.
PNG_BYTES_AT_MOST = 110_000
GREYS_AT_LEAST = 32
_BARS_MM = (100, 50, 20, 10, 5, 2, 1)


def draw(key: str, drawn: Slice, truth: Sequence[LymphNode], predicted: Sequence[LymphNode], description: str) -> str:
    """Draw the whole slice, and the close-up with and without outlines.

    Args:
        key: prefix of the element ids.
        drawn: the slice.
        truth, predicted: all nodes of the study.
        description: of the pictures, for screen readers; plain text.
    """
    (dx, dy), (height, width) = drawn.spacing_xy_mm, drawn.truth.shape
    size = (0.0, 0.0, width * dx, height * dy)
    left, top, edge = drawn.close_mm
    frame = f'<rect class="frame" x="{left:.2f}" y="{top:.2f}" width="{edge:.2f}" height="{edge:.2f}"/>'
    sides = (("truth", drawn.truth, truth), ("prediction", drawn.predicted, predicted))
    outlines = _outlines(sides)
    scale = f'transform="scale({dx:.6g} {dy:.6g})"'
    content = f'<g id="{key}-image" {scale}>{_image(drawn.grey, width, height)}</g>'
    content += f'<g id="{key}-outlines" {scale}>{outlines}</g>'
    close = (left, top, edge, edge)
    pictures = [_svg("whole", size, content + frame, description)]
    if drawn.grey is not None:
        pictures.append(_svg("close", close, f'<use href="#{key}-image"/>', "The same place larger, without outlines"))
    both = f'<use href="#{key}-image"/><use href="#{key}-outlines"/>'
    pictures.append(_svg("close", close, both, "The same place larger, with outlines"))
    return "".join(pictures)


def grey_png(grey: NDArray[np.uint8]) -> bytes:
    """Return a PNG of 8 bits a pixel, of at most `PNG_BYTES_AT_MOST` where that leaves `GREYS_AT_LEAST`.

    Pillow is not a dependency of lnfast; matplotlib writes four bytes a pixel.

    Args:
        grey: ``(y, x)``.
    """
    height, width = grey.shape
    content, step = b"", 1
    while not content or (len(content) > PNG_BYTES_AT_MOST and 256 // (2 * step) >= GREYS_AT_LEAST):
        step *= 2 if content else 1
        rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter, 0: none
        # Each step becomes one grey, stretched so that black and white are unchanged.
        rows[:, 1:] = grey if step == 1 else np.rint((grey // step) * (255 / (255 // step)))
        content = zlib.compress(rows.tobytes(), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the edges between a mask and its outside as closed SVG paths of whole pixels; "" for an empty mask.

    Each step has the mask to its right. Where two pixels touch at a corner, two steps start at one point, and in either
    order both are followed.
    """
    inside = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # For each side on which the pixel has no neighbour: begin and end of the step in (y, x).
    for shift, axis, begin, end in (
        (1, 0, (0, 0), (0, 1)),
        (-1, 1, (0, 1), (1, 1)),
        (-1, 0, (1, 1), (1, 0)),
        (1, 1, (1, 0), (0, 0)),
    ):
        for y, x in np.argwhere(inside & ~np.roll(inside, shift, axis)).tolist():
            steps.setdefault((y - 1 + begin[0], x - 1 + begin[1]), []).append((y - 1 + end[0], x - 1 + end[1]))
    path = []
    while steps:
        start = corner = next(iter(steps))
        corners = [start]
        while corner != start or len(corners) == 1:
            next_corner = steps[corner].pop()
            if not steps[corner]:
                del steps[corner]
            corners.append(next_corner)
            corner = next_corner
        path.append(_path(corners))
    return "".join(path)


def _path(corners: list[tuple[int, int]]) -> str:
    """Return a closed walk of unit steps as an SVG path, each straight run as one command."""
    (y, x), run = corners[0], ""
    path = f"M{x} {y}"
    for (last_y, _), (next_y, next_x) in pairwise(corners):
        command = "H" if next_y == last_y else "V"
        if command != run[:1]:
            path += run
        run = f"{command}{next_x if command == 'H' else next_y}"
    return path + "z"


def _outlines(sides: Iterable[tuple[str, Labels, Sequence[LymphNode]]]) -> str:
    """Return the outline of each node by itself, so that two that touch remain two, with separate paths for suspicious
    nodes. Dark lines lie below all of them, so that outlines show on white and the dashes of one side do not hide the
    line of the other side."""
    below, lines = "", ""
    for kind, labels, nodes in sides:
        paths = {True: "", False: ""}
        for label in np.unique(labels[labels != 0]).tolist():
            paths[nodes[label - 1].suspicious] += outline(labels == label)
        for size, path in (("suspicious", paths[True]), ("small", paths[False])):
            if path:
                below += f'<path class="below {size}" d="{path}"/>'
                lines += f'<path class="{kind} {size}" d="{path}"/>'
    return below + lines


def _image(grey: NDArray[np.uint8] | None, width: int, height: int) -> str:
    if grey is None:
        return f'<rect class="plain" width="{width}" height="{height}"/>'
    coded = base64.b64encode(grey_png(grey)).decode("ascii")
    return f'<image width="{width}" height="{height}" preserveAspectRatio="none" href="data:image/png;base64,{coded}"/>'


def _svg(kind: str, window_mm: tuple[float, float, float, float], content: str, description: str) -> str:
    """Return a picture with R and L at its sides and a scale bar below."""
    left, top, width, height = window_mm
    size, gap = 0.05 * width, 0.025 * width
    # Longer than its label.
    bar = next(bar for bar in _BARS_MM if bar <= 0.35 * width or bar == 1)
    middle, right, below = top + height / 2, left + width - gap, top + height - gap
    return (
        f'<svg class="{kind}" viewBox="{left:.2f} {top:.2f} {width:.2f} {height:.2f}" role="img" '
        f'aria-label="{text(description)}">{content}<g class="marks" font-size="{size:.2f}">'
        f'<text x="{left + gap:.2f}" y="{middle:.2f}">R</text>'
        f'<text x="{right:.2f}" y="{middle:.2f}" text-anchor="end">L</text>'
        f'<path d="M{right - bar:.2f} {below - gap:.2f}v{gap:.2f}h{bar}v{-gap:.2f}"/>'
        f'<text x="{right - bar / 2:.2f}" y="{below - 1.4 * gap:.2f}" text-anchor="middle">{bar} mm</text></g></svg>'
    )
