"""report.html: the report as one file that a browser opens and that asks nobody for anything.

document.py   `render`: the answer, the warnings and the table as text, which need no script
scene.py      what the script draws: where slices, boxes and diameters lie in the picture
diameters.py  the ends of the axial diameters
voxels.py     voxels and labels as text
page.html, page.css, page.js
"""

from __future__ import annotations

from lnfast.report.page.document import render

__all__ = ["render"]
