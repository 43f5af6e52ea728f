"""Frames and pixels of any DICOM file that pydicom reads: enhanced, implicit, compressed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.study.dicom import tags
from lnfast.study.dicom.codestream import has_size_of
from lnfast.study.dicom.frames import Frame, Pixels, frame_of
from lnfast.study.dicom.packages import PYDICOM, quiet

MOST_FRAMES = 4096
# Functional groups that describe a frame. Others, and vendors' own, repeat elements with another meaning: in Philips'
# private sequence lies a whole classic header whose position is half a voxel off.
_GROUPS = (0x00189226, 0x00189117, 0x00189076, 0x00209113, 0x00209116, 0x00289110, 0x00289145)
_IMPLICIT, _RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
_JPEG_LS, _JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
SYNTAXES = frozenset({"1.2.840.10008.1.2.1", _IMPLICIT, _RLE, _JPEG_LS, _JPEG_2000, *_JPEG_LOSSLESS})
LOSSY_SYNTAXES = frozenset(f"1.2.840.10008.1.2.4.{code}" for code in (50, 51, 81, 91))


def read_frames(path: Path) -> list[Frame]:
    """All frames of a file.

    Raises:
        StudyError: ``truncated``, ``damaged``, ``too-large``.
        BackendError: ``backend-missing``.
    """
    dataset = _dataset(path, with_pixels=False)
    common = _elements(dataset)
    count = max(tags.integer(common, tags.NUMBER_OF_FRAMES, 1), 1)
    if count > MOST_FRAMES:
        raise StudyError("too-large", f"a file has {count} frames, wanted at most {MOST_FRAMES}")
    own = _items(dataset, tags.FRAME_GROUPS)
    for group in (dataset, *_items(dataset, tags.SHARED_GROUPS)):
        common.update(_flat(group))
    if own and len(own) != count:
        raise StudyError("damaged", f"a file has {count} frames and describes {len(own)}; send it again")
    return [frame_of(path, index, None, common | (_flat(own[index]) if own else {})) for index in range(count)]


def check_size(size: int, pixels: Pixels, frames: int = 1) -> None:
    """Refuse native pixels that are fewer, or a row or more too many, for what the header says.

    A header with too few rows would cut the image in silence.

    Raises:
        StudyError: ``truncated``, ``damaged``.
    """
    wanted = pixels.size * frames
    if size < wanted:
        raise StudyError("truncated", "a DICOM file has fewer pixels than it promises; send it again")
    if pixels.rows > 0 and 0 < pixels.size // pixels.rows <= size - wanted:
        raise StudyError("damaged", "a DICOM file has more pixels than its header says; send the originals")


def read_pixels(path: Path, indices: list[int], pixels: Pixels) -> Iterator[NDArray[Any]]:
    """Stored pixels of some frames of a file, each ``(rows, columns)``, in the order of the indices.

    Args:
        path: of the file.
        indices: of frames, from 0.
        pixels: what the header says of each.

    Raises:
        StudyError: ``truncated``, ``damaged``, ``unsupported-transfer-syntax``.
    """
    module = PYDICOM.load()
    dataset = _dataset(path, with_pixels=True)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    with quiet():
        try:
            decoder = module.pixels.get_decoder(syntax)
            usable = decoder.is_available
        except NotImplementedError:
            usable = False
        if not usable:
            raise StudyError(
                "unsupported-transfer-syntax",
                "no decoder is installed for how the pixels are compressed: send the series uncompressed, or pip "
                "install 'lnfast[dicom]'",
            )
        count = max(int(dataset.get("NumberOfFrames") or 1), 1)
        compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        if not compressed:
            check_size(len(dataset.get("PixelData") or b""), pixels, count)
        for index in indices:
            try:
                if compressed:
                    frame = module.encaps.get_frame(dataset.PixelData, index, number_of_frames=count)
                    if not has_size_of(frame, pixels):
                        raise ValueError("another size")
                values, _ = decoder.as_array(dataset, index=index, raw=True)
            except Exception as error:  # a decoder raises what it likes; its text may quote the header
                raise StudyError("damaged", "the pixels of a file cannot be decoded; send it again") from error
            yield np.asarray(values)


def _dataset(path: Path, *, with_pixels: bool) -> Any:
    module = PYDICOM.load()
    with quiet():
        try:
            return module.dcmread(path, stop_before_pixels=not with_pixels)
        except Exception as error:  # as above: the text of pydicom's errors may quote the header
            raise StudyError("damaged", "a DICOM file cannot be read to its end; send it again") from error


def _elements(dataset: Any) -> dict[int, bytes]:
    """Wanted elements at the top of a dataset, as they are stored."""
    elements = {}
    for tag in sorted(dataset.keys()):
        value = dataset.get_item(tag).value if tags.is_wanted(int(tag)) else None
        if isinstance(value, bytes):
            elements[int(tag)] = value
        elif value is not None:  # what pydicom had to convert already
            elements[int(tag)] = str(value).encode("latin-1", "replace")
    return elements


def _items(dataset: Any, tag: int) -> list[Any]:
    with quiet():
        try:
            return list(dataset[tag].value) if tag in dataset else []
        except Exception as error:
            raise StudyError("damaged", "a DICOM file has a sequence that cannot be read; send it again") from error


def _flat(item: Any) -> dict[int, bytes]:
    """Wanted elements of an item and of the functional groups in it: together they say each thing once."""
    flat = _elements(item)
    for tag in _GROUPS:
        for inner in _items(item, tag)[:1]:
            flat.update(_flat(inner))
    return flat
