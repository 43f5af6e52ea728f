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
    shapes: tuple[Zyx, ...]
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


def is_engine_file(name: str) -> bool:
    """Whether export gives files that name."""
    return name in (GRAPH, SERIALIZED) or re.fullmatch(r"engine-\d+x\d+x\d+\.blob", name) is not None


def blob_name(shape_zyx: Zyx) -> str:
    """Of the file that is compiled for a shape."""
    return f"engine-{shape_text(shape_zyx)}.blob"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _three(values: Any) -> Zyx:
    z, y, x = (int(value) for value in values)
    if min(z, y, x) < 1:
        raise ValueError(f"a shape is {values}")
    return z, y, x
