"""Which engine serves: the one that is asked for, or the best one that proves itself on the model's probe."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnfast.network as network_module
from lnfast import serving
from lnfast.backends import BackendInfo, Candidate, trt
from lnfast.card import Model, load_model
from lnfast.engine import Engine
from lnfast.errors import BackendError, EngineError, ModelError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.network import Network
from lnfast.selftest import prove

FP32 = Candidate("openvino", "cpu", "fp32", "second")


def test_what_is_asked_for_by_name_is_used_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "nvidia_gpus", lambda: 0)
    with pytest.raises(BackendError) as refusal:
        Engine(backend="tensorrt")
    assert refusal.value.exit_code == 5
    with pytest.raises(UsageError):
        Engine(backend="abacus")


class Broken:
    """A backend whose answer is wrong in a chosen way."""

    info = BackendInfo("fake", "1", "cpu", "fp16")

    def __init__(self, model: Model, answer: float) -> None:
        shape = (1, 1, *model.card.shape_zyx)
        self.input = np.zeros(shape, np.float32)
        self.output = np.full(shape, answer, np.float32)

    def infer(self) -> None:
        return None

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("answer", "code"), [(-9.0, "self-test-failed"), (9.0, "self-test-failed"), (np.nan, "non-finite-logits")]
)
def test_an_engine_that_is_blank_full_or_not_finite_never_serves(
    answer: float, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("pelvic-ln-edge")
    monkeypatch.setattr(network_module, "open_backend", lambda *_, **__: Broken(model, answer))
    with pytest.raises(EngineError) as refusal:
        prove(Network(model, FP32))
    assert refusal.value.code == code
    assert refusal.value.exit_code == 4


def test_an_engine_whose_logits_have_another_scale_never_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nodes end at the threshold its mask is the reference's to the voxel; its ellipsoids are not."""
    shipped = load_model("pelvic-ln-edge")
    model = replace(shipped, card=replace(shipped.card, outline="threshold"))
    real = Network(model, FP32)
    try:
        study = Volume(model.probe.array, Grid(model.probe.array.shape, model.probe.affine))
        answer = real.answer(study, Rules())
        shorts_mm = np.array([node.ellipsoid_short_mm for node in answer.nodes])
        probe = replace(model.probe, mask=answer.labels.array, ellipsoid_short_mm=shorts_mm)
        monkeypatch.setitem(vars(model), "probe", probe)
        prove(real)
        honest = real.at(real.grid_zyx)
        scaled = Broken(model, 0.0)
        scaled.input, scaled.output[:] = honest.input, model.card.level + 8 * (honest.output - model.card.level)
        monkeypatch.setattr(network_module, "open_backend", lambda *_, **__: scaled)
        with pytest.raises(EngineError, match=r"self-test-failed.*ellipsoids"):
            prove(Network(model, FP32))
    finally:
        real.close()


def test_auto_passes_over_an_engine_that_fails_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))  # nothing is remembered as proven
    real_open = network_module.open_backend

    def open_backend(model: Model, candidate: Candidate, **options: Any) -> object:
        if candidate.precision != "fp32":
            return Broken(model, -9.0)
        return real_open(model, candidate, **options)

    options = (Candidate("openvino", "cpu", "bf16", "first"), FP32)
    monkeypatch.setattr(serving, "each_candidate", lambda *_: iter(options))
    monkeypatch.setattr(network_module, "open_backend", open_backend)
    with Engine() as engine:
        assert engine.info.precision == "fp32"
        assert engine.choice is not None and "finds nothing on the probe" in engine.choice
    monkeypatch.setattr(serving, "each_candidate", lambda *_: iter(options[:1]))
    with pytest.raises(EngineError, match="finds nothing on the probe"):
        Engine()


def test_auto_waits_for_no_engine_and_says_how_one_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))  # no engine is kept
    real_open, opened = network_module.open_backend, []

    def open_backend(model: Model, candidate: Candidate, **options: Any) -> object:
        opened.append(candidate)
        return real_open(model, candidate, **options)

    int8 = Candidate("openvino", "cpu", "int8", "first", needs_engine=True)
    monkeypatch.setattr(serving, "each_candidate", lambda *_: iter((int8, FP32)))
    monkeypatch.setattr(network_module, "open_backend", open_backend)
    with Engine() as engine:
        assert engine.info.precision == "fp32"
        assert engine.choice == (
            "second; no certified int8 engine is here yet: lnfast export pelvic-ln-edge makes one"
        ), "an engine that is not there is not one that failed"
    assert opened == [FP32], "the model's own graph is no int8 engine"
    monkeypatch.setattr(serving, "each_candidate", lambda *_: iter((int8,)))
    with pytest.raises(EngineError, match=r"int8 takes an engine.*lnfast export pelvic-ln-edge") as refusal:
        Engine()
    assert refusal.value.code == "engine-missing" and refusal.value.exit_code == 4


def test_a_model_whose_weights_were_changed_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(load_model("pelvic-ln-edge").folder, tmp_path / "model")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0x40
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError) as refusal:
        Engine(model=folder)
    assert refusal.value.code == "model-damaged"
