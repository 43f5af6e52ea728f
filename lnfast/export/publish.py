"""Engine folders, written: whole or not at all.

An exported folder holds the model's own files as well, so that it serves, proves itself and can be exported again
wherever it is carried; an engine in the cache does not, for the model is at hand.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lnfast._version import __version__
from lnfast.atomic import replacing_folder
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.engine.manifest import MANIFEST, Manifest, identity, is_engine_file
from lnfast.card import Model
from lnfast.errors import UsageError
from lnfast.window import Zyx

_MODEL_FILES = ("model.onnx", "probe.npz", "card.json", "MODEL_CARD.md")


def draft(
    model: Model,
    *,
    target: str,
    version: str,
    device: str,
    made_for: tuple[str, ...],
    precision: str,
    dtype: str = "float32",
    build: Mapping[str, Any],
) -> Manifest:
    """The manifest of an engine that has no files and no certificate yet."""
    return Manifest(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        lnfast=__version__,
        model=identity(model),
        target=target,
        version=version,
        device=device,
        made_for=made_for,
        precision=precision,
        dtype=dtype,
        shapes=(),
        files={},
        build=build,
        certificate=None,
    )


def write_draft(folder: Path, manifest: Manifest, files: Mapping[str, bytes], shapes: tuple[Zyx, ...]) -> EngineFolder:
    """An engine in a folder of nobody's, to be tried; replaces the draft that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in list(folder.iterdir()):
        entry.unlink()
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    made = replace(manifest, files=listed, shapes=shapes)
    (folder / MANIFEST).write_text(made.to_json(), encoding="utf-8")
    return EngineFolder(folder, made)


def publish(engine: EngineFolder, manifest: Manifest, model: Model, out: Path, *, with_model: bool) -> EngineFolder:
    """Give an engine its place, complete or not at all; an older engine folder is replaced.

    Args:
        engine: a draft, whose files are taken.
        manifest: the draft's, with its certificate.
        model: whose files go along.
        out: the folder to be.
        with_model: whether they do.

    Raises:
        UsageError: ``output-exists``.
        EngineError, ModelError: a file of the draft or the model was changed meanwhile.
        OSError: what the disk said; nothing is left behind.
    """
    out = Path(os.path.abspath(out))

    def check(folder: Path) -> None:
        check_replaceable(folder, whole=with_model)

    check(out)
    contents = {name: engine.content(name) for name in manifest.files}
    # A manifest that was read has no sizes, which are for people.
    sized = {name: {**entry, "bytes": len(contents[name])} for name, entry in manifest.files.items()}
    manifest = replace(manifest, files=sized)
    if with_model:
        contents |= {"model.onnx": model.onnx_bytes}
        contents |= {n: (model.folder / n).read_bytes() for n in _MODEL_FILES[1:] if (model.folder / n).is_file()}
    contents[MANIFEST] = manifest.to_json().encode()
    with replacing_folder(out, frozenset({*_names(out), *contents}), check) as work:
        for name, content in contents.items():
            (work / name).write_bytes(content)
    return EngineFolder(out, manifest)


def check_replaceable(out: Path, *, whole: bool = True) -> None:
    """An engine folder may take the place of an engine folder, and of nothing else.

    Args:
        out: the place.
        whole: whether what is there must have a manifest: without one a folder of the user's is a model. In the cache
            it is an engine that was damaged.

    Raises:
        UsageError: ``output-exists``.
    """
    if not os.path.lexists(out):
        return
    real = out.is_dir() and not out.is_symlink()
    present = {entry.name for entry in os.scandir(out)} if real else {str(out)}
    strange = sorted(present - _names(out))
    if strange or (whole and present and MANIFEST not in present):
        what = f"holds {strange[0]!r}" if strange else f"holds no {MANIFEST}"
        raise UsageError("output-exists", f"{out} is no engine folder ({what}); move it or give another -o")


def _names(folder: Path) -> frozenset[str]:
    """Of the files that export may have written there."""
    there = os.listdir(folder) if folder.is_dir() else []
    return frozenset({*_MODEL_FILES, MANIFEST, *filter(is_engine_file, there)})
