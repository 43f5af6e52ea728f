"""An engine folder: read, and refused where it is not what it says or not for this machine.

Whatever a manifest says is checked before a runtime sees a byte of the files.
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
    """A folder whose manifest was read; files are checked against it when they are used."""

    folder: Path
    manifest: Manifest

    @cached_property
    def sha256(self) -> str:
        """Of everything that decides what the engine computes: its files, its model, its precision."""
        told = self.manifest
        parts = [told.model["sha256"], told.target, told.version, told.precision, told.dtype]
        parts += [f"{name}={entry['sha256']}" for name, entry in sorted(told.files.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def has(self, name: str) -> bool:
        """Whether the manifest lists a file."""
        return name in self.manifest.files

    def content(self, name: str) -> bytes:
        """A file, its hash proven.

        Raises:
            EngineError: ``engine-damaged``.
        """
        path = self.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
                raise OSError(0, "no regular file")
            content = path.read_bytes()
        except OSError as error:
            told = f"{self.folder}: {name} cannot be read ({error.strerror}); {self.again}"
            raise EngineError("engine-damaged", told) from error
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]["sha256"]:
            told = f"{self.folder}: {name} is not the file that manifest.json names (sha256 differs); {self.again}"
            raise EngineError("engine-damaged", told)
        return content

    def check_files(self) -> None:
        """Prove the hash of every file, also of those that are loaded when a study first needs them (10 ms).

        Raises:
            EngineError: ``engine-damaged``.
        """
        for name in self.manifest.files:
            self.content(name)

    @property
    def again(self) -> str:
        """The line that makes another."""
        told = self.manifest
        carried = (self.folder / "model.onnx").is_file()
        whose = f"{self.folder} -o DIR" if carried else told.model["name"]
        return f"make it again: lnfast export {whose} --target {told.target} --precision {told.precision}"


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
    """Refuse an engine that was made of another model, or of one with another probe.

    Raises:
        EngineError: ``other-model``; ``bad-manifest`` for windows that are no part of the model's grid.
    """
    told, wanted = engine.manifest.model, identity(model)
    differing = next((key for key in ("sha256", "probe_sha256", "decisive") if told[key] != wanted[key]), None)
    if differing is None:
        for shape in engine.manifest.shapes:
            if not fits_grid(shape, model.card.shape_zyx):
                beyond = f"a window of {shape_text(shape)} is beyond the model's grid"
                raise EngineError("bad-manifest", f"{engine.folder}: {beyond}; {engine.again}")
        return
    what = {"sha256": "model.onnx", "probe_sha256": "probe.npz", "decisive": "card.json"}[differing]
    raise EngineError(
        "other-model",
        f"{engine.folder} was made of model {told['name']} {told['version']} with another {what} than that of "
        f"{wanted['name']} {wanted['version']} here; {engine.again}",
    )


def check_here(engine: EngineFolder, version: str | None) -> None:
    """Refuse an engine for another runtime version or another kind of CPU; GPUs are for `lnfast.backends.trt`.

    Args:
        engine: whose manifest is asked.
        version: of the runtime that is installed.

    Raises:
        EngineError: ``other-version`` or ``other-device``.
    """
    told = engine.manifest
    if told.version != version:
        raise EngineError(
            "other-version",
            f"{engine.folder} was made with {told.target} {told.version}, here is {version or 'none'}; {engine.again}",
        )
    if told.device == "cpu" and told.made_for != (cpu_kind(),):
        raise EngineError(
            "other-device",
            f"{engine.folder} was made for a CPU with {' '.join(told.made_for)}, here is {cpu_kind()}; {engine.again}",
        )


def check_certified(engine: EngineFolder, device: str) -> None:
    """Refuse an engine that was not compared with the FP32 reference on a device of this kind.

    Args:
        engine: whose certificate is asked.
        device: that shall run it, ``"cpu"`` or ``"cuda:N"``.

    Raises:
        EngineError: ``uncertified``.
    """
    told, here = engine.manifest, device_kind(device)
    if told.certificate is None:
        why = "was never compared with FP32, because the machine that made it could not run it"
    elif told.certificate.get("passed") is not True:
        why = "did not pass the comparison with FP32"
    elif told.certificate.get("device") != here:
        why = f"was compared with FP32 on {told.certificate.get('device')}, not on {here}"
    else:
        return
    raise EngineError("uncertified", f"{engine.folder} {why}; to certify one here, {engine.again}")
