"""The choice of a runtime, device and precision, and that the requested one is the one that runs."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_files import NO_TENSORRT, ONNXRUNTIME, OPENVINO, oracle, refusal, show_tensorrt

from lnfast.backends import Candidate, candidates, choice, open_backend
from lnfast.backends import openvino as ov_backend
from lnfast.backends import ort as ort_backend
from lnfast.backends.registry import BACKENDS, PRECISIONS, TARGET_PRECISIONS, TARGETS
from lnfast.card import Model
from lnfast.errors import BackendError, EngineError, UsageError


def test_auto_order_is_fastest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order = [(candidate.backend, candidate.device, candidate.precision) for candidate in candidates(device="cpu")]
    fp32 = [("openvino", "cpu", "fp32"), ("onnxruntime", "cpu", "fp32")]
    assert [candidate for candidate in order if candidate[2] == "fp32"] == fp32
    assert all(candidate.reason and "\n" not in candidate.reason for candidate in candidates())

    cores = {
        "native": ("bf16", ["int8", "bf16", "fp32"]),
        "emulated": ("f32", ["int8", "fp32", "bf16"]),
        "none": (None, ["int8", "fp32"]),
    }
    for default, wanted in cores.values():
        properties = {
            "OPTIMIZATION_CAPABILITIES": ["FP32"] + ["BF16"] * (default is not None),
            "INFERENCE_PRECISION_HINT": SimpleNamespace(get_type_name=lambda default=default: default),
        }
        core = SimpleNamespace(get_property=lambda _, name, properties=properties: properties[name])
        monkeypatch.setattr(ov_backend, "_load", lambda core=core: SimpleNamespace(Core=lambda: core))
        assert [candidate.precision for candidate in candidates("openvino")] == wanted
        assert [candidate.precision for candidate in candidates("openvino") if candidate.needs_engine] == ["int8"]


def test_what_is_named_is_the_only_one() -> None:
    assert {candidate.backend for candidate in candidates("onnxruntime")} == {"onnxruntime"}
    assert {candidate.precision for candidate in candidates(precision="fp32")} == {"fp32"}
    assert [(candidate.backend, candidate.precision) for candidate in candidates("openvino", "cpu", "fp32")] == [
        ("openvino", "fp32")
    ]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"backend": "torch"}, "unknown-backend"),
        ({"device": "gpu"}, "unknown-device"),
        ({"device": "cuda:x"}, "unknown-device"),
        ({"device": "cuda:"}, "unknown-device"),
        ({"precision": "float32"}, "unknown-precision"),
    ],
)
def test_unknown_names(request_: dict[str, str], code: str) -> None:
    assert refusal(UsageError, lambda: candidates(**request_)) == code


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"backend": "openvino", "device": "cuda:0"}, "device-missing", "here: cpu"),
        ({"device": "cuda:77"}, "device-missing", "onnxruntime-gpu"),
        ({"precision": "fp16"}, "precision-unavailable", "onnxruntime cpu fp32"),
        ({"backend": "onnxruntime", "device": "cpu", "precision": "bf16"}, "precision-unavailable", "fp32"),
        ({"backend": "openvino", "precision": "fp16"}, "precision-unavailable", "openvino cpu fp32"),
    ],
)
@pytest.mark.usefixtures("no_gpu")
def test_what_this_machine_lacks(request_: dict[str, str], code: str, message: str) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        candidates(**request_)
    assert caught.value.code == code and caught.value.exit_code == 5


@NO_TENSORRT
@pytest.mark.usefixtures("no_gpu")
def test_tensorrt_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch, package_there: bool, code: str, message: str
) -> None:
    show_tensorrt(monkeypatch, package_there)
    for device in ("auto", "cuda:0"):
        with pytest.raises(BackendError, match=message) as caught:
            candidates("tensorrt", device)
        assert caught.value.code == code and caught.value.exit_code == 5
    assert {candidate.backend for candidate in candidates()} == {"openvino", "onnxruntime"}, (
        "the others do not go with it"
    )


def test_a_runtime_that_falls_back_to_the_cpu_is_caught(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime with CUDA and a driver that does not fit it makes a CPU session and says nothing."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(ort_backend, "nvidia_gpus", lambda: 1)

    def fall_back(content: bytes, options: object, providers: list[Any], **_: object) -> object:
        assert providers == [("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"})]
        return real(content, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    first = next(candidate for candidate in candidates() if not candidate.needs_engine)
    assert (first.backend, first.device, first.precision) == ("onnxruntime", "cuda:0", "fp32")
    assert [candidate for candidate in candidates("onnxruntime", "cuda") if not candidate.needs_engine] == [first]
    assert refusal(EngineError, lambda: open_backend(model, first)) == "device-mismatch"


def test_a_runtime_that_computes_in_another_precision_is_caught(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ov_backend._settings
    monkeypatch.setattr(ov_backend, "_settings", lambda _, threads: settings(OPENVINO, threads))
    requested = Candidate("openvino", "cpu", "bf16", "")
    assert refusal(EngineError, lambda: open_backend(model, requested)) == "precision-mismatch"
    requested = Candidate("openvino", "cuda:0", "fp32", "")
    assert refusal(EngineError, lambda: open_backend(model, requested)) == "device-mismatch"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_candidate_that_was_never_offered(model: Model, backend: str, precision: str) -> None:
    with pytest.raises(EngineError):
        open_backend(model, Candidate(backend, "cpu", precision, ""))


def test_threads(model: Model, study: NDArray[np.float32]) -> None:
    assert refusal(UsageError, lambda: open_backend(model, OPENVINO, threads=-1)) == "bad-threads"
    for candidate in (OPENVINO, ONNXRUNTIME):
        for threads in (0, 1, 2):
            with closing(open_backend(model, candidate, threads=threads)) as backend:
                backend.input[...] = study
                backend.infer()
                assert np.abs(backend.output - oracle(study, model.onnx_bytes)).max() < 1e-4


def test_the_lists_of_names_agree() -> None:
    assert set(choice.RUNTIMES) == set(BACKENDS) == set(TARGETS.values())
    assert set(TARGET_PRECISIONS) == set(TARGETS)
    assert all(set(precisions) <= set(PRECISIONS) for precisions in TARGET_PRECISIONS.values())
