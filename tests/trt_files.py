"""What tests of TensorRT share: networks, targets, and what an engine is built for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from model_files import SHAPE_ZYX
from onnx import TensorProto, numpy_helper

from lnfast.backends import Candidate
from lnfast.backends.protocol import NetworkIO
from lnfast.backends.trt.builder import BuildTarget
from lnfast.backends.trt.toolkit import BuiltFor
from lnfast.errors import LnfastError

RTX = "tensorrt-rtx"
FP32 = Candidate("tensorrt", "cuda:0", "fp32", "")
FP16 = Candidate("tensorrt", "cuda:0", "fp16", "")
BUILT = BuiltFor(RTX, "1.7.1.116", ("8.6", "8.9"))


def io(dtype: str = "float32", shape: tuple[int, int, int] = SHAPE_ZYX) -> NetworkIO:
    return NetworkIO("input", "logits", shape, dtype)


def sm(*capabilities: str) -> BuildTarget:
    return BuildTarget(RTX, capabilities)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in float16 from end to end, by which a strongly typed network computes in float16."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(w).astype(np.float16), w.name)
        if w.data_type == TensorProto.FLOAT
        else w
        for w in half.graph.initializer
    ]
    del half.graph.initializer[:]
    half.graph.initializer.extend(weights)
    del half.graph.value_info[:]
    for port in (*half.graph.input, *half.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    return half


def refusal(kind: type[LnfastError], call: Callable[[], object]) -> LnfastError:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and "\n" not in caught.value.message
    return caught.value
