"""OpenVINO on CPUs: the only module that imports it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from lnfast.backends.graph import Port, check_ports
from lnfast.backends.host import HostBackend, aligned, prove_as_asked, prove_in_place
from lnfast.backends.package import Package, one_line
from lnfast.backends.protocol import BackendInfo, Candidate
from lnfast.card import Model
from lnfast.errors import EngineError, ModelError

PACKAGE = Package("openvino", "openvino", ("openvino",), "pip install 'lnfast[cpu]'")
_TELEMETRY = "openvino_telemetry"
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_importing = Lock()


def offers() -> tuple[Candidate, ...]:
    """What OpenVINO can do here, fastest first.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    core = _load().Core()
    fp32 = Candidate("openvino", "cpu", "fp32", "openvino, the fastest runtime on CPUs, in the precision every CPU has")
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return (fp32,)
    # OpenVINO also claims bf16 where it must emulate it. What it takes when nobody asks tells the two apart.
    if _precision(core.get_property("CPU", "INFERENCE_PRECISION_HINT")) == "bf16":
        return (Candidate("openvino", "cpu", "bf16", "openvino, and this CPU multiplies bf16 faster than fp32"), fp32)
    return (fp32, Candidate("openvino", "cpu", "bf16", "openvino emulates bf16 here, which is slower than fp32"))


def open_model(model: Model, candidate: Candidate, threads: int) -> HostBackend:
    """Load a checked model; see `lnfast.backends.open_backend`."""
    openvino = _load()
    core = openvino.Core()
    try:
        network = core.read_model(model=model.onnx_bytes)
    except Exception as error:
        told = f"openvino cannot read model.onnx of model {model.card.name}: {one_line(error)}"
        raise ModelError("bad-onnx", told) from error
    check_ports(model, [_port(port) for port in network.inputs], [_port(port) for port in network.outputs])
    try:
        compiled = core.compile_model(network, "CPU", _settings(candidate, threads))
        request = compiled.create_infer_request()
    except Exception as error:
        told = f"openvino cannot compile model {model.card.name} for {candidate.precision}: {one_line(error)}"
        raise EngineError("compile-failed", told) from error
    device = "+".join(compiled.get_property("EXECUTION_DEVICES")).lower()
    precision = _precision(compiled.get_property("INFERENCE_PRECISION_HINT"))
    prove_as_asked("openvino", (candidate.device, candidate.precision), (device, precision))

    shape = (1, 1, *model.card.shape_zyx)
    source, target = aligned(shape, 0.0), aligned(shape, float("nan"))
    request.set_input_tensor(openvino.Tensor(source, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(target, shared_memory=True))
    prove_in_place("openvino", source, request.get_input_tensor().data.ctypes.data)
    prove_in_place("openvino", target, request.get_output_tensor().data.ctypes.data)
    info = BackendInfo("openvino", PACKAGE.version() or str(openvino.get_version()), device, precision)
    # Without share_outputs the Python binding returns a copy of the logits that nobody wants.
    return HostBackend(info, source, target, lambda: request.infer(share_outputs=True))


def _settings(candidate: Candidate, threads: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS.get(candidate.precision, candidate.precision),
        "ENABLE_CPU_PINNING": False,  # inside a host program: its threads and ours would meet on the same cores
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _precision(hint: Any) -> str:
    """lnfast's name of an ``openvino.Type``; OpenVINO's own where there is none."""
    name = str(hint.get_type_name())
    return next((ours for ours, theirs in _HINTS.items() if theirs == name), name)


def _port(port: Any) -> Port:
    shape = tuple(int(axis.get_length()) if axis.is_static else str(axis) for axis in port.get_partial_shape())
    kind = str(port.get_element_type().get_type_name())
    return Port(frozenset(port.get_names()), shape, "float32" if kind == "f32" else kind)


def _load() -> Any:
    with _importing, _silent():
        return PACKAGE.load()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep OpenVINO from reporting its import to a web address.

    ``import openvino`` starts a process that sends an event unless the user has opted out in a file of their home
    folder. OpenVINO does without the package that sends, so the package is hidden while OpenVINO is imported.
    """
    hidden = _TELEMETRY not in sys.modules and "openvino" not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]
