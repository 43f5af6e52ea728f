"""What tests of runtimes share: candidates, a numpy oracle of a network, and the codes of refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from model_files import make_model_folder
from numpy.typing import NDArray
from onnx import numpy_helper

from lnfast import optional
from lnfast.backends import Candidate
from lnfast.card import Model, load_model
from lnfast.errors import LnfastError

OPENVINO = Candidate("openvino", "cpu", "fp32", "")
ONNXRUNTIME = Candidate("onnxruntime", "cpu", "fp32", "")
BOTH = pytest.mark.parametrize("candidate", [OPENVINO, ONNXRUNTIME], ids=["openvino", "onnxruntime"])
NO_TENSORRT = pytest.mark.parametrize(
    ("package_there", "code", "message"),
    [
        (False, "backend-missing", r"neither is installed: pip install 'lnfast\[rtx\]'"),
        (True, "device-missing", "needs an NVIDIA GPU"),
    ],
    ids=["no package", "no GPU"],
)


def show_tensorrt(monkeypatch: pytest.MonkeyPatch, package_there: bool) -> None:
    """Make TensorRT-RTX look installed or not; TensorRT is not."""
    real = optional.find_spec

    def find_spec(name: str) -> Any:
        if name.startswith("tensorrt"):
            return SimpleNamespace(origin=name) if package_there and name == "tensorrt_rtx" else None
        return real(name)

    monkeypatch.setattr(optional, "find_spec", find_spec)


def oracle(x: NDArray[np.float32], onnx_bytes: bytes) -> NDArray[np.float64]:
    """What `model_files.network` computes, spelled out; ``(1, 1, z, y, x)``."""
    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load_from_string(onnx_bytes).graph.initializer}
    skip = np.maximum(_conv3(x[0].astype(np.float64), weights["w1"], weights["b1"]), 0)
    c, z, y, x_ = skip.shape
    pooled = skip.reshape(c, z // 2, 2, y // 2, 2, x_ // 2, 2).max(axis=(2, 4, 6))
    deep = np.maximum(_conv3(pooled, weights["w2"], weights["b2"]), 0)
    lifted = np.einsum("czyx,codef->ozdyexf", deep, weights["w3"]).reshape(4, z, y, x_)
    joined = np.concatenate([lifted + weights["b3"][:, None, None, None], skip])
    logits = np.einsum("czyx,oc->ozyx", joined, weights["w4"][:, :, 0, 0, 0]) + weights["b4"]
    return logits[None]


def _conv3(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """3x3x3, zero padding 1; `x` is ``(channels, z, y, x)``."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1)))
    z, y, x_ = x.shape[1:]
    out = np.zeros((len(weight), z, y, x_)) + bias[:, None, None, None]
    for i, j, k in np.ndindex(3, 3, 3):
        out += np.einsum("czyx,oc->ozyx", padded[:, i : i + z, j : j + y, k : k + x_], weight[:, :, i, j, k])
    return out


def refusal(kind: type[LnfastError], call: Callable[[], object]) -> str:
    """The code of the error that `call` raises; its message is one line."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and "\n" not in caught.value.message
    return caught.value.code


def folder_model(folder: Path, content: onnx.ModelProto | bytes, **entries: Any) -> Model:
    return load_model(make_model_folder(folder, content, **entries))
