"""evaluation.html: an evaluation as a single file for a browser, without scripts and without network requests.

document.py   `render`: the answer, the notes, the figures, and the parts below
tables.py     the paper's tables
cells.py      a cell: a measure or why it is undefined, escaped
worst.py      which studies are worst, and what went wrong in words
image.py      the image that belongs to a label map
slices.py     the slice where the error is greatest
drawing.py    a slice and its outlines as SVG
page.html, page.css
"""

from __future__ import annotations

from lnfast.evaluate.output.page.document import render

__all__ = ["render"]
