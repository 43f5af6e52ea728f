"""The manifest of an engine folder, and the names of the files that it lists.

manifest.json          what the engine was built of, by what and for what, each file's hash, and the certificate
engine.onnx            the graph in its precision; absent where it is the model's own
engine-ZxYxX.blob      OpenVINO: compiled for a shape of the input
engine.trt             TensorRT: serialized
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lnfast.backends.registry import DTYPES, PRECISIONS, TARGETS
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.window import Zyx, shape_text

SCHEMA = "lnfast.engine/1"
MANIFEST = "manifest.json"
GRAPH, SERIALIZED = "engine.onnx", "engine.trt"


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``.

    Attributes:
        created: ISO 8601, UTC.
        lnfast: version that built it.
        model: ``{name, version, sha256, probe_sha256, decisive}``; see `lnfast.card.ModelCard.decisive`.
        target: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        version: of that package, in full.
        device: ``cpu`` or ``cuda``.
        made_for: `lnfast.backends.machine.cpu_kind`, or compute capabilities; empty for all that the package supports.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        dtype: of input and output, ``float32`` or ``float16``.
        shapes: windows of the model grid that it is compiled for beside the whole, ``(z, y, x)``.
        files: ``{name: {sha256, bytes}}``.
        build: how it was built; for people.
        certificate: the proof, None when the machine that built it could not run it.
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
    shapes: tuple[Zyx, ...]
    files: Mapping[str, Mapping[str, Any]]
    build: Mapping[str, Any]
    certificate: Mapping[str, Any] | None

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""
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
            manifest = _parsed(json.loads(text, parse_constant=_no_number))
        except KeyError as error:
            raise EngineError("bad-manifest", f"it lacks the entry {error}") from error
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise EngineError("bad-manifest", f"it cannot be used ({error})") from error
        return manifest


def _parsed(entries: Any) -> Manifest:
    if entries["schema"] != SCHEMA:
        raise ValueError(f"schema is {entries['schema']!r}, wanted {SCHEMA!r}")
    certificate = entries["certificate"]
    manifest = Manifest(
        created=str(entries["created"]),
        lnfast=str(entries["lnfast"]),
        model={key: str(entries["model"][key]) for key in ("name", "version", "sha256", "probe_sha256", "decisive")},
        target=str(entries["target"]),
        version=str(entries["version"]),
        device=str(entries["device"]),
        made_for=tuple(str(kind) for kind in entries["made_for"]),
        precision=str(entries["precision"]),
        dtype=str(entries["dtype"]),
        shapes=tuple(_shape(values) for values in entries["shapes"]),
        files={str(name): {"sha256": str(entry["sha256"])} for name, entry in entries["files"].items()},
        build=dict(entries["build"]),
        certificate=None if certificate is None else dict(certificate),
    )
    if manifest.target not in TARGETS or manifest.device not in ("cpu", "cuda"):
        raise ValueError(f"target is {manifest.target!r} on {manifest.device!r}")
    if manifest.dtype not in DTYPES or manifest.precision not in PRECISIONS:
        raise ValueError(f"precision is {manifest.precision!r} with {manifest.dtype!r} at its ends")
    unknown = [name for name in manifest.files if not is_engine_file(name)]
    if unknown:
        raise ValueError(f"it lists {unknown[0]!r}, which is no file of an engine")
    return manifest


def identity(model: Model) -> dict[str, str]:
    """Return a manifest's entry on its model."""
    card = model.card
    return {
        "name": card.name,
        "version": card.version,
        "sha256": card.sha256["model.onnx"],
        "probe_sha256": card.sha256["probe.npz"],
        "decisive": card.decisive,
    }


def is_engine_file(name: str) -> bool:
    """Return whether a file of an engine can have a name."""
    return name in (GRAPH, SERIALIZED) or re.fullmatch(r"engine-\d+x\d+x\d+\.blob", name) is not None


def blob_name(shape_zyx: Zyx) -> str:
    """Return the name of the file that is compiled for a shape."""
    return f"engine-{shape_text(shape_zyx)}.blob"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _shape(values: Any) -> Zyx:
    z, y, x = (int(value) for value in values)
    if min(z, y, x) < 1:
        raise ValueError(f"a shape is {values}")
    return z, y, x
