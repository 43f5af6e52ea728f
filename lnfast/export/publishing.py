"""Write engine folders, whole or not at all.

An exported folder holds the model's own files as well, so that it serves, runs its self-test and can be exported again
wherever it is copied; an engine in the cache does not, for the model is at hand.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lnfast.atomic import replacing_folder
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.engine.manifest import MANIFEST, Manifest, is_engine_file
from lnfast.card import Model
from lnfast.errors import UsageError

_MODEL_FILES = ("model.onnx", "probe.npz", "card.json", "MODEL_CARD.md")


def publish(engine: EngineFolder, manifest: Manifest, model: Model, out: Path, *, with_model: bool) -> EngineFolder:
    """Write an engine into its place, complete or not at all; an older engine folder is replaced.

    Args:
        engine: a draft, or an engine from the cache, whose files are copied.
        manifest: its manifest, with the certificate.
        model: the model of which it was built.
        out: the folder to write.
        with_model: whether the model's files are copied as well.

    Raises:
        UsageError: ``output-exists``.
        EngineError, ModelError: a file of the engine or the model was changed meanwhile.
        OSError: from the disk; nothing is left behind.
    """
    out = Path(os.path.abspath(out))

    def check(folder: Path) -> None:
        check_replaceable(folder, whole=with_model)

    check(out)
    contents = {name: engine.content(name) for name in manifest.files}
    # A manifest from a file has no sizes, which are for people.
    entries = {name: {**entry, "bytes": len(contents[name])} for name, entry in manifest.files.items()}
    manifest = replace(manifest, files=entries)
    if with_model:
        contents |= {"model.onnx": model.onnx_bytes}
        paths = [model.folder / name for name in _MODEL_FILES[1:]]
        contents |= {path.name: path.read_bytes() for path in paths if path.is_file()}
    contents[MANIFEST] = manifest.to_json().encode()
    with replacing_folder(out, frozenset({*_names(out), *contents}), check) as work:
        for name, content in contents.items():
            (work / name).write_bytes(content)
    return EngineFolder(out, manifest)


def check_replaceable(out: Path, *, whole: bool = True) -> None:
    """Refuse to replace anything but an engine folder.

    Args:
        out: the folder to write.
        whole: whether the present folder must have a manifest: without one a folder of the user's is a model. In the
            cache it is an engine that was damaged.

    Raises:
        UsageError: ``output-exists``.
    """
    if not os.path.lexists(out):
        return
    real = out.is_dir() and not out.is_symlink()
    present = {entry.name for entry in os.scandir(out)} if real else {str(out)}
    foreign = sorted(present - _names(out))
    if foreign or (whole and present and MANIFEST not in present):
        what = f"holds {foreign[0]!r}" if foreign else f"holds no {MANIFEST}"
        raise UsageError("output-exists", f"{out} is no engine folder ({what}); move it or give another -o")


def _names(folder: Path) -> frozenset[str]:
    """Return the names of files that export may have written there."""
    present = os.listdir(folder) if folder.is_dir() else []
    return frozenset({*_MODEL_FILES, MANIFEST, *filter(is_engine_file, present)})
