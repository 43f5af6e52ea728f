"""One inference of the same network as PyTorch users run it, on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from benchmarks.harness.reference import Logits
from benchmarks.peers.onnx_to_torch import OnnxModule

Inference = Callable[[], Logits]


def cpu_peers(
    network: OnnxModule, x: Logits, progress: Callable[[str], None], *, bf16: bool, compiled: bool
) -> dict[str, Inference]:
    """Return the inferences on a CPU by name.

    Args:
        network: with the model's weights.
        x: its input.
        progress: takes the reason why `torch.compile` is left out.
        bf16: under autocast as well.
        compiled: by `torch.compile` as well, which takes up to half a minute.
    """
    plain = torch.from_numpy(x)
    channels_last = plain.to(memory_format=torch.channels_last_3d)
    network_channels_last = _channels_last(network)

    def call(model: Callable[[Tensor], Tensor], volume: Tensor, autocast: bool = False) -> Inference:
        def forward() -> Logits:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return model(volume).float().numpy()

        return forward

    peers = {
        "pytorch eager fp32": call(network, plain),
        "pytorch channels_last_3d fp32": call(network_channels_last, channels_last),
    }
    if bf16:
        peers["pytorch channels_last_3d bf16 autocast"] = call(network_channels_last, channels_last, autocast=True)
    if compiled:
        kind = "bf16 autocast" if bf16 else "fp32"
        name = f"pytorch compile channels_last_3d {kind}"
        peers |= _if_it_compiles(
            name, lambda: call(torch.compile(deepcopy(network_channels_last)), channels_last, bf16), progress
        )
    return peers


def gpu_peers(
    network: OnnxModule, x: Logits, device: torch.device, progress: Callable[[str], None]
) -> dict[str, Inference]:
    """Return the inferences on a GPU by name, from voxels in host memory to logits in host memory."""
    host = torch.from_numpy(x)
    host = host.pin_memory() if device.type == "cuda" else host
    plain = deepcopy(network).to(device)
    network_channels_last = _channels_last(plain)

    def call(model: Callable[[Tensor], Tensor], memory_format: torch.memory_format, autocast: bool) -> Inference:
        def forward() -> Logits:
            with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=autocast):
                volume = host.to(device, non_blocking=True).to(memory_format=memory_format)
                logits = model(volume).float().cpu()  # waits for the GPU
                return logits.numpy()

        return forward

    contiguous, channels_last = torch.contiguous_format, torch.channels_last_3d
    peers = {
        "pytorch eager fp32": call(plain, contiguous, False),
        "pytorch amp fp16": call(plain, contiguous, True),
        "pytorch channels_last_3d amp fp16": call(network_channels_last, channels_last, True),
    }
    name = "pytorch compile amp fp16"
    return peers | _if_it_compiles(name, lambda: call(torch.compile(plain), contiguous, True), progress)


def _channels_last(network: OnnxModule) -> OnnxModule:
    return deepcopy(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def _if_it_compiles(name: str, make: Callable[[], Inference], progress: Callable[[str], None]) -> dict[str, Inference]:
    try:
        compiled = make()
        compiled()  # compiles now
    except Exception as error:  # any error of torch's compilers
        progress(f"network: without {name}: {' '.join(str(error).split())}")
        return {}
    return {name: compiled}
