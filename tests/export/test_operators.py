"""Every kind of operator on every runtime, and those that a runtime lacks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_files import (
    RTX,
    model_of,
    refusal,
)
from graph_files import inputs, off, run
from model_files import SHAPE_ZYX, folded_network, graph
from onnx import helper

from lnfast.card import load_model
from lnfast.errors import ModelError
from lnfast.export import Request, export
from lnfast.export.draft import DraftBuilder
from lnfast.export.graph import Graph
from lnfast.export.quantize import ASYMMETRIC, quantize, tensors_to_quantize
from lnfast.export.ranges import observe
from lnfast.export.target import open_target
from lnfast.export.variants import GraphVariant
from lnfast.network import Network


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_operator_of_the_shipped_network_runs_alike_on_each_runtime(tmp_path: Path, precision: str) -> None:
    shipped = {node.op_type for node in onnx.load_from_string(load_model("pelvic-ln-edge").onnx_bytes).graph.node}
    model = model_of(tmp_path / "m", folded_network())
    plain = Graph(model)
    assert shipped <= {node.op_type for node in plain.nodes}
    variant = GraphVariant({}, None)
    if precision == "int8":
        ranges = observe(plain, tensors_to_quantize(plain), inputs())
        variant = GraphVariant({}, quantize(plain, ranges, ASYMMETRIC).to_bytes())
    x = inputs(1)[0]
    (wanted,) = run(model.onnx_bytes, x)
    answers = []
    for target in ("openvino", "onnxruntime"):
        request = Request(target, precision, device="cpu", threads=1)
        installed = open_target(request)
        candidate = installed.candidate(precision)
        assert candidate is not None
        builder = DraftBuilder(model, installed, request)
        engine = builder.build(tmp_path / target, precision, variant, (), lambda *step: None)
        with closing(Network(model, candidate, engine=engine, threads=1)) as loaded:
            backend = loaded.at(SHAPE_ZYX)
            assert backend.info.precision == precision
            np.copyto(backend.input, x)
            backend.infer()
            answers.append(np.array(backend.output))
    assert max(off(answer, wanted) for answer in answers) < (1e-5 if precision == "fp32" else 0.03)
    assert off(answers[0], answers[1]) < (1e-5 if precision == "fp32" else 0.02)


def unknown(kind: str, domain: str = "") -> onnx.ModelProto:
    model = graph([helper.make_node(kind, ["input"], ["logits"], name="/odd", domain=domain)], [], SHAPE_ZYX)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_an_operator_that_a_runtime_lacks_is_named(tmp_path: Path, studies: Path, target: str) -> None:
    """OpenVINO has nothing of ai.onnx.ml, ONNX Runtime has."""
    content = unknown("Binarizer", "ai.onnx.ml") if target == "openvino" else unknown("Foo")
    model = model_of(tmp_path / "m", content)
    request = Request(target, "fp32", calibration=studies)
    message = refusal(ModelError, lambda: export(model, tmp_path / "out", request), "unsupported-op")
    assert ("Binarizer" if target == "openvino" else "Foo") in message
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not RTX, reason="needs tensorrt-rtx-cu13")
def test_an_operator_that_tensorrt_lacks_is_named(tmp_path: Path, studies: Path) -> None:
    model = model_of(tmp_path / "m", unknown("Binarizer", "ai.onnx.ml"))
    request = Request("tensorrt-rtx", "fp32", calibration=studies, capabilities=("8.6",))
    message = refusal(ModelError, lambda: export(model, tmp_path / "out", request), "unsupported-op")
    assert "Binarizer" in message and "/odd" in message
    assert not (tmp_path / "out").exists()
