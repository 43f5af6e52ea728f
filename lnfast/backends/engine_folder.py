"""An engine as files: what `lnfast.export` made of a model for one runtime, device and precision, and its manifest.

    manifest.json          what it was made of, by what and for what, the hash of each file, and the certificate
    engine.onnx            the graph in its precision; absent where it is the model's own
    engine-ZxYxX.blob      OpenVINO: compiled for a shape of the input
    engine.trt             TensorRT: serialized

Whatever a manifest says is checked before a runtime sees a byte of the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lnfast.backends.machine import cpu_kind, device_kind
from lnfast.backends.registry import DTYPES, PRECISIONS, TARGETS
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.window import Three

SCHEMA = "lnfast.engine/1"
MANIFEST = "manifest.json"
GRAPH, SERIALIZED = "engine.onnx", "engine.trt"
_BYTES_AT_MOST = 1 << 20  # of a manifest


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        created: ISO 8601, UTC.
        lnfast: version that made it.
        model: ``{name, version, sha256, probe_sha256, decisive}``; see `lnfast.card.ModelCard.decisive`.
        target: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        version: of that package, in full.
        device: ``cpu`` or ``cuda``.
        made_for: `lnfast.backends.machine.cpu_kind`, or compute capabilities; empty for all that the package serves.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        dtype: of input and output, ``float32`` or ``float16``.
        shapes: windows of the grid that it is compiled for beside the whole, ``(z, y, x)``.
        files: ``{name: {sha256, bytes}}``.
        build: how it was made; for people.
        certificate: what was proven, None when the maker could not run it.
    """

    created: str
    lnfast: str
    model: Mapping[str, str]
    target: str
    version: str
    device: str
    made_for: tuple[str, ...]
    precision: str
    dtype: str
    shapes: tuple[Three, ...]
    files: Mapping[str, Mapping[str, Any]]
    build: Mapping[str, Any]
    certificate: Mapping[str, Any] | None

    @property
    def backend(self) -> str:
        """Name of the backend that runs it."""
        return TARGETS[self.target]

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises:
            EngineError: ``bad-manifest`` with what is missing or wrong.
        """
        try:
            told = json.loads(text, parse_constant=_no_number)
            if told["schema"] != SCHEMA:
                raise ValueError(f"schema is {told['schema']!r}, wanted {SCHEMA!r}")
            made = cls(
                created=str(told["created"]),
                lnfast=str(told["lnfast"]),
                model={
                    key: str(told["model"][key]) for key in ("name", "version", "sha256", "probe_sha256", "decisive")
                },
                target=str(told["target"]),
                version=str(told["version"]),
                device=str(told["device"]),
                made_for=tuple(str(one) for one in told["made_for"]),
                precision=str(told["precision"]),
                dtype=str(told["dtype"]),
                shapes=tuple(_three(shape) for shape in told["shapes"]),
                files={str(name): {"sha256": str(entry["sha256"])} for name, entry in told["files"].items()},
                build=dict(told["build"]),
                certificate=None if told["certificate"] is None else dict(told["certificate"]),
            )
            if made.target not in TARGETS or made.device not in ("cpu", "cuda"):
                raise ValueError(f"target is {made.target!r} on {made.device!r}")
            if made.dtype not in DTYPES or made.precision not in PRECISIONS:
                raise ValueError(f"precision is {made.precision!r} with {made.dtype!r} at its ends")
            strange = [name for name in made.files if not is_engine_file(name)]
            if strange:
                raise ValueError(f"it lists {strange[0]!r}, which is no file of an engine")
        except KeyError as error:
            raise EngineError("bad-manifest", f"it lacks the entry {error}") from error
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise EngineError("bad-manifest", f"it cannot be used ({error})") from error
        return made


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
            if any(size > grid for size, grid in zip(shape, model.card.shape_zyx, strict=True)):
                beyond = f"a window of {'x'.join(map(str, shape))} is beyond the model's grid"
                raise EngineError("bad-manifest", f"{engine.folder}: {beyond}; {engine.again}")
        return
    what = {"sha256": "model.onnx", "probe_sha256": "probe.npz", "decisive": "card.json"}[differing]
    raise EngineError(
        "other-model",
        f"{engine.folder} was made of model {told['name']} {told['version']} with another {what} than that of "
        f"{wanted['name']} {wanted['version']} here; {engine.again}",
    )


def identity(model: Model) -> dict[str, str]:
    """What a manifest says of its model."""
    card = model.card
    return {
        "name": card.name,
        "version": card.version,
        "sha256": card.sha256["model.onnx"],
        "probe_sha256": card.sha256["probe.npz"],
        "decisive": card.decisive,
    }


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


def is_engine_file(name: str) -> bool:
    """Whether export gives files that name."""
    return name in (GRAPH, SERIALIZED) or re.fullmatch(r"engine-\d+x\d+x\d+\.blob", name) is not None


def blob_name(shape_zyx: Three) -> str:
    """Of the file that is compiled for a shape."""
    return f"engine-{'x'.join(map(str, shape_zyx))}.blob"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _three(values: Any) -> Three:
    z, y, x = (int(value) for value in values)
    if min(z, y, x) < 1:
        raise ValueError(f"a shape is {values}")
    return z, y, x
