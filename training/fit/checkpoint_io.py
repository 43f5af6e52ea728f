"""Checkpoints without pickle: numbers as safetensors, everything else as JSON, whole or not at all.

FOLDER/tensors.safetensors   every tensor of the checkpoint, named by its path in it
FOLDER/state.json            the same tree with a note in the place of each tensor
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from lnfast.atomic import new_folder
from lnfast.errors import LnfastError, ModelError
from training.console import print_message

TENSORS, STATE = "tensors.safetensors", "state.json"
# Under which `training.fit.saving.CheckpointSaver` keeps its state, in checkpoints of earlier versions too.
SAVER_STATE_KEY = "Keeper"
# Marks of what JSON has no word for. A dict that has one of them as a key is written as its items.
_TENSOR, _TUPLE, _ITEMS, _FLOAT = "$tensor", "$tuple", "$items", "$float"
_MARKS = {_TENSOR, _TUPLE, _ITEMS, _FLOAT}


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as folders of safetensors and JSON; the path in Lightning is the folder's."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint: a kill at any moment leaves no half folder of that name.

        Raises:
            LnfastError: ``not-representable`` for an object that is neither a tensor nor JSON; nothing is written.
        """
        tensors: dict[str, Tensor] = {}
        state = json.dumps(encode(checkpoint, tensors), indent=1, allow_nan=False)
        on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        # A folder of that name is of an earlier try at the same step, and holds the same.
        with new_folder(Path(path), replace=True) as work:
            (work / TENSORS).write_bytes(save(on_cpu))  # not `save_file`, whose files only their owner may read
            (work / STATE).write_text(state, encoding="utf-8")

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what `save_checkpoint` wrote, with the same types, dtypes and memory formats.

        Raises:
            ModelError: ``bad-checkpoint`` when the folder is not one of `save_checkpoint` or is damaged.
        """
        folder = Path(path)
        try:
            tensors = load_file(folder / TENSORS)
            checkpoint: dict[str, Any] = decode(json.loads((folder / STATE).read_text(encoding="utf-8")), tensors)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise ModelError("bad-checkpoint", f"{folder} cannot be read ({error}); remove it") from error
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the folder, the JSON first, so that half a removal is not taken for a checkpoint."""
        folder = Path(path)
        (folder / STATE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a folder, oldest first."""
    return sorted(path.parent for path in folder.glob("step-*/state.json"))


def newest_readable(folder: Path) -> Path | None:
    """Return the newest checkpoint that can be read, and print a line if there is a newer one that cannot.

    Raises:
        ModelError: ``bad-checkpoint`` when there are some and none can be read: to begin anew is not for us to choose.
    """
    last: ModelError | None = None
    for path in reversed(checkpoints(folder)):
        try:
            SafeCheckpointIO().load_checkpoint(path)
        except ModelError as error:
            last = error
            continue
        if last is not None:
            print_message(f"{last}; going on from {path.name}, the one before")
        return path
    if last is not None:
        raise last
    return None


def batch_share_of(folder: Path) -> dict[str, int] | None:
    """Return items at a time and devices of the run that wrote a checkpoint; None where it is too old to say."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    share: dict[str, int] | None = state.get("callbacks", {}).get(SAVER_STATE_KEY, {}).get("share")
    return share


def encode(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Return the JSON of a tree; tensors are put into ``tensors`` by their path.

    Raises:
        LnfastError: ``not-representable``, naming the path.
    """
    if value is None or isinstance(value, (bool, int, str)):
        # A subclass (an enumeration, say) would come back as another type.
        if type(value) in (type(None), bool, int, str):
            return value
    elif type(value) is float:
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    elif isinstance(value, Tensor):
        name = path or "tensor"
        tensors[name] = value
        return {_TENSOR: name, "channels_last": _is_channels_last(value)}
    elif type(value) in (list, tuple):
        items = [encode(item, tensors, f"{path}/{i}") for i, item in enumerate(value)]
        return items if type(value) is list else {_TUPLE: items}
    elif isinstance(value, dict):
        if all(type(key) is str for key in value) and not _MARKS & value.keys():
            return {key: encode(item, tensors, f"{path}/{key}") for key, item in value.items()}
        if all(type(key) in (str, int) for key in value):
            return {_ITEMS: [[key, encode(item, tensors, f"{path}/{key}")] for key, item in value.items()]}
    raise LnfastError(
        "not-representable",
        f"{path or '/'} of the checkpoint is {type(value).__name__}, wanted tensors, numbers, words, lists and dicts",
    )


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the tree that `encode` was given."""
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        tensor = tensors[value[_TENSOR]]
        return tensor.contiguous(memory_format=torch.channels_last_3d) if value["channels_last"] else tensor
    if _TUPLE in value:
        return tuple(decode(item, tensors) for item in value[_TUPLE])
    if _ITEMS in value:
        return {key: decode(item, tensors) for key, item in value[_ITEMS]}
    if _FLOAT in value:
        return float(value[_FLOAT])
    return {key: decode(item, tensors) for key, item in value.items()}


def _is_channels_last(value: Tensor) -> bool:
    return value.dim() == 5 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last_3d)
