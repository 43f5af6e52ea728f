"""evaluation.html: an evaluation as one file that a browser opens, without a script, and that asks nobody for anything.

document.py   `render`: the answer, the notes, the figures, and all the others below
tables.py     the paper's tables
cells.py      a measure or why there is none, escaped
worst.py      which studies are worst, and what went wrong in words
image.py      the study that belongs to a label map
slices.py     the slice where the error is greatest
drawing.py    a slice and its outlines as SVG
page.html, page.css
"""

from __future__ import annotations

from lnfast.evaluate.output.page.document import render

__all__ = ["render"]
