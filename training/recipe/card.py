"""What training writes into ``card.json``; the runtime's own reader makes a `ModelCard` of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lnfast.card import CARD_SCHEMA, ModelCard

# What air and tissue are in the network's input by ``body``: what they are by ``zscore`` in real scans (the medians of
# four are -1.03, 0.01 and 8.7), so that weights of one serve the other.
FLOOR, TISSUE, CEILING = -1.0, 0.05, 8.7
_NORMALIZATIONS: dict[str, dict[str, Any]] = {
    "zscore": {"clip_percentiles": [0.5, 99.9]},
    "body": {"body": {"floor": FLOOR, "tissue": TISSUE, "ceiling": CEILING}},
}
# Of weights whose header does not say: they are older than the choice.
OLD_SHAPE_ZYX, OLD_NORMALIZATION, OLD_SLICES, OLD_OUTLINE = (64, 256, 256), "zscore", "resampled", "threshold"
_UNSAID: Mapping[str, Any] = MappingProxyType({})


def card_dict(
    config: Mapping[str, Any] = _UNSAID,
    *,
    name: str = "unnamed",
    version: str = "0",
    trained_on: str = "nothing yet",
    threshold: float = 0.5,
    peak: float | None = None,
    files: dict[str, dict[str, Any]] | None = None,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of ``card.json``.

    Args:
        config: of a preset or of the header of weights: ``shape_zyx``, ``normalization``, ``slices`` and
            ``outline``.
        name, version, trained_on, threshold, peak: as in `ModelCard`.
        files: ``sha256`` and ``bytes`` by file name.
        training: how it was trained, in free form.
    """
    unknown = {"sha256": "", "bytes": 0}
    normalization = config.get("normalization", OLD_NORMALIZATION)
    return {
        "schema": CARD_SCHEMA,
        "name": name,
        "version": version,
        "license": "Apache-2.0",
        "trained_on": trained_on,
        "intended_use": "research use only",
        "input": {
            "name": "dwi",
            "shape_zyx": list(config.get("shape_zyx", OLD_SHAPE_ZYX)),
            "orientation": "LPS",
            "normalization": normalization,
            **_NORMALIZATIONS[normalization],
            "slices": config.get("slices", OLD_SLICES),
            "b_targets": [800, 1000],
            "b_range": [500, 1500],
            "field_of_view_mm": {"in_plane": [150, 420], "through_plane": [50, 210]},
        },
        "output": {
            "name": "logits",
            "threshold": threshold,
            **({} if peak is None else {"peak": peak}),
            "outline": config.get("outline", OLD_OUTLINE),
        },
        "rules": {"connectivity": 26},
        "files": files or {"model.onnx": unknown, "probe.npz": unknown},
        "training": training or {},
    }


def draft_card(config: Mapping[str, Any] = _UNSAID, threshold: float = 0.5, peak: float | None = None) -> ModelCard:
    """Return the card before there is a model: what `lnfast.preprocess` and `lnfast.postprocess` need in training.

    Args:
        config: as of `card_dict`.
        threshold, peak: as in `ModelCard`.

    Raises:
        ModelError: ``bad-card`` for a peak below the threshold.
    """
    return ModelCard.from_json(json.dumps(card_dict(config, threshold=threshold, peak=peak)))
