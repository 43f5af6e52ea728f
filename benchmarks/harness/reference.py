"""The reference: FP32 on ONNX Runtime's CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.card import Model

Logits = NDArray[Any]


def reference_logits(model: Model, x: Logits, threads: int) -> Logits:
    """Return the logits of ``x`` by ONNX Runtime on the CPU, called directly and not through lnfast."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.onnx_bytes, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run([model.card.output_name], {model.card.input_name: x})
    return np.asarray(logits)
