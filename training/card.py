"""What this recipe writes into ``card.json``; the runtime's own reader makes a `ModelCard` of it."""

from __future__ import annotations

import json
from typing import Any

from lnfast.card import CARD_SCHEMA, ModelCard

SHAPE_ZYX = (64, 256, 256)


def card_dict(
    *,
    name: str = "unnamed",
    version: str = "0",
    trained_on: str = "nothing yet",
    threshold: float = 0.5,
    files: dict[str, dict[str, Any]] | None = None,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The card as it stands in the file.

    Args:
        name, version, trained_on, threshold: as in `ModelCard`.
        files: ``sha256`` and ``bytes`` by file name.
        training: how it was trained, in free form.
    """
    unknown = {"sha256": "", "bytes": 0}
    return {
        "schema": CARD_SCHEMA,
        "name": name,
        "version": version,
        "license": "Apache-2.0",
        "trained_on": trained_on,
        "intended_use": "research use only",
        "input": {
            "name": "dwi",
            "shape_zyx": list(SHAPE_ZYX),
            "orientation": "LPS",
            "clip_percentiles": [0.5, 99.9],
            "normalization": "zscore",
            "b_targets": [800, 1000],
            "b_range": [500, 1500],
            "field_of_view_mm": {"in_plane": [150, 420], "through_plane": [50, 210]},
        },
        "output": {"name": "logits", "threshold": threshold},
        "rules": {"connectivity": 26},
        "files": files or {"model.onnx": unknown, "probe.npz": unknown},
        "training": training or {},
    }


def draft() -> ModelCard:
    """The card before there is a model: what `lnfast.preprocess` needs while training."""
    return ModelCard.from_json(json.dumps(card_dict()))
