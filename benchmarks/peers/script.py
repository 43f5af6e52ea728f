"""A peer's script: a pipeline once, in a process of its own.

This module imports no peer: `run` imports what its own pipeline needs.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

# Module and class of each peer's pipeline.
PEERS = {
    "pytorch eager fp32": ("benchmarks.peers.pytorch_pipeline", "TorchPipeline"),
    "monai eager fp32": ("benchmarks.peers.monai_pipeline", "MonaiPipeline"),
}


def run(name: str, study: str, out: str, model: str, threads: str) -> None:
    """Import the libraries, read the weights, process one study and write its report; arguments as in ``argv``.

    Args:
        name: one of `PEERS`.
        study: a NIfTI file.
        out: a new folder.
        model: a model folder.
        threads: of PyTorch.
    """
    import torch

    from benchmarks.peers.onnx_to_torch import OnnxModule
    from lnfast.card import load_model

    module, pipeline = PEERS[name]
    torch.set_num_threads(int(threads))
    loaded = load_model(Path(model))
    network = OnnxModule(loaded.onnx_bytes).eval()
    getattr(import_module(module), pipeline)(network, loaded.card).run(Path(study), Path(out))
