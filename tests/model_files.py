"""Small model folders for tests: a real card, a probe, and a graph of the op kinds that the shipped network has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnfast.card import CARD_SCHEMA

SHAPE_ZYX = (8, 16, 16)


def network(
    shape_zyx: tuple[int | str, int | str, int | str] = SHAPE_ZYX, *, seed: int = 0, input_name: str = "input"
) -> onnx.ModelProto:
    """One level of a 3D U-Net, random weights, ``input`` to ``logits`` of the same shape: Conv, Relu, MaxPool,
    ConvTranspose, Concat."""
    weights = _random(seed, (4, 1, 3, 3, 3), (4,), (8, 4, 3, 3, 3), (8,), (8, 4, 2, 2, 2), (4,), (1, 8, 1, 1, 1), (1,))
    three: dict[str, Any] = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}
    two: dict[str, Any] = {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}
    nodes = [
        helper.make_node("Conv", [input_name, "w1", "b1"], ["conv1"], **three),
        helper.make_node("Relu", ["conv1"], ["skip"]),
        helper.make_node("MaxPool", ["skip"], ["pooled"], **two),
        helper.make_node("Conv", ["pooled", "w2", "b2"], ["conv2"], **three),
        helper.make_node("Relu", ["conv2"], ["deep"]),
        helper.make_node("ConvTranspose", ["deep", "w3", "b3"], ["lifted"], **two),
        helper.make_node("Concat", ["lifted", "skip"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "w4", "b4"], ["logits"], kernel_shape=[1, 1, 1]),
    ]
    return graph(nodes, weights, shape_zyx, input_name=input_name)


def folded_network(shape_zyx: tuple[int, int, int] = SHAPE_ZYX, *, seed: int = 0) -> onnx.ModelProto:
    """The same at half the plane, and four channels that are unfolded to the whole plane: every kind of operator that
    the networks of both presets have."""
    weights = _random(seed, (4, 1, 1, 2, 2), (4,), (8, 4, 3, 3, 3), (8,), (8, 4, 2, 2, 2), (4,), (4, 8, 1, 1, 1), (4,))
    weights.append(numpy_helper.from_array(np.array([0], np.int64), "axes"))
    two: dict[str, Any] = {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["conv1"], kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        helper.make_node("Relu", ["conv1"], ["skip"]),
        helper.make_node("MaxPool", ["skip"], ["pooled"], **two),
        helper.make_node("Conv", ["pooled", "w2", "b2"], ["conv2"], kernel_shape=[3, 3, 3], pads=[1] * 6),
        helper.make_node("Relu", ["conv2"], ["deep"]),
        helper.make_node("ConvTranspose", ["deep", "w3", "b3"], ["lifted"], **two),
        helper.make_node("Concat", ["lifted", "skip"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "w4", "b4"], ["folded"], kernel_shape=[1, 1, 1]),
        helper.make_node("Squeeze", ["folded", "axes"], ["squeezed"]),
        helper.make_node("Transpose", ["squeezed"], ["slices"], perm=[1, 0, 2, 3]),
        helper.make_node("DepthToSpace", ["slices"], ["planes"], blocksize=2, mode="CRD"),
        helper.make_node("Transpose", ["planes"], ["turned"], perm=[1, 0, 2, 3]),
        helper.make_node("Unsqueeze", ["turned", "axes"], ["logits"]),
    ]
    return graph(nodes, weights, shape_zyx)


def _random(seed: int, *shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    """Weights and biases of convolutions in turn: w1, b1, w2, b2 and so on."""
    rng = np.random.default_rng(seed)
    names = [f"{kind}{number}" for number in range(1, len(shapes) // 2 + 1) for kind in "wb"]
    values = [rng.normal(0.0, 0.3, shape).astype(np.float32) for shape in shapes]
    return [numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)]


def blob_network(shape_zyx: tuple[int, int, int] = SHAPE_ZYX, *, at: float = 1.0) -> onnx.ModelProto:
    """Logits = 4 (z-score - at): what is bright is node, so a test knows the mask beforehand."""
    weights = [
        numpy_helper.from_array(np.full((1, 1, 1, 1, 1), 4.0, np.float32), "w"),
        numpy_helper.from_array(np.full(1, -4.0 * at, np.float32), "b"),
    ]
    return graph(
        [helper.make_node("Conv", ["input", "w", "b"], ["logits"], kernel_shape=[1, 1, 1])], weights, shape_zyx
    )


def graph(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    shape_zyx: tuple[int | str, int | str, int | str],
    *,
    input_name: str = "input",
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Wrap nodes into a model with one input and the output ``logits``, both ``(1, 1, *shape_zyx)``."""
    shape = [1, 1, *shape_zyx]
    content = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(input_name, dtype, shape)],
        [helper.make_tensor_value_info("logits", dtype, shape)],
        weights,
    )
    return helper.make_model(content, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def make_model_folder(
    folder: Path,
    content: onnx.ModelProto | bytes | None = None,
    *,
    shape_zyx: tuple[int, int, int] = SHAPE_ZYX,
    name: str = "tiny",
    probe: tuple[NDArray[np.int16], NDArray[np.float64], NDArray[np.uint8]] | None = None,
    **entries: object,
) -> Path:
    """Write ``model.onnx``, ``probe.npz`` and a ``card.json`` that fits them.

    Args:
        folder: created where it is missing.
        content: the graph or the bytes of ``model.onnx``; None takes `blob_network` of the shape.
        shape_zyx: what the card says, whatever the graph is.
        probe: ``(array, affine, mask)``; None takes a bright block that `blob_network` finds.
        entries: replace entries of the card's ``input`` or ``output``, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = blob_network(shape_zyx) if content is None else content
    onnx_bytes = content if isinstance(content, bytes) else content.SerializeToString()
    (folder / "model.onnx").write_bytes(onnx_bytes)
    array, affine, mask = _block(shape_zyx) if probe is None else probe
    np.savez(folder / "probe.npz", array=array, affine=affine, mask=mask)
    source: dict[str, object] = {
        "name": "input",
        "shape_zyx": list(shape_zyx),
        "orientation": "RAS",
        "normalization": "zscore",
        "admission": "none",  # the studies of these models are of a few voxels
        "clip_percentiles": [0.5, 99.5],
        "b_targets": [1000],
        "b_range": [500, 1500],
        "field_of_view_mm": {"in_plane": [10, 500], "through_plane": [10, 500]},
    }
    target: dict[str, object] = {"name": "logits", "threshold": 0.5}
    for key, value in entries.items():
        (target if key in target and key != "name" else source)[key] = value
    files = {file: {"sha256": _sha256(folder / file)} for file in ("model.onnx", "probe.npz")}
    card = {"schema": CARD_SCHEMA, "name": name, "version": "0", "trained_on": "nothing", "input": source}
    card |= {"output": target, "rules": {"connectivity": 26}, "files": files}
    (folder / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    return folder


def _block(shape_zyx: tuple[int, int, int]) -> tuple[NDArray[np.int16], NDArray[np.float64], NDArray[np.uint8]]:
    """A bright block on dark ground, 1 mm voxels."""
    mask = np.zeros(shape_zyx, np.uint8)
    mask[tuple(slice(n // 4, n // 2) for n in shape_zyx)] = 1
    return (mask.astype(np.int16) * 900 + 100), np.eye(4), mask


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card_entries() -> dict[str, Any]:
    """The entries of a valid card.json, for a model that has no files."""
    return {
        "schema": "lnfast.card/1",
        "name": "tiny",
        "version": "1",
        "trained_on": "nothing",
        "input": {
            "name": "dwi",
            "shape_zyx": [8, 16, 16],
            "orientation": "LPS",
            "clip_percentiles": [0.5, 99.9],
            "normalization": "zscore",
            "b_targets": [800, 1000],
            "b_range": [500, 1500],
            "field_of_view_mm": {"in_plane": [150, 420], "through_plane": [50, 210]},
        },
        "output": {"name": "logits", "threshold": 0.25},
        "rules": {"connectivity": 26},
        "files": {"model.onnx": {"sha256": "0" * 64}, "probe.npz": {"sha256": "0" * 64}},
    }
