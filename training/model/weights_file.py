"""Validated weights as one safetensors file: `fit` writes it, `export` and later runs read it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lnfast.atomic import write_file
from lnfast.errors import ModelError
from training.model.networks import config_of, network_of_config

WEIGHTS_FILE = "snapshot.safetensors"
# The part of a header that compact weights keep.
_OF_WEIGHTS = (
    "config",
    "step",
    "minutes",
    "rounds",
    "sources",
    "taught_by",
    "validated_on",
    "validation",
    "threshold",
    "peak",
)


def save_weights(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write weights as one safetensors file with a JSON header, whole or not at all."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # Not `save_file`, whose files only their owner may read.
    write_file(path, save(contiguous, metadata={"lnfast": json.dumps(header)}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and header, as `save_weights` wrote them.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    if not path.is_file():
        raise ModelError("no-snapshot", f"{path} does not exist; wanted a run that `fit` has validated at least once")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["lnfast"])
        return load_file(path), header
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError("bad-snapshot", f"{path} cannot be read ({error})") from error


def load_initial_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights to start from: as `save_compact_weights` or `save_weights` wrote them, or bare tensors.

    What bare tensors were trained on is unknown; the header that is made for them says so.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    if not path.is_file():
        raise ModelError("no-snapshot", f"{path} does not exist; wanted a run, a file of weights or the name of some")
    try:
        with safe_open(path, framework="pt") as file:
            content = (file.metadata() or {}).get("lnfast")
    except (OSError, SafetensorError) as error:
        raise ModelError("bad-snapshot", f"{path} cannot be read ({error})") from error
    if content is not None:
        return load_weights(path)
    tensors = load_file(path)
    config = config_of(tensors)
    if config is None:
        raise ModelError("bad-snapshot", f"{path} holds no network of this package")
    return tensors, {"config": config, "sources": [{"kind": "unknown", "name": path.name, "cases": None}]}


def save_compact_weights(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write weights at half the size, to start from: convolutions in bfloat16, the rest as it is.

    Their rounding by 0.2 % is less than a step of training. What is one number for each channel stays in FP32: batch
    normalization divides by it.
    """
    small = {name: value.to(torch.bfloat16) if value.ndim > 1 else value for name, value in tensors.items()}
    save_weights(path, small, {name: header[name] for name in _OF_WEIGHTS if name in header})


def network_from(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> nn.Module:
    """Build the network of weights, in evaluation mode.

    Raises:
        ModelError: ``bad-snapshot`` when the tensors are not those of the network that the header names.
    """
    try:
        model = network_of_config(header["config"])
        model.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError) as error:
        raise ModelError("bad-snapshot", f"{path} does not hold the network that its header names ({error})") from error
    model.eval()
    return model


def load_network(run: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the validated network of a run in evaluation mode, and the header of its weights.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    tensors, header = load_weights(run / WEIGHTS_FILE)
    return network_from(run / WEIGHTS_FILE, tensors, header), header


def weights_sha256(tensors: dict[str, Tensor]) -> str:
    """Return a hash of the tensors alone: another threshold in the header is the same network."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()
