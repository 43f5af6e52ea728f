"""ONNX Runtime on CPUs and, where its CUDA build is installed, NVIDIA GPUs: the only module that imports it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from lnfast.backends.graph import Port, check_ports
from lnfast.backends.host import HostBackend, aligned_array, check_as_requested, check_in_place, on_one_device
from lnfast.backends.machine import cpu_kind, nvidia_gpus
from lnfast.backends.protocol import BackendInfo, Candidate, Progress
from lnfast.backends.requests import Build, BuildRequest, LoadRequest
from lnfast.errors import EngineError, ModelError, one_line
from lnfast.optional import Package

PACKAGE = Package("backend onnxruntime", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "onnxruntime")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_importing = Lock()
_FATAL = 4  # log level: errors are raised, so nothing below it belongs on a host program's stderr


def offers() -> tuple[Candidate, ...]:
    """Return what ONNX Runtime can do here, fastest first; fp16 and int8 need an engine.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    gpus = nvidia_gpus() if _CUDA in _load().get_available_providers() else 0
    offered = []
    for i in range(gpus):
        half = "onnxruntime on an NVIDIA GPU with an fp16 engine"
        offered.append(Candidate("onnxruntime", f"cuda:{i}", "fp16", half, needs_engine=True))
        offered.append(Candidate("onnxruntime", f"cuda:{i}", "fp32", "onnxruntime on an NVIDIA GPU"))
    slow = "onnxruntime with a certified 8-bit engine, slower than openvino"
    return (
        *offered,
        Candidate("onnxruntime", "cpu", "fp32", "onnxruntime, the reference on CPUs, about half as fast as openvino"),
        Candidate("onnxruntime", "cpu", "int8", slow, needs_engine=True),
    )


def open_model(request: LoadRequest) -> HostBackend:
    """Load a checked model or engine; see `lnfast.backends.open_backend`."""
    ort = _load()
    candidate, io = request.candidate, request.io
    session = _session(ort, request)
    inputs, outputs = ([_port(port) for port in ports] for ports in (session.get_inputs(), session.get_outputs()))
    check_ports(request.model, io, inputs, outputs)
    device = candidate.device if session.get_providers()[0] == _provider(candidate)[0] else "cpu"
    # ONNX Runtime computes in the types of the graph.
    precision = "fp32" if request.engine is None else request.engine.manifest.precision
    check_as_requested("onnxruntime", (candidate.device, candidate.precision), (device, precision))

    shape = (1, 1, *io.shape_zyx)
    source, target = aligned_array(shape, 0.0, io.dtype), aligned_array(shape, float("nan"), io.dtype)
    read, written = ort.OrtValue.ortvalue_from_numpy(source), ort.OrtValue.ortvalue_from_numpy(target)
    check_in_place("onnxruntime", source, read.data_ptr())
    check_in_place("onnxruntime", target, written.data_ptr())
    binding = session.io_binding()
    binding.bind_ortvalue_input(io.input_name, read)
    binding.bind_ortvalue_output(io.output_name, written)

    def run() -> None:
        if device != "cpu":  # a GPU gets its input when it is bound
            binding.bind_ortvalue_input(io.input_name, read)
        session.run_with_iobinding(binding)

    info = BackendInfo("onnxruntime", installed_version(), device, precision)
    return HostBackend(info, source, target, run)


def open_reference(onnx_bytes: bytes, outputs: list[str]) -> Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]:
    """Load a graph in FP32 on the CPU to measure activations for export; not for serving.

    Args:
        onnx_bytes: a graph with any number of outputs.
        outputs: names of those to return.

    Returns:
        A function from the inputs by name to the outputs.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
        EngineError: ``compile-failed``.
    """
    ort = _load()
    try:
        session = ort.InferenceSession(onnx_bytes, _options(ort), providers=[_CPU])
    except Exception as error:
        raise EngineError("compile-failed", f"onnxruntime cannot load the reference: {one_line(error)}") from error

    def run(inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            values: list[NDArray[Any]] = session.run(outputs, inputs)
        except Exception as error:
            raise EngineError("inference-failed", f"onnxruntime failed to infer: {one_line(error)}") from error
        return values

    return run


def installed_version(target: str = "onnxruntime") -> str:
    """Return the module's version, for manifests and reports; there is one target."""
    return str(_load().__version__)


def package() -> Package:
    """Return the package that is installed, or the one to install."""
    return PACKAGE


def conflict() -> str | None:
    """Say so when two distributions provide the one module ``onnxruntime``."""
    present = PACKAGE.present()
    return f"{' and '.join(present)} are installed over each other" if len(present) > 1 else None


def builds_for_other_machines() -> bool:
    """Return False: an engine is the graph, bound to this machine."""
    return False


def compiles_windows() -> bool:
    """Return False: a session has one shape."""
    return False


def build_offers(target: str, device: str) -> tuple[Candidate, ...]:
    """Return how engines would run on the requested device; see `lnfast.backends.runtime.Runtime.build_offers`."""
    return on_one_device(offers(), target, device)


def build(request: BuildRequest, progress: Progress) -> Build:
    """Take the graph as it is: ONNX Runtime compiles it when it is loaded."""
    on_cpu = request.draft.manifest.device == "cpu"
    return Build(request.graph_files(), (cpu_kind(),) if on_cpu else ())


def _session(ort: Any, request: LoadRequest) -> Any:
    candidate, options = request.candidate, _options(ort)
    options.intra_op_num_threads = request.threads
    if candidate.device != "cpu":
        # Nodes that the GPU cannot do would otherwise run on the CPU in silence.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    content = request.onnx_bytes()
    try:
        return ort.InferenceSession(content, options, providers=[_provider(candidate)], enable_fallback=0)
    except Exception as error:
        message = f"onnxruntime cannot load {request.description} on {candidate.device}: {one_line(error)}"
        missing = re.search(r"No Op registered for (\S+)|Fatal error: ([\w.:]+)\(.*is not a registered", str(error))
        if missing:
            message = f"onnxruntime has no operator {missing[1] or missing[2]}, which {request.description} needs"
            raise ModelError("unsupported-op", message) from error
        if type(error).__name__ == "NotImplemented":  # an operator without a kernel for this type or device
            raise ModelError("unsupported-op", message) from error
        if candidate.device == "cpu" and type(error).__name__ != "RuntimeException":
            raise ModelError("bad-onnx", message) from error
        raise EngineError("compile-failed", message) from error


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    # Without both, a 64x256x256 network of first width 8 peaks at 1.7 GB and rests at 0.15 GB; with them it takes 3.8
    # and keeps them. Speed is the same: a run allocates a few dozen large blocks.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle means idle in a host program
    return options


def _provider(candidate: Candidate) -> tuple[str, dict[str, str]]:
    if candidate.device == "cpu":
        return _CPU, {}
    # TF32 keeps ten bits of each factor: that is not the requested fp32.
    return _CUDA, {"device_id": candidate.device.partition(":")[2], "use_tf32": "0"}


def _port(port: Any) -> Port:
    kind = str(port.type)
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in port.shape)
    return Port(frozenset((str(port.name),)), shape, _DTYPES.get(kind, kind))


def _load() -> Any:
    with _importing, _silent():
        ort = PACKAGE.load()
    ort.disable_telemetry_events()  # the builds for Windows send more
    return ort


@contextmanager
def _silent() -> Iterator[None]:
    """Keep ONNX Runtime from looking up a telemetry host and from writing a device id into the user's cache folder.

    From 1.28 on its builds for Linux do both once they are imported, whatever `disable_telemetry_events` says later.
    They read the environment while they are imported, so the variable is set for no longer than that.
    """
    set_here = PACKAGE.module not in sys.modules and _TELEMETRY not in os.environ
    if set_here:
        os.environ[_TELEMETRY] = "1"
    try:
        yield
    finally:
        if set_here:
            os.environ.pop(_TELEMETRY, None)
