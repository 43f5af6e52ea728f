"""OpenVINO on CPUs: the only module that imports it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any

from lnfast.backends.graph import Port, check_ports
from lnfast.backends.host import HostBackend, aligned, prove_as_asked, prove_in_place
from lnfast.backends.loading import Loading
from lnfast.backends.protocol import BackendInfo, Candidate
from lnfast.errors import EngineError, LnfastError, ModelError, one_line
from lnfast.optional import Package

PACKAGE = Package("backend openvino", "openvino", ("openvino",), "cpu")
_TELEMETRY = "openvino_telemetry"
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_importing = Lock()


def offers() -> tuple[Candidate, ...]:
    """What OpenVINO can do here, fastest first; int8 needs an engine.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    core = _load().Core()
    fp32 = Candidate("openvino", "cpu", "fp32", "openvino, the fastest runtime on CPUs, in the precision every CPU has")
    int8 = Candidate("openvino", "cpu", "int8", "openvino with a certified 8-bit engine", needs_engine=True)
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return (int8, fp32)
    # OpenVINO also claims bf16 where it must emulate it. What it takes when nobody asks tells the two apart.
    if _precision(core.get_property("CPU", "INFERENCE_PRECISION_HINT")) == "bf16":
        return (
            int8,
            Candidate("openvino", "cpu", "bf16", "openvino, and this CPU multiplies bf16 faster than fp32"),
            fp32,
        )
    return (int8, fp32, Candidate("openvino", "cpu", "bf16", "openvino emulates bf16 here, which is slower than fp32"))


def open_model(loading: Loading) -> HostBackend:
    """Load a checked model or engine; see `lnfast.backends.open_backend`."""
    openvino = _load()
    compiled = _compiled(openvino, loading)
    candidate, io = loading.candidate, loading.io
    check_ports(
        loading.model, io, [_port(port) for port in compiled.inputs], [_port(port) for port in compiled.outputs]
    )
    try:
        request = compiled.create_infer_request()
    except Exception as error:
        told = f"openvino cannot compile {loading.whose} for {candidate.precision}: {one_line(error)}"
        raise EngineError("compile-failed", told) from error
    device = "+".join(compiled.get_property("EXECUTION_DEVICES")).lower()
    precision = _precision(compiled.get_property("INFERENCE_PRECISION_HINT"))
    if _counts_in_integers(compiled):
        precision = "int8"
    prove_as_asked("openvino", (candidate.device, candidate.precision), (device, precision))

    shape = (1, 1, *io.shape_zyx)
    source, target = aligned(shape, 0.0), aligned(shape, float("nan"))
    request.set_input_tensor(openvino.Tensor(source, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(target, shared_memory=True))
    prove_in_place("openvino", source, request.get_input_tensor().data.ctypes.data)
    prove_in_place("openvino", target, request.get_output_tensor().data.ctypes.data)
    info = BackendInfo("openvino", installed_version(), device, precision)
    # Without share_outputs the Python binding returns a copy of the logits that nobody wants.
    return HostBackend(info, source, target, lambda: request.infer(share_outputs=True))


def compile_blob(loading: Loading) -> bytes:
    """What `open_model` loads in a tenth of the time: the network compiled for a shape and this kind of CPU.

    Raises:
        ModelError, EngineError, BackendError: as `open_model`.
    """
    content: bytes = _compiled(_load(), loading).export_model().getvalue()
    return content


def installed_version(target: str = "openvino") -> str:
    """Of the package, for manifests and reports; there is one target."""
    return PACKAGE.version() or str(_load().get_version())


def package() -> Package:
    """Return the package that is installed, or the one to install."""
    return PACKAGE


def conflict() -> None:
    """Return None: one distribution provides the module."""


def _compiled(openvino: Any, loading: Loading) -> Any:
    core, candidate = openvino.Core(), loading.candidate
    settings = _settings(candidate, loading.threads)
    blob = loading.compiled()
    if blob is not None:
        try:
            return core.import_model(blob, "CPU", settings)
        except Exception as error:
            assert loading.engine is not None
            told = f"openvino does not load {loading.whose}: {one_line(error)}; {loading.engine.again}"
            raise EngineError("engine-damaged", told) from error
    try:
        network = core.read_model(model=loading.graph())
    except LnfastError:
        raise
    except Exception as error:
        raise _unreadable(loading, error) from error
    check_ports(
        loading.model,
        replace(loading.io, shape_zyx=loading.model.card.shape_zyx),
        [_port(port) for port in network.inputs],
        [_port(port) for port in network.outputs],
    )
    try:
        if loading.shape_zyx != loading.model.card.shape_zyx:
            network.reshape([1, 1, *loading.shape_zyx])
        return core.compile_model(network, "CPU", settings)
    except Exception as error:
        told = f"openvino cannot compile {loading.whose} for {candidate.precision}: {one_line(error)}"
        raise EngineError("compile-failed", told) from error


def _unreadable(loading: Loading, error: Exception) -> ModelError:
    """An operator that OpenVINO lacks, by name, or whatever else it dislikes."""
    lacking = re.search(r"No conversion rule found for operations: (\S+)", str(error))
    if lacking:
        kind = re.sub(r"-\d+$", "", lacking[1])
        return ModelError("unsupported-op", f"openvino has no operator {kind}, which {loading.whose} needs")
    return ModelError("bad-onnx", f"openvino cannot read the graph of {loading.whose}: {one_line(error)}")


def _counts_in_integers(compiled: Any) -> bool:
    """Whether most convolutions really run in 8 bits, as OpenVINO's own list of what it executes says."""
    convolutions = []
    for layer in compiled.get_runtime_model().get_ops():
        told = layer.get_rt_info()
        if "layerType" in told and str(told["layerType"].astype(str)) in ("Convolution", "Deconvolution"):
            convolutions.append(str(told["runtimePrecision"].astype(str)) in ("u8", "i8"))
    return 2 * sum(convolutions) > len(convolutions)


def _beside_int8() -> str:
    """What is not integer in an int8 network: the convolutions that export keeps high."""
    return next((offer.precision for offer in offers() if offer.precision != "int8"), "fp32")


def _settings(candidate: Candidate, threads: int) -> dict[str, Any]:
    precision = _beside_int8() if candidate.precision == "int8" else candidate.precision
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS.get(precision, precision),
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
