"""A slice with the outlines of both sides, as SVG: the voxels as they are, the outlines sharp at any size.

The image stands in the page once; the close-ups show the same elements through a smaller window.

    <g id="case-1">                       pixels of the slice, scaled to millimetres
      <image>                             8 bits a pixel, PNG
      <g id="case-1-outlines"> <path>     along the voxels' edges, clockwise, one for each side and size
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

# Of one slice, before base64, so that ten stay below 1.5 MB. A larger one loses greys: 512 x 512 keep 64.
PNG_BYTES_AT_MOST = 110_000
GREYS_AT_LEAST = 32
_BARS_MM = (100, 50, 20, 10, 5, 2, 1)


def draw(key: str, shown: Slice, truth: Sequence[LymphNode], predicted: Sequence[LymphNode], says: str) -> str:
    """The whole slice, and the close-up with and without outlines.

    Args:
        key: address inside the page.
        shown: what to draw.
        truth, predicted: all nodes of the study.
        says: what the pictures show, for whoever does not see them; plain text.
    """
    (dx, dy), (height, width) = shown.spacing_xy_mm, shown.truth.shape
    size = (0.0, 0.0, width * dx, height * dy)
    left, top, edge = shown.close_mm
    frame = f'<rect class="frame" x="{left:.2f}" y="{top:.2f}" width="{edge:.2f}" height="{edge:.2f}"/>'
    sides = (("truth", shown.truth, truth), ("prediction", shown.predicted, predicted))
    outlines = _outlines(sides)
    scale = f'transform="scale({dx:.6g} {dy:.6g})"'
    content = f'<g id="{key}-image" {scale}>{_image(shown.grey, width, height)}</g>'
    content += f'<g id="{key}-outlines" {scale}>{outlines}</g>'
    close = (left, top, edge, edge)
    pictures = [_svg("whole", size, content + frame, says)]
    if shown.grey is not None:
        pictures.append(_svg("close", close, f'<use href="#{key}-image"/>', "The same place larger, without outlines"))
    both = f'<use href="#{key}-image"/><use href="#{key}-outlines"/>'
    pictures.append(_svg("close", close, both, "The same place larger, with outlines"))
    return "".join(pictures)


def grey_png(grey: NDArray[np.uint8]) -> bytes:
    """A PNG of 8 bits a pixel, at most `PNG_BYTES_AT_MOST` as long as that leaves `GREYS_AT_LEAST`.

    Pillow would do, and is nothing that lnfast asks for; matplotlib writes four bytes a pixel.

    Args:
        grey: ``(y, x)``.
    """
    height, width = grey.shape
    content, step = b"", 1
    while not content or (len(content) > PNG_BYTES_AT_MOST and 256 // (2 * step) >= GREYS_AT_LEAST):
        step *= 2 if content else 1
        rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter, 0: none
        # The middle of each step, stretched so that black and white stay what they are.
        rows[:, 1:] = grey if step == 1 else np.rint((grey // step) * (255 / (255 // step)))
        content = zlib.compress(rows.tobytes(), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def outline(mask: NDArray[np.bool_]) -> str:
    """The edges between a mask and the rest as closed SVG paths of whole pixels; "" of an empty mask.

    Each step has the mask to its right. Where two pixels touch by a corner two steps leave one place, and whichever is
    taken first, both are walked.
    """
    inside = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # By the side on which the pixel has no neighbour: where in (y, x) the step begins and ends.
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
        start = place = next(iter(steps))
        corners = [start]
        while place != start or len(corners) == 1:
            following = steps[place].pop()
            if not steps[place]:
                del steps[place]
            corners.append(following)
            place = following
        path.append(_path(corners))
    return "".join(path)


def _path(corners: list[tuple[int, int]]) -> str:
    """A closed walk of unit steps, straight runs as one command each."""
    (y, x), told, straight = corners[0], "", ""
    told = f"M{x} {y}"
    for (before_y, _), (now_y, now_x) in pairwise(corners):
        kind = "H" if now_y == before_y else "V"
        if kind != straight[:1]:
            told += straight
        straight = f"{kind}{now_x if kind == 'H' else now_y}"
    return told + "z"


def _outlines(sides: Iterable[tuple[str, Labels, Sequence[LymphNode]]]) -> str:
    """Of each node by itself, so that two that touch are seen to be two; suspicious ones apart. What is dark lies below
    all of them, so that lines show on white and the dashes of one side leave the line of the other to be seen."""
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


def _svg(kind: str, window_mm: tuple[float, float, float, float], content: str, says: str) -> str:
    """A picture with R and L at its sides and a scale bar below."""
    left, top, width, height = window_mm
    size, gap = 0.05 * width, 0.025 * width
    # Longer than its label.
    bar = next(bar for bar in _BARS_MM if bar <= 0.35 * width or bar == 1)
    middle, right, below = top + height / 2, left + width - gap, top + height - gap
    return (
        f'<svg class="{kind}" viewBox="{left:.2f} {top:.2f} {width:.2f} {height:.2f}" role="img" '
        f'aria-label="{text(says)}">{content}<g class="marks" font-size="{size:.2f}">'
        f'<text x="{left + gap:.2f}" y="{middle:.2f}">R</text>'
        f'<text x="{right:.2f}" y="{middle:.2f}" text-anchor="end">L</text>'
        f'<path d="M{right - bar:.2f} {below - gap:.2f}v{gap:.2f}h{bar}v{-gap:.2f}"/>'
        f'<text x="{right - bar / 2:.2f}" y="{below - 1.4 * gap:.2f}" text-anchor="middle">{bar} mm</text></g></svg>'
    )
