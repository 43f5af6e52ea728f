"""A digital pelvis: a DWI study whose lymph nodes are exactly known.

    generate              a patient and the scan, from a seed
    domain_randomization  the default, and how far other patients depart from it

    protocol              scan protocols and their grids      atlas           patient to atlas millimetres
    field_of_view         its centre in the pelvis            shapes          implicit shapes
    epi_artefacts         distortion, ghost, motion           rasterization   coverage of voxels
    diffusion_signal      tissues and the signal equation     tissue_image    the noise-free image
    receive_coil          sensitivity, shading                painter         paints tissues into it
    acquisition           blur, noise, storage                random_field    smooth noise
    fat_suppression       where it failed                     texture, random_contrast

    anatomy/              trunk, bones, vessels, nerves, bowel, urogenital organs, mimics of nodes
    nodes/                shape, stations, placement, painting

It is for demonstration, tests, training and benchmarks. It is no patient, and a model trained on it has proved nothing
about patients.
"""

from __future__ import annotations

from lnfast.phantom.domain_randomization import LIFELIKE, REALISTIC, TRAINING, Variety
from lnfast.phantom.generate import Phantom, make_phantom
from lnfast.phantom.nodes.placement import PhantomNode
from lnfast.phantom.protocol import SCANNERS, Protocol

__all__ = [
    "LIFELIKE",
    "REALISTIC",
    "SCANNERS",
    "TRAINING",
    "VERSION",
    "Phantom",
    "PhantomNode",
    "Protocol",
    "Variety",
    "make_phantom",
]

# Identifies the phantoms: raise it by one with every change after which any seed gives another patient. Caches of
# phantoms are kept under it, and `tests/phantom/test_stored_phantoms.py` fails when phantoms change and it does not.
VERSION = 4
