"""What the card's peak drops is measured and told of: dropped in silence, it could make an N0 of an N1."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from bright_model import bright_model

from lnfast import Engine
from lnfast.backends import candidates
from lnfast.card import Model, load_model
from lnfast.measure import Rules
from lnfast.network import Network
from lnfast.phantom import make_phantom


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(bright_model(tmp_path_factory.mktemp("model") / "bright"))


def test_dropped_and_kept_marks_together_are_all_marks(model: Model) -> None:
    volume, candidate = make_phantom(3, "achieva", "n1").volume, candidates("onnxruntime", "cpu", "fp32")[0]
    plain = Network(model, candidate).answer(volume, Rules())
    peaked = Network(replace(model, card=replace(model.card, peak=0.8)), candidate).answer(volume, Rules())
    assert not plain.faint and peaked.nodes and peaked.faint
    both = sorted((node.volume_mm3, node.box_mm) for node in (*peaked.nodes, *peaked.faint))
    assert both == sorted((node.volume_mm3, node.box_mm) for node in plain.nodes)
    assert [node.id for node in peaked.faint] == list(range(1, len(peaked.faint) + 1))


def test_an_engine_tells_of_dropped_marks_that_would_be_suspicious(model: Model) -> None:
    with Engine(model.folder, backend="onnxruntime", precision="fp32") as engine:
        # After the self-test: the probe's nodes are those without a peak.
        engine.model = engine._open().model = replace(model, card=replace(model.card, peak=0.999999))
        result = engine.run(make_phantom(3, "achieva", "n1").volume)
    assert (result.n_stage, result.warnings[0].code) == ("N0", "faint-marks")
    assert result.warnings[0].message in " ".join(result.report.text().split())
