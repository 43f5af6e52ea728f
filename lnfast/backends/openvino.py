"""OpenVINO on CPUs: the only module that imports it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any

from lnfast.backends.engine.manifest import blob_name
from lnfast.backends.graph import Port, check_ports
from lnfast.backends.host import HostBackend, aligned_array, check_as_requested, check_in_place, on_one_device
from lnfast.backends.machine import cpu_kind
from lnfast.backends.protocol import BackendInfo, Candidate, Progress
from lnfast.backends.requests import Build, BuildRequest, LoadRequest
from lnfast.errors import EngineError, LnfastError, ModelError, one_line
from lnfast.optional import Package

PACKAGE = Package("backend openvino", "openvino", ("openvino",), "cpu")
_TELEMETRY = "openvino_telemetry"
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_importing = Lock()


def offers() -> tuple[Candidate, ...]:
    """Return what OpenVINO can do here, fastest first; int8 needs an engine.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    core = _load().Core()
    fp32 = Candidate("openvino", "cpu", "fp32", "openvino, the fastest runtime on CPUs, in the precision every CPU has")
    int8 = Candidate("openvino", "cpu", "int8", "openvino with a certified 8-bit engine", needs_engine=True)
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return (int8, fp32)
    # OpenVINO also lists bf16 where it must emulate it. Its default precision tells the two apart.
    if _precision(core.get_property("CPU", "INFERENCE_PRECISION_HINT")) == "bf16":
        return (
            int8,
            Candidate("openvino", "cpu", "bf16", "openvino, and this CPU multiplies bf16 faster than fp32"),
            fp32,
        )
    return (int8, fp32, Candidate("openvino", "cpu", "bf16", "openvino emulates bf16 here, which is slower than fp32"))


def open_model(request: LoadRequest) -> HostBackend:
    """Load a checked model or engine; see `lnfast.backends.open_backend`."""
    openvino = _load()
    compiled = _compiled(openvino, request)
    candidate, io = request.candidate, request.io
    check_ports(
        request.model, io, [_port(port) for port in compiled.inputs], [_port(port) for port in compiled.outputs]
    )
    try:
        inference = compiled.create_infer_request()
    except Exception as error:
        message = f"openvino cannot compile {request.description} for {candidate.precision}: {one_line(error)}"
        raise EngineError("compile-failed", message) from error
    device = "+".join(compiled.get_property("EXECUTION_DEVICES")).lower()
    precision = _precision(compiled.get_property("INFERENCE_PRECISION_HINT"))
    if _runs_in_integers(compiled):
        precision = "int8"
    check_as_requested("openvino", (candidate.device, candidate.precision), (device, precision))

    shape = (1, 1, *io.shape_zyx)
    source, target = aligned_array(shape, 0.0), aligned_array(shape, float("nan"))
    inference.set_input_tensor(openvino.Tensor(source, shared_memory=True))
    inference.set_output_tensor(openvino.Tensor(target, shared_memory=True))
    check_in_place("openvino", source, inference.get_input_tensor().data.ctypes.data)
    check_in_place("openvino", target, inference.get_output_tensor().data.ctypes.data)
    info = BackendInfo("openvino", installed_version(), device, precision)
    # Without share_outputs the Python binding returns a copy of the logits.
    return HostBackend(info, source, target, lambda: inference.infer(share_outputs=True))


def compile_blob(request: LoadRequest) -> bytes:
    """Return the network compiled for a shape and this kind of CPU, which `open_model` loads in a tenth of the time.

    Raises:
        ModelError, EngineError, BackendError: as `open_model`.
    """
    content: bytes = _compiled(_load(), request).export_model().getvalue()
    return content


def installed_version(target: str = "openvino") -> str:
    """Return the package's version, for manifests and reports; there is one target."""
    return PACKAGE.version() or str(_load().get_version())


def package() -> Package:
    """Return the package that is installed, or the one to install."""
    return PACKAGE


def conflict() -> None:
    """Return None: one distribution provides the module."""


def builds_for_other_machines() -> bool:
    """Return False: a network is compiled for this kind of CPU."""
    return False


def compiles_windows() -> bool:
    """Return True: on a CPU time goes with voxels, so each window has a program of its own."""
    return True


def build_offers(target: str, device: str) -> tuple[Candidate, ...]:
    """Return how engines would run on the requested device; see `lnfast.backends.runtime.Runtime.build_offers`."""
    return on_one_device(offers(), target, device)


def build(request: BuildRequest, progress: Progress) -> Build:
    """Compile the network for the whole grid and for each window; see `lnfast.backends.runtime.Runtime.build`."""
    assert request.candidate is not None, "an engine of OpenVINO is compiled where it runs"
    files = request.graph_files()
    shapes = (request.model.card.shape_zyx, *request.windows)
    for done, shape in enumerate(shapes):
        progress("compiling", done, len(shapes))
        loaded = LoadRequest(request.model, request.candidate, request.draft, shape, request.threads)
        files[blob_name(shape)] = compile_blob(loaded)
    return Build(files, (cpu_kind(),), request.windows)


def _compiled(openvino: Any, request: LoadRequest) -> Any:
    core, candidate = openvino.Core(), request.candidate
    settings = _settings(candidate, request.threads)
    blob = request.compiled_bytes()
    if blob is not None:
        try:
            return core.import_model(blob, "CPU", settings)
        except Exception as error:
            assert request.engine is not None
            message = f"openvino does not load {request.description}: {one_line(error)}; {request.engine.again}"
            raise EngineError("engine-damaged", message) from error
    try:
        network = core.read_model(model=request.onnx_bytes())
    except LnfastError:
        raise
    except Exception as error:
        raise _unreadable(request, error) from error
    check_ports(
        request.model,
        replace(request.io, shape_zyx=request.model.card.shape_zyx),
        [_port(port) for port in network.inputs],
        [_port(port) for port in network.outputs],
    )
    try:
        if request.shape_zyx != request.model.card.shape_zyx:
            network.reshape([1, 1, *request.shape_zyx])
        return core.compile_model(network, "CPU", settings)
    except Exception as error:
        message = f"openvino cannot compile {request.description} for {candidate.precision}: {one_line(error)}"
        raise EngineError("compile-failed", message) from error


def _unreadable(request: LoadRequest, error: Exception) -> ModelError:
    """Return the error for a graph that OpenVINO does not read; it names an operator that OpenVINO lacks."""
    missing = re.search(r"No conversion rule found for operations: (\S+)", str(error))
    if missing:
        kind = re.sub(r"-\d+$", "", missing[1])
        return ModelError("unsupported-op", f"openvino has no operator {kind}, which {request.description} needs")
    return ModelError("bad-onnx", f"openvino cannot read the graph of {request.description}: {one_line(error)}")


def _runs_in_integers(compiled: Any) -> bool:
    """Return whether most convolutions run in 8 bits, by OpenVINO's own list of what it executes."""
    convolutions = []
    for layer in compiled.get_runtime_model().get_ops():
        info = layer.get_rt_info()
        if "layerType" in info and str(info["layerType"].astype(str)) in ("Convolution", "Deconvolution"):
            convolutions.append(str(info["runtimePrecision"].astype(str)) in ("u8", "i8"))
    return 2 * sum(convolutions) > len(convolutions)


def _beside_int8() -> str:
    """Return the precision of what is not integer in an int8 network: the convolutions that export keeps high."""
    return next((offer.precision for offer in offers() if offer.precision != "int8"), "fp32")


def _settings(candidate: Candidate, threads: int) -> dict[str, Any]:
    precision = _beside_int8() if candidate.precision == "int8" else candidate.precision
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS.get(precision, precision),
        "ENABLE_CPU_PINNING": False,  # inside a host program its threads and ours would share the same cores
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def _precision(hint: Any) -> str:
    """Return lnfast's name of an ``openvino.Type``, OpenVINO's own where there is none."""
    name = str(hint.get_type_name())
    return next((precision for precision, hint_name in _HINTS.items() if hint_name == name), name)


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
