"""Open the model to export: a shipped name, a model or engine folder, or a bare .onnx beside a card.

A bare .onnx becomes a model folder first: hashed, and with a probe, a phantom and the FP32 answer to it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lnfast.card import Model, load_model
from lnfast.errors import ModelError, UsageError
from lnfast.export.certificate import open_reference_network
from lnfast.geometry import Volume
from lnfast.matching import NodeMap
from lnfast.measure import Rules
from lnfast.phantom import make_phantom
from lnfast.window import Window

PROBE_SEED, PROBE_SCANNER = 8_200_000, "achieva"
_CHECKPOINTS = (".ckpt", ".pt", ".pth", ".safetensors")
_NO_PROBE = {"model.onnx": {"sha256": ""}, "probe.npz": {"sha256": ""}}


@contextmanager
def open_source(source: str, card: Path | None, progress: Callable[[str], None]) -> Iterator[Model]:
    """Yield the model of a source; temporary files for it are removed afterwards.

    Args:
        source: shipped name, folder, or ``.onnx``.
        card: of a bare ``.onnx``; None for the ``card.json`` beside it.
        progress: told what is generated.

    Raises:
        UsageError: ``checkpoint`` for a training run, which has no graph yet.
        ModelError: the model is refused.
    """
    path = Path(source)
    if path.suffix in _CHECKPOINTS or (path.is_dir() and (path / "snapshot.safetensors").exists()):
        raise UsageError(
            "checkpoint",
            f"{source} is a training run or its checkpoint; make a model folder of it first: python -m training export "
            f"{path if path.is_dir() else path.parent} -o DIR",
        )
    if path.suffix != ".onnx":
        if card is not None:
            raise UsageError("bad-card", f"--card is for a bare .onnx, and {source} is none")
        yield load_model(source)
        return
    with tempfile.TemporaryDirectory(prefix="lnfast-model-") as work:
        progress(f"making a probe for {path.name}: a digital patient and what FP32 finds in it")
        yield _with_probe(path, card or path.with_name("card.json"), Path(work))


def probe_bytes(volume: Volume, answer: NodeMap) -> bytes:
    """Return ``probe.npz``: a study and the FP32 answer to it.

    Args:
        volume: the study.
        answer: the nodes that FP32 finds in it, measured with their logits.
    """
    archive = io.BytesIO()
    shorts_mm = np.array([node.ellipsoid_short_mm for node in answer.nodes], dtype=np.float64)
    mask = answer.labels.array.astype(np.uint8 if len(answer.nodes) < 256 else np.uint16)
    np.savez_compressed(archive, array=volume.array, affine=volume.grid.affine, mask=mask, ellipsoid_short_mm=shorts_mm)
    return archive.getvalue()


def _with_probe(onnx: Path, card: Path, folder: Path) -> Model:
    try:
        entries: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
        content = onnx.read_bytes()
        entries["files"] = {**_NO_PROBE, "model.onnx": _entry(content)}
    except OSError as error:
        raise ModelError("model-incomplete", f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ModelError("bad-card", f"{card} cannot be used: {error}") from error
    (folder / "model.onnx").write_bytes(content)
    text = json.dumps(entries, indent=1)
    (folder / "card.json").write_text(text, encoding="utf-8")
    model = load_model(folder)
    volume = make_phantom(PROBE_SEED, PROBE_SCANNER, stage="n1").volume
    network = open_reference_network(model)
    try:
        answer = network.answer(volume, Rules(), window=Window.whole(network.grid_at_once(volume)))
    finally:
        network.close()
    if not answer.nodes:
        raise ModelError(
            "blank", f"{onnx.name} finds no node in the probe, so the probe would prove nothing of an engine"
        )
    probe = probe_bytes(volume, NodeMap(answer.labels, answer.nodes))
    (folder / "probe.npz").write_bytes(probe)
    entries["files"]["probe.npz"] = _entry(probe)
    (folder / "card.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return load_model(folder)


def _entry(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
