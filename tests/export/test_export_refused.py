"""What export refuses: engines that differ from FP32 where it matters, and requests that make no sense."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_files import (
    BRIGHT,
    DIM,
    LARGE,
    RTX,
    SMALL,
    deep_blob_network,
    model_of,
    refusal,
    write_studies,
)
from model_files import blob_network

import lnfast
from lnfast import optional
from lnfast.backends import openvino
from lnfast.backends.engine.folder import read_engine_folder
from lnfast.backends.engine.manifest import GRAPH, SERIALIZED
from lnfast.backends.machine import nvidia_gpus
from lnfast.card import Model
from lnfast.errors import BackendError, EngineError, LnfastError, UsageError
from lnfast.export import Request, export, export_to_cache, variants
from lnfast.export.graph import Graph
from lnfast.export.quantize import quantize
from lnfast.export.variants import GraphVariant, GraphVariants


def instead(monkeypatch: pytest.MonkeyPatch, content: onnx.ModelProto) -> None:
    """Make export try this graph, whatever the request."""
    variant = GraphVariant({}, content.SerializeToString())
    monkeypatch.setattr(GraphVariants, "of", lambda self, target, precision: iter([variant]))


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("case", ["flip", "lost", "added"])
def test_an_engine_that_differs_where_it_matters_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, case: str
) -> None:
    """Another threshold, which the probe does not show: a dim node comes or goes."""
    blocks = {
        "flip": ((SMALL, BRIGHT), (LARGE, DIM)),
        "lost": (((slice(1, 6), slice(10, 15), slice(0, 4)), BRIGHT), (LARGE, DIM)),
        "added": (((slice(1, 6), slice(10, 15), slice(0, 4)), BRIGHT), (LARGE, DIM)),
    }[case]
    folder = write_studies(tmp_path / "studies", *blocks)
    low, high = blob_network(at=0.3), blob_network(at=4.0 if case == "flip" else 2.2)
    model = model_of(tmp_path / "m", high if case == "added" else low)
    instead(monkeypatch, low if case == "added" else high)
    out, request = tmp_path / "out", Request(target, "fp32", calibration=folder, windows=False)
    message = refusal(EngineError, lambda: export(model, out, request), "not-certified")
    wanted = {
        "flip": "the stage flips by box and axial, 1 suspicious nodes are lost and 0 added",
        "lost": "in study 1 1 suspicious nodes are lost and 0 added",
        "added": "0 suspicious nodes are lost and 1 added",
    }[case]
    assert wanted in message and not out.exists()


def test_a_blank_engine_is_not_written_and_an_older_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: Model, studies: Path
) -> None:
    out = tmp_path / "out"
    export(deep, out, Request("onnxruntime", "fp32", calibration=studies))
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def blank(*arguments: Any, **options: Any) -> Graph:
        quantized = quantize(*arguments, **options)
        for name, array in quantized.weights.items():
            if name == "w":
                quantized.set_weight(name, np.zeros_like(array))
        return quantized

    monkeypatch.setattr(variants, "quantize", blank)
    message = refusal(
        EngineError,
        lambda: export(deep, out, Request("onnxruntime", "int8", calibration=studies)),
        "not-certified",
    )
    assert "finds nothing on the probe" in message
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # With auto the other precisions remain.
    exported = export(deep, out, Request("onnxruntime", "auto", device="cpu", calibration=studies))
    why = {attempt.precision: attempt.why for attempt in exported.attempts}
    assert why["fp32"] is None and "finds nothing" in str(why["int8"])
    assert exported.engine.manifest.precision == "fp32"


def test_int8_keeps_more_high_until_it_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, studies: Path) -> None:
    """A network that needs /conv2 in FP32 gets it after the first variant has failed."""

    def fragile(*arguments: Any, **options: Any) -> Graph:
        quantized = quantize(*arguments, **options)
        if "/conv2" not in options["in_fp32"]:
            quantized.set_weight("w", -quantized.weights["w"])
        return quantized

    monkeypatch.setattr(variants, "quantize", fragile)
    model = model_of(tmp_path / "m", deep_blob_network(at=0.5))
    exported = export(model, tmp_path / "out", Request("onnxruntime", "int8", calibration=studies))
    assert set(exported.engine.manifest.build["high"]) == {"/conv0", "/last", "/conv2"}


def test_studies_without_a_large_node_prove_nothing(tmp_path: Path, blob: Model) -> None:
    folder = write_studies(tmp_path / "studies", (SMALL, BRIGHT))
    for precision in ("fp32", "auto"):
        request = Request("onnxruntime", precision, device="cpu", calibration=folder)
        message = refusal(UsageError, lambda: export(blob, tmp_path / "out", request), "proves-nothing")  # noqa: B023
        assert "no suspicious node in 2 studies" in message and not (tmp_path / "out").exists()


def test_too_few_studies_are_refused(tmp_path: Path, blob: Model) -> None:
    folder = write_studies(tmp_path / "one", (LARGE, BRIGHT), count=1)
    for place in (folder, tmp_path / "nowhere"):
        request = Request("onnxruntime", "fp32", calibration=place)
        refusal(UsageError, lambda: export(blob, tmp_path / "out", request), "bad-calibration")  # noqa: B023
    refusal(
        UsageError, lambda: export(blob, tmp_path / "out", Request("onnxruntime", "fp32", studies=0)), "bad-studies"
    )


def test_unknown_wishes_are_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    def wish(target: str, precision: str = "auto", **more: Any) -> Callable[[], object]:
        return lambda: export(blob, tmp_path / "out", Request(target, precision, calibration=studies, **more))

    refusal(UsageError, wish("coreml"), "unknown-target")
    refusal(UsageError, wish("openvino", "fp16"), "unknown-precision")
    refusal(UsageError, wish("openvino", capabilities=("8.6",)), "bad-capability")
    refusal(BackendError, wish("openvino", device="cuda:0"), "device-missing")
    assert not (tmp_path / "out").exists()


def test_a_precision_that_no_cpu_here_runs_is_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    request = Request("onnxruntime", "fp16", device="cpu", calibration=studies)
    with pytest.raises(LnfastError):
        export(blob, tmp_path / "out", request)
    assert not (tmp_path / "out").exists()


def test_a_network_with_nothing_for_8_bits_is_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    for target in ("openvino", "onnxruntime"):
        request = Request(target, "int8", device="cpu", calibration=studies, windows=False)
        with pytest.raises(LnfastError):
            export(blob, tmp_path / target, request)


def test_bf16_on_a_cpu_without_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blob: Model, studies: Path
) -> None:
    offered = tuple(offer for offer in openvino.offers() if offer.precision != "bf16")
    monkeypatch.setattr(openvino, "offers", lambda: offered)
    request = Request("openvino", "bf16", calibration=studies, windows=False)
    with pytest.raises(LnfastError):
        export(blob, tmp_path / "out", request)


@pytest.mark.skipif(not RTX, reason="needs tensorrt-rtx-cu13")
def test_a_device_of_no_known_name_is_refused(tmp_path: Path, blob: Model, studies: Path) -> None:
    request = Request("tensorrt-rtx", "fp16", device="banana", calibration=studies, capabilities=("8.6",))
    with pytest.raises(LnfastError):
        export(blob, tmp_path / "out", request)


def test_a_folder_that_lnfast_did_not_write_is_left_alone(tmp_path: Path, blob: Model, studies: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("years of work")
    own = tmp_path / "own"
    shutil.copytree(blob.folder, own)  # a model folder is no engine folder
    mixed = tmp_path / "mixed"
    request = Request("onnxruntime", "fp32", calibration=studies)
    export(blob, mixed, request)
    (mixed / "notes.txt").write_text("mine")
    file = tmp_path / "file"
    file.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(stranger)
    for place in (stranger, own, mixed, file, link):
        before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
        refusal(UsageError, lambda: export(blob, place, request), "output-exists")  # noqa: B023
        assert before == sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.skipif(not RTX, reason="needs tensorrt-rtx-cu13")
@pytest.mark.skipif(nvidia_gpus() > 0, reason="with a GPU it is certified")
def test_what_cannot_run_here_is_made_and_not_served(tmp_path: Path, blob: Model, studies: Path) -> None:
    out = tmp_path / "out"
    exported = export(blob, out, Request("tensorrt-rtx", "fp16", calibration=studies, capabilities=("8.6",)))
    assert exported.certificate is None and exported.engine.manifest.certificate is None
    assert [attempt.infer_ms for attempt in exported.attempts] == [None]
    manifest = read_engine_folder(out).manifest
    assert (manifest.dtype, manifest.made_for, manifest.device) == ("float16", ("8.6",), "cuda")
    assert {GRAPH, SERIALIZED} >= set(manifest.files) >= {SERIALIZED}
    with pytest.raises((BackendError, EngineError)):
        lnfast.Engine(out)
    refusal(
        UsageError,
        lambda: export_to_cache(blob, Request("tensorrt-rtx", "fp16", calibration=studies)),
        "bad-device",
    )


def test_without_onnx_runtime_the_line_of_the_extra_for_export_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blob: Model, studies: Path
) -> None:
    """The extra ``cpu`` installs OpenVINO alone; ``export`` brings the reference and onnx at once."""
    find_spec = optional.find_spec
    monkeypatch.setattr(optional, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    with pytest.raises(BackendError, match=r"pip install 'lnfast\[export\]'") as caught:
        export(blob, tmp_path / "out", Request("openvino", "int8", calibration=studies))
    assert caught.value.code == "backend-missing"
