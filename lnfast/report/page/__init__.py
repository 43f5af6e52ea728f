"""report.html: the report as a single file for a browser, without network requests.

document.py   `render`: the answer, the warnings and the table as text, which need no script
scene.py      the data that the script draws: slices, boxes and diameters in the picture's frame
diameters.py  the end points of the axial diameters
voxels.py     voxels and labels as text
page.html, page.css, page.js
"""

from __future__ import annotations

from lnfast.report.page.document import render

__all__ = ["render"]
