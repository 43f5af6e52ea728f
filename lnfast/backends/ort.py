"""ONNX Runtime on CPUs and, where its CUDA build is installed, NVIDIA GPUs: the only module that imports it."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from lnfast.backends.graph import Port, check_ports
from lnfast.backends.host import HostBackend, aligned, prove_as_asked, prove_in_place
from lnfast.backends.package import Package, one_line
from lnfast.backends.protocol import BackendInfo, Candidate
from lnfast.card import Model
from lnfast.errors import EngineError, ModelError

PACKAGE = Package("onnxruntime", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "pip install 'lnfast[cpu]'")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_FATAL = 4  # log level: what goes wrong is raised, so nothing below it belongs on a host program's stderr


def offers() -> tuple[Candidate, ...]:
    """What ONNX Runtime can do here, fastest first.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    gpus = _gpus() if _CUDA in _load().get_available_providers() else 0
    return (
        *(Candidate("onnxruntime", f"cuda:{i}", "fp32", "onnxruntime on an NVIDIA GPU") for i in range(gpus)),
        Candidate("onnxruntime", "cpu", "fp32", "onnxruntime, the reference on CPUs, about half as fast as openvino"),
    )


def open_model(model: Model, candidate: Candidate, threads: int) -> HostBackend:
    """Load a checked model; see `lnfast.backends.open_backend`."""
    ort = _load()
    session = _session(ort, model, candidate, threads)
    check_ports(model, [_port(port) for port in session.get_inputs()], [_port(port) for port in session.get_outputs()])
    device = candidate.device if session.get_providers()[0] == _provider(candidate)[0] else "cpu"
    prove_as_asked("onnxruntime", (candidate.device, candidate.precision), (device, "fp32"))

    shape = (1, 1, *model.card.shape_zyx)
    source, target = aligned(shape, 0.0), aligned(shape, float("nan"))
    read, written = ort.OrtValue.ortvalue_from_numpy(source), ort.OrtValue.ortvalue_from_numpy(target)
    prove_in_place("onnxruntime", source, read.data_ptr())
    prove_in_place("onnxruntime", target, written.data_ptr())
    binding = session.io_binding()
    binding.bind_ortvalue_input(model.card.input_name, read)
    binding.bind_ortvalue_output(model.card.output_name, written)

    def run() -> None:
        if device != "cpu":  # a GPU gets its input when it is bound
            binding.bind_ortvalue_input(model.card.input_name, read)
        session.run_with_iobinding(binding)

    info = BackendInfo("onnxruntime", str(ort.__version__), device, "fp32")
    return HostBackend(info, source, target, run)


def rivals() -> str | None:
    """Says so when two distributions fight over the one module ``onnxruntime``."""
    present = PACKAGE.present()
    return f"{' and '.join(present)} are installed over each other" if len(present) > 1 else None


def _session(ort: Any, model: Model, candidate: Candidate, threads: int) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    # Without both, a 64x256x256 network of first width 8 peaks at 1.7 GB and rests at 0.15 GB; with them it takes 3.8
    # and keeps them. Speed is the same: a run allocates a few dozen large blocks.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle means idle in a host program
    if candidate.device != "cpu":
        # Nodes that the GPU cannot do would otherwise run on the CPU and nobody would be told.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return ort.InferenceSession(model.onnx_bytes, options, providers=[_provider(candidate)], enable_fallback=0)
    except Exception as error:
        told = f"onnxruntime cannot load model {model.card.name} on {candidate.device}: {one_line(error)}"
        if candidate.device == "cpu" and type(error).__name__ != "RuntimeException":
            raise ModelError("bad-onnx", told) from error
        raise EngineError("compile-failed", told) from error


def _provider(candidate: Candidate) -> tuple[str, dict[str, str]]:
    if candidate.device == "cpu":
        return _CPU, {}
    # TF32 keeps ten bits of each factor: that is not the fp32 that was asked for.
    return _CUDA, {"device_id": candidate.device.partition(":")[2], "use_tf32": "0"}


def _port(port: Any) -> Port:
    kind = str(port.type)
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in port.shape)
    return Port(frozenset((str(port.name),)), shape, "float32" if kind == "tensor(float)" else kind)


def _load() -> Any:
    ort = PACKAGE.load()
    ort.disable_telemetry_events()  # the builds for Windows have some
    return ort


def _gpus() -> int:
    """How many NVIDIA GPUs the driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value
