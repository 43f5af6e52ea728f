"""The certificate sums up the differences from FP32."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engine_files import (
    refusal,
)

from lnfast.errors import UsageError
from lnfast.export.certificate import Certificate, Difference, certify


def difference(study: str, **changed: Any) -> Difference:
    same: dict[str, Any] = {"window": (8, 16, 16), "flips": (), "lost": 0, "added": 0, "nodes_lost": 0}
    same |= {"nodes_added": 0, "suspicious": 1, "nodes": 2, "short_axis_mm": (), "volume_mm3": (), "dice": 1.0}
    return Difference(study=study, **(same | changed))


def test_a_certificate_sums_up() -> None:
    differences = [
        difference("a", short_axis_mm=(0.2, -0.4), volume_mm3=(3.0, -6.0), dice=0.9),
        difference("b", window=(8, 8, 16), suspicious=3, nodes=5, nodes_lost=1, nodes_added=2, short_axis_mm=(0.0,)),
        difference("c", flips=("box",), lost=1, suspicious=1, dice=0.5),
        difference("d", flips=("box", "axial"), added=2, suspicious=0, nodes=0),
    ]
    certificate = certify(differences, "a CPU", "onnxruntime", "phantoms")
    assert certificate == Certificate(
        passed=False,
        device="a CPU",
        reference="onnxruntime",
        studies=4,
        source="phantoms",
        stage_flips={"box": 2, "axial": 1},
        suspicious={"reference": 5, "lost": 1, "added": 2},
        nodes={"reference": 9, "lost": 1, "added": 2},
        short_axis_mm={"max_difference": pytest.approx(0.4), "mean_difference": pytest.approx(0.2)},  # type: ignore[dict-item]
        volume_mm3={"max_difference": pytest.approx(6.0), "mean_difference": pytest.approx(4.5)},  # type: ignore[dict-item]
        dice={"worst": 0.5, "mean": pytest.approx(0.85)},  # type: ignore[dict-item]
        windows={"8x16x16": 3, "8x8x16": 1},
        differing=("c", "d"),
    )
    assert "4 studies (phantoms): 3 stage flips, 1 of 5 suspicious nodes lost, 2 added" in certificate.text()
    passed = certify(differences[:2], "a CPU", "onnxruntime", "phantoms")
    assert passed.passed and passed.differing == () and passed.dice == {"worst": 0.9, "mean": pytest.approx(0.95)}
    json.dumps(passed.to_dict(), allow_nan=False)
    refusal(UsageError, lambda: certify(differences[3:], "a CPU", "onnxruntime", "phantoms"), "proves-nothing")
    refusal(UsageError, lambda: certify([], "a CPU", "onnxruntime", "phantoms"), "proves-nothing")
