"""The files that belong to a study and lie beside it: its b-values and its sidecar.

One look-up for all of them. A file belongs to ``x.nii.gz`` when it is called ``x`` with the wanted ending, in any case
(``.bval``, ``.BVAL``). nnU-Net adds the channel to an image's name and nothing to other files', so what belongs to
``x_0000.nii.gz`` may also be called ``x``, unless an image ``x.nii`` or ``x.nii.gz`` lies there, whose it then is.
"""

from __future__ import annotations

import os
from pathlib import Path

_IMAGE_ENDINGS = (".nii.gz", ".nii")
_CHANNEL = "_0000"


def stem(name: str) -> str:
    """A file name without ``.nii`` or ``.nii.gz``, in any case."""
    for ending in _IMAGE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def shown(name: str) -> str:
    """A file name that any terminal and log can take."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def files_beside(image: Path, endings: tuple[str, ...]) -> tuple[Path, ...]:
    """Everything called as the image but for one of ``endings`` (lower case, with the dot), in the order of the names.

    Also what is no ordinary file, or a link to nothing: what to make of that is for the reader to say.
    """
    names = _names(image)
    bare = stem(image.name)
    stems = {bare}
    without = bare.removesuffix(_CHANNEL)
    if without not in ("", bare) and not any(name.lower() in _images_of(without.lower()) for name in names):
        stems.add(without)
    # Asked for by name too: a folder may be closed to listing, and some systems list a name in other code points.
    direct = {stem + ending for stem in stems for ending in endings}
    listed = {
        name for name in names for ending in endings if name.lower().endswith(ending) and name[: -len(ending)] in stems
    }
    present = listed | {name for name in direct - listed if os.path.lexists(image.with_name(name))}
    return tuple(image.with_name(name) for name in sorted(present))


def _names(image: Path) -> list[str]:
    try:
        return os.listdir(image.parent)
    except OSError:
        return []


def _images_of(bare: str) -> tuple[str, ...]:
    return tuple(bare + ending for ending in _IMAGE_ENDINGS)
