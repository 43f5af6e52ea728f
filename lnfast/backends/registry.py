"""Backends, targets and precisions by name, each listed once.

Importing this module imports neither numpy nor a runtime, so that the options of the command line are built from it.
"""

from __future__ import annotations

BACKENDS = ("openvino", "onnxruntime", "tensorrt")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
DTYPES = ("float32", "float16")  # of a network's input and output
# What `lnfast.export` builds for, and the backend that runs it.
TARGETS = {"openvino": "openvino", "onnxruntime": "onnxruntime", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt"}
# The precisions of each target, in the order in which export tries them.
TARGET_PRECISIONS = {
    "openvino": ("int8", "bf16", "fp32"),
    "onnxruntime": ("int8", "fp16", "fp32"),
    "tensorrt": ("fp16", "bf16", "int8", "fp32"),
    "tensorrt-rtx": ("fp16", "bf16", "int8", "fp32"),
}
AUTO = "auto"  # the request that leaves a backend, device or precision open
