"""Read an engine folder, and refuse an engine that is damaged, of another model or for another machine.

All that a manifest says is checked before a runtime sees a byte of the files.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lnfast.backends.engine.manifest import MANIFEST, Manifest, identity
from lnfast.backends.machine import cpu_kind, device_kind
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.window import fits_grid, shape_text

_BYTES_AT_MOST = 1 << 20  # of a manifest


@dataclass(frozen=True)
class EngineFolder:
    """A folder whose manifest was read; its files are checked against it when they are used."""

    folder: Path
    manifest: Manifest

    @cached_property
    def sha256(self) -> str:
        """The hash of everything that decides what the engine computes: its files, its model, its precision."""
        manifest = self.manifest
        parts = [manifest.model["sha256"], manifest.target, manifest.version, manifest.precision, manifest.dtype]
        parts += [f"{name}={entry['sha256']}" for name, entry in sorted(manifest.files.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def has(self, name: str) -> bool:
        """Return whether the manifest lists a file."""
        return name in self.manifest.files

    def content(self, name: str) -> bytes:
        """Return a file whose hash is that of the manifest.

        Raises:
            EngineError: ``engine-damaged``.
        """
        path = self.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for a writer
                raise OSError(0, "no regular file")
            content = path.read_bytes()
        except OSError as error:
            message = f"{self.folder}: {name} cannot be read ({error.strerror}); {self.again}"
            raise EngineError("engine-damaged", message) from error
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]["sha256"]:
            message = f"{self.folder}: {name} is not the file that manifest.json names (sha256 differs); {self.again}"
            raise EngineError("engine-damaged", message)
        return content

    def check_files(self) -> None:
        """Check the hash of every file, also of those that are loaded when a study first needs them (10 ms).

        Raises:
            EngineError: ``engine-damaged``.
        """
        for name in self.manifest.files:
            self.content(name)

    @property
    def again(self) -> str:
        """The advice at the end of an error message: the command that builds the engine again."""
        manifest = self.manifest
        has_model = (self.folder / "model.onnx").is_file()
        source = f"{self.folder} -o DIR" if has_model else manifest.model["name"]
        return f"make it again: lnfast export {source} --target {manifest.target} --precision {manifest.precision}"


def read_engine_folder(folder: Path) -> EngineFolder:
    """Read the manifest of a folder.

    Raises:
        EngineError: ``bad-manifest`` when there is none or it cannot be used.
    """
    path = folder / MANIFEST
    again = f"make the engine again: lnfast export {folder} -o DIR"
    try:
        if not path.is_file() or path.stat().st_size > _BYTES_AT_MOST:
            raise EngineError("bad-manifest", "there is none of a usable size")
        return EngineFolder(folder, Manifest.from_json(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError("bad-manifest", f"{path} cannot be read ({error}); {again}") from error
    except EngineError as error:
        raise EngineError(error.code, f"{path}: {error.message}; {again}") from error


def check_model(engine: EngineFolder, model: Model) -> None:
    """Refuse an engine that was built of another model, or of one with another probe.

    Raises:
        EngineError: ``other-model``; ``bad-manifest`` for windows that are no part of the model's grid.
    """
    built_of, wanted = engine.manifest.model, identity(model)
    differing = next((key for key in ("sha256", "probe_sha256", "decisive") if built_of[key] != wanted[key]), None)
    if differing is None:
        for shape in engine.manifest.shapes:
            if not fits_grid(shape, model.card.shape_zyx):
                beyond = f"a window of {shape_text(shape)} is beyond the model's grid"
                raise EngineError("bad-manifest", f"{engine.folder}: {beyond}; {engine.again}")
        return
    what = {"sha256": "model.onnx", "probe_sha256": "probe.npz", "decisive": "card.json"}[differing]
    raise EngineError(
        "other-model",
        f"{engine.folder} was made of model {built_of['name']} {built_of['version']} with another {what} than that of "
        f"{wanted['name']} {wanted['version']} here; {engine.again}",
    )


def check_here(engine: EngineFolder, version: str | None) -> None:
    """Refuse an engine for another runtime version or another kind of CPU; `lnfast.backends.trt` checks GPUs.

    Args:
        engine: the engine whose manifest is checked.
        version: of the runtime that is installed.

    Raises:
        EngineError: ``other-version`` or ``other-device``.
    """
    manifest = engine.manifest
    if manifest.version != version:
        raise EngineError(
            "other-version",
            f"{engine.folder} was made with {manifest.target} {manifest.version}, here is {version or 'none'}; "
            f"{engine.again}",
        )
    if manifest.device == "cpu" and manifest.made_for != (cpu_kind(),):
        raise EngineError(
            "other-device",
            f"{engine.folder} was made for a CPU with {' '.join(manifest.made_for)}, here is {cpu_kind()}; "
            f"{engine.again}",
        )


def check_certified(engine: EngineFolder, device: str) -> None:
    """Refuse an engine that was not compared with the FP32 reference on a device of this kind.

    Args:
        engine: the engine whose certificate is checked.
        device: the device to run it, ``"cpu"`` or ``"cuda:N"``.

    Raises:
        EngineError: ``uncertified``.
    """
    certificate, here = engine.manifest.certificate, device_kind(device)
    if certificate is None:
        why = "was never compared with FP32, because the machine that made it could not run it"
    elif certificate.get("passed") is not True:
        why = "did not pass the comparison with FP32"
    elif certificate.get("device") != here:
        why = f"was compared with FP32 on {certificate.get('device')}, not on {here}"
    else:
        return
    raise EngineError("uncertified", f"{engine.folder} {why}; to certify one here, {engine.again}")
