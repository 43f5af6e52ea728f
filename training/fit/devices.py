"""Device, precision, and how many items are in memory at a time."""

from __future__ import annotations

import math

import torch

from lnfast.backends.machine import cpu_flags
from training.recipe.presets import Precision, Preset
from training.recipe.run_config import RunConfig, items_per_device

# Numbers a voxel that the network keeps for the way back at the paper's width, counted with
# `torch.autograd.graph.saved_tensors_hooks`: 876 at width 32, 220 at width 8, so they grow with the width.
KEPT_PER_VOXEL = 876
# Beside them lie gradients on their way, weights, their moments and the convolutions' work space.
ROOM = 1.5


def accelerator_of(config: RunConfig) -> str:
    """Return Lightning's name of the requested device; other GPUs than CUDA's have not been tried."""
    if config.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() and not config.exact else "cpu"
    return {"gpu": "cuda"}.get(config.accelerator, config.accelerator)


def precision_of(config: RunConfig) -> Precision:
    """Return the requested precision, else the one that suits the device.

    CPUs have no half precision, and bfloat16 only where they have instructions for it: without them PyTorch converts
    back and forth, and a step that takes 2.5 s in FP32 takes minutes.
    """
    if config.exact:
        return "32-true"
    wanted = config.precision or config.preset.precision
    if config.precision is None and accelerator_of(config) == "cpu":
        return "bf16-mixed" if cpu_has_bfloat16() else "32-true"
    return "bf16-mixed" if wanted == "16-mixed" and accelerator_of(config) == "cpu" else wanted


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_flags() or ()))


def study_bytes(preset: Preset, precision: str) -> float:
    """Return the memory of a whole study on a GPU: 11 GB at the paper's width in half precision, 22 GB in FP32."""
    bytes_each = 4 if precision == "32-true" else 2
    return math.prod(preset.shape_zyx) * KEPT_PER_VOXEL * preset.width / 32 * bytes_each * ROOM


def micro_batch_of(preset: Preset, world: int, device: torch.device, precision: str = "16-mixed") -> int:
    """Return how many items are in memory at a time: the preset's, or as many as fit; a divisor of a device's share.

    Raises:
        UsageError: ``bad-batch`` when the batch cannot be shared out evenly.
    """
    share = items_per_device(preset, world)
    most = preset.micro or 1
    if preset.micro is None and device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        most = max(1, int(memory / study_bytes(preset, precision)))
    return max(n for n in range(1, min(most, share) + 1) if share % n == 0)
