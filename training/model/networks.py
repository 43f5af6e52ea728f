"""The networks that a preset can name, and operations on any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.model.edgenet import EdgeNet
from training.model.enet import ENet
from training.model.unet import UNet

Network = UNet | EdgeNet | ENet
_KINDS: dict[str, Callable[[int], Network]] = {"unet": UNet, "edgenet": EdgeNet, "enet": ENet}
# A weight whose first axis has as many entries as the network's finest level has channels.
_FIRST_WEIGHTS = {
    "edgenet": "stem.0.conv.weight",
    "unet": "down.0.0.conv.weight",
    "enet": "encoder.0.project.0.conv.weight",
}


def build_network(name: str, width: int) -> Network:
    """Build a network with initial weights, its convolutions in channels-last layout, which CPUs and GPUs prefer.

    Raises:
        KeyError: no network of that name.
    """
    network: Network = _KINDS[name](width)
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def network_of_config(config: Mapping[str, Any]) -> nn.Module:
    """Build the network that a header's ``config`` names; older ones name none, for all were U-Nets then.

    Raises:
        KeyError, TypeError: the config names none that there is.
    """
    return build_network(config.get("network", "unet"), config["width"])


def config_of(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the network and width of weights, by their names and shapes; None where they are of no network here."""
    for name, first in _FIRST_WEIGHTS.items():
        if first in tensors and tensors[first].ndim == 5:
            return {"network": name, "width": int(tensors[first].shape[0])}
    return None


def fuse(model: nn.Module) -> nn.Module:
    """Fold every batch normalization into the convolution before it, in place; the result computes the same."""
    model.eval()
    for module in model.modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "norm", None)
        if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
            module.conv, module.norm = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters())


def learn_decoder_only(network: Network, levels: int) -> None:
    """Freeze all weights but those of the head and of the finest levels of the decoder.

    What is before them is then computed without gradients. Batch statistics are frozen by `freeze_norms`.

    Args:
        network: with weights that are good already.
        levels: 0 to 3, see the network's `decoder_modules`.
    """
    network.requires_grad_(False)
    for module in network.decoder_modules(levels):
        module.requires_grad_(True)


def freeze_norms(model: nn.Module) -> None:
    """Freeze the statistics of every batch normalization."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
