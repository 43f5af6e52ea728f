"""The male pelvis: one module for each part; what is painted later covers what was painted earlier.

    trunk    outline, fat, muscles      bowel        small bowel, sigmoid, rectum
    bones    and lesions in them        urogenital   bladder, prostate, perineum
    vessels  iliac and small vessels    mimics       bright structures that are no nodes
    nerves   plexus, trunks, ganglia    sides        left and right

Coordinates are atlas millimetres (see `lnfast.phantom.atlas`). Landmarks are rounded from ordinary anatomy; no patient
was traced.
"""

from __future__ import annotations
