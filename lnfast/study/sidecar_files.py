"""Find the sidecar files of an image: the ``.bval`` and the ``.json`` beside it.

A file belongs to ``x.nii.gz`` when it is named ``x`` with the wanted ending, in any case (``.bval``, ``.BVAL``).
nnU-Net adds the channel to an image's name and to no other file's, so a sidecar of ``x_0000.nii.gz`` may also be named
``x``, unless there is an image ``x.nii`` or ``x.nii.gz``, to which it then belongs.
"""

from __future__ import annotations

import os
from pathlib import Path

_IMAGE_ENDINGS = (".nii.gz", ".nii")
_CHANNEL = "_0000"


def stem(name: str) -> str:
    """Return a file name without ``.nii`` or ``.nii.gz``, in any case."""
    for ending in _IMAGE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def shown(name: str) -> str:
    """Return a file name with unprintable characters replaced, safe for any terminal and log."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def files_beside(image: Path, endings: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the paths beside an image that have its name and one of the endings, in the order of their names.

    They include folders, pipes and broken links; the readers of the files decide about these.

    Args:
        image: the path of the image.
        endings: lower case, with the dot.
    """
    names = _names(image)
    bare = stem(image.name)
    stems = {bare}
    without = bare.removesuffix(_CHANNEL)
    if without not in ("", bare) and not any(name.lower() in _images_of(without.lower()) for name in names):
        stems.add(without)
    # Test the names directly too: a folder may not be listable, and some systems list a name in other code points.
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
