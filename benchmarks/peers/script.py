"""A peer's script, run in a process of its own; it imports what it needs and nothing of the other peers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

# Module and class of each peer's pipeline.
PEERS = {
    "pytorch eager fp32": ("benchmarks.peers.pytorch_pipeline", "TorchPipeline"),
    "monai eager fp32": ("benchmarks.peers.monai_pipeline", "MonaiPipeline"),
}


def run(name: str, study: str, out: str, model: str, threads: str) -> None:
    """What a researcher's script does, from import to report."""
    import torch

    from benchmarks.peers.onnx_to_torch import OnnxUNet
    from lnfast.card import load_model

    module, pipeline = PEERS[name]
    torch.set_num_threads(int(threads))
    loaded = load_model(Path(model))
    network = OnnxUNet(loaded.onnx_bytes).eval()
    getattr(import_module(module), pipeline)(network, loaded.card).run(Path(study), Path(out))
