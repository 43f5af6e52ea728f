"""A validated network as one safetensors file: what `fit` leaves, and what `export` and later runs take."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lnfast.errors import ModelError


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """One safetensors file with a JSON header, written beside and renamed: a snapshot, which `export` takes."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(contiguous, temporary, metadata={"lnfast": json.dumps(meta)})
    temporary.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote: tensors and header.

    Raises:
        ModelError: ``no-snapshot``, ``bad-snapshot``.
    """
    if not path.is_file():
        raise ModelError("no-snapshot", f"{path} does not exist; wanted a run that `fit` has validated at least once")
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["lnfast"])
        return load_file(path), meta
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError("bad-snapshot", f"{path} cannot be read ({error})") from error


def sources_of(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """What a snapshot was trained on, in turn; one that does not say so is older than training on studies."""
    old = {"kind": "phantoms", "seeds": meta.get("seeds"), "cases": meta.get("cases"), "version": None}
    sources: list[dict[str, Any]] = meta.get("sources", [old])
    return sources


def write_json(path: Path, content: Any) -> None:
    """A JSON file, written beside and renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
