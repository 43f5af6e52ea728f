"""Networks and studies for tests of export: tiny, and what they find is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from model_files import SHAPE_ZYX, graph, make_model_folder
from nifti_files import write_nifti
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import lnfast
from lnfast.backends.trt import toolkit
from lnfast.card import Model, load_model
from lnfast.errors import LnfastError

RTX = toolkit.PACKAGES["tensorrt-rtx"].installed()
BRIGHT, DIM = 1000, 450
MODEL_FILES = {"model.onnx", "probe.npz", "card.json"}

Block = tuple[tuple[slice, slice, slice], int]  # where, and how bright

MM_ZYX = (2.5, 2.0, 3.0)
# Nodes, as slices of a grid of 8x16x16: 4 x 6 x 5 voxels are 10 x 12 x 15 mm, 3 x 2 x 2 are 7.5 x 4 x 6 mm.
LARGE, SMALL = (slice(2, 6), slice(4, 10), slice(5, 10)), (slice(2, 5), slice(12, 14), slice(12, 14))


def deep_blob_network(
    shape_zyx: tuple[int, int, int] = SHAPE_ZYX, *, inner: int = 4, at: float = 1.0
) -> onnx.ModelProto:
    """Return a network that computes what `model_files.blob_network` does, by way of convolutions for 8 bits.

    The z-score goes in two channels, above zero and below it, beside two channels of noise that nothing reads.
    """
    rng = np.random.default_rng(3)
    weights, nodes, tensor = [], [], "input"
    for layer in range(inner + 1):
        read = 4 if layer else 1
        weight = np.zeros((4, read, 3, 3, 3), np.float32)
        if layer:
            weight[0, 0, 1, 1, 1] = weight[1, 1, 1, 1, 1] = 1.0
        else:
            weight[:2, 0, 1, 1, 1] = 1.0, -1.0
        weight[2:] = rng.normal(0.0, 0.1, weight[2:].shape)
        weights += [numpy_helper.from_array(weight, f"w{layer}"), _zeros(f"b{layer}", 4)]
        nodes += [
            helper.make_node(
                "Conv",
                [tensor, f"w{layer}", f"b{layer}"],
                [f"conv{layer}"],
                name=f"/conv{layer}",
                kernel_shape=[3, 3, 3],
                pads=[1] * 6,
            ),
            helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"]),
        ]
        tensor = f"relu{layer}"
    last = np.array([4.0, -4.0, 0.0, 0.0], np.float32).reshape(1, 4, 1, 1, 1)
    weights += [numpy_helper.from_array(last, "w"), numpy_helper.from_array(np.full(1, -4.0 * at, np.float32), "b")]
    nodes.append(helper.make_node("Conv", [tensor, "w", "b"], ["logits"], name="/last", kernel_shape=[1, 1, 1]))
    return graph(nodes, weights, shape_zyx)


def write_study(path: Path, *blocks: Block, array: NDArray[np.int16] | None = None) -> Path:
    """Write a dark study with a little noise, and blocks of a brightness, on the model grid."""
    if array is None:
        array = np.random.default_rng(len(path.name)).integers(90, 110, SHAPE_ZYX).astype(np.int16)
    for where, value in blocks:
        array[where] = value
    z, y, x = MM_ZYX
    srow = (-x, 0.0, 0.0, 24.0, 0.0, -y, 0.0, 16.0, 0.0, 0.0, z, -10.0)
    return write_nifti(path, array, bval="1000", srow=srow, pixdim=(1, x, y, z, 1, 1, 1, 1))


def write_studies(folder: Path, *blocks: Block, count: int = 3) -> Path:
    """Write studies that all have the same blocks; ranges are measured on the first, the others certify."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_study(folder / f"study{number}.nii.gz", *blocks)
    return folder


def model_of(folder: Path, content: onnx.ModelProto, **entries: Any) -> Model:
    return load_model(make_model_folder(folder, content, **entries))


def nodes_of(model: Path, study: Path) -> list[tuple[bool, float, float]]:
    with lnfast.Engine(model) as engine:
        result = engine.run(study)
    return [(node.suspicious, round(node.short_axis_mm, 3), round(node.volume_mm3, 1)) for node in result.nodes]


def refusal(kind: type[LnfastError], call: Callable[[], object], code: str) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code and "\n" not in caught.value.message
    return caught.value.message


def _zeros(name: str, size: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(size, np.float32), name)
