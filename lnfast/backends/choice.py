"""Which runtime, device and precision: what was asked for by name, else the fastest that this machine has."""

from __future__ import annotations

import re

from lnfast.backends import openvino, ort
from lnfast.backends.graph import check_file
from lnfast.backends.package import Package, one_line
from lnfast.backends.protocol import Backend, BackendStatus, Candidate
from lnfast.card import Model
from lnfast.errors import BackendError, UsageError

_RUNTIMES = {"openvino": openvino, "onnxruntime": ort}  # in the order of `auto`
_TENSORRT = (
    Package("tensorrt", "tensorrt_rtx", ("tensorrt-rtx-cu13",), "pip install tensorrt-rtx-cu13"),
    Package("tensorrt", "tensorrt", ("tensorrt",), "pip install tensorrt"),
)
_BACKENDS = ("auto", *_RUNTIMES, "tensorrt")
_PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
_NO_TENSORRT = "this version of lnfast runs openvino and onnxruntime; it has no executor for tensorrt yet"


def candidates(backend: str = "auto", device: str = "auto", precision: str = "auto") -> tuple[Candidate, ...]:
    """The ways to run a model here that fit the request, fastest first, never empty.

    Args:
        backend: ``auto``, ``openvino``, ``onnxruntime`` or ``tensorrt``.
        device: ``auto``, ``cpu``, ``cuda`` (the same as ``cuda:0``) or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.

    Raises:
        UsageError: ``unknown-backend``, ``unknown-device`` or ``unknown-precision``.
        BackendError: ``backend-missing``, ``backend-broken``, ``device-missing`` or ``precision-unavailable``: nothing
            here is what was asked for, and the message says what is, or what to install.
    """
    _known("backend", backend, _BACKENDS)
    _known("precision", precision, _PRECISIONS)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError("unknown-device", f"got device {device!r}, wanted auto, cpu or cuda:N")
    device = "cuda:0" if device == "cuda" else device
    if backend == "tensorrt":
        raise BackendError(
            "backend-missing",
            "backend tensorrt needs an NVIDIA GPU and the package tensorrt-rtx-cu13 (pip install tensorrt-rtx-cu13), "
            f"and {_NO_TENSORRT}",
        )
    offered = _offers(tuple(_RUNTIMES) if backend == "auto" else (backend,))
    there = tuple(offer for offer in offered if device in ("auto", offer.device))
    if not there:
        raise BackendError("device-missing", _no_device(backend, device, offered))
    fitting = tuple(offer for offer in there if precision in ("auto", offer.precision))
    if not fitting:
        possible = "; ".join(f"{offer.backend} {offer.device} {offer.precision}" for offer in there)
        raise BackendError("precision-unavailable", f"nothing here computes in {precision}; possible: {possible}")
    return tuple(sorted(fitting, key=lambda offer: offer.device == "cpu"))  # stable: a GPU first, else as offered


def open_backend(model: Model, candidate: Candidate, *, threads: int = 0) -> Backend:
    """Load a model into a runtime and prove that it runs what was asked for.

    Args:
        model: its file is checked against the card first.
        candidate: one of `candidates`.
        threads: on a CPU; 0 leaves the number to the runtime.

    Raises:
        UsageError: ``bad-threads``, ``unknown-backend``.
        BackendError: the runtime has gone since.
        ModelError: ``bad-onnx``, ``external-data``, ``model-mismatch``, ``model-damaged`` or ``model-incomplete``.
        EngineError: ``compile-failed``, ``device-mismatch``, ``precision-mismatch`` or ``not-in-place``.
    """
    if threads < 0:
        raise UsageError("bad-threads", f"got {threads} threads, wanted 0 (the runtime's own choice) or more")
    _known("backend", candidate.backend, tuple(_RUNTIMES))
    check_file(model)
    backend: Backend = _RUNTIMES[candidate.backend].open_model(model, candidate, threads)
    return backend


def backend_status() -> tuple[BackendStatus, ...]:
    """What each runtime can do on this machine and what is wrong with it; a broken one is told of, not raised."""
    return (*(_status(name) for name in _RUNTIMES), _tensorrt_status())


def _offers(names: tuple[str, ...]) -> list[Candidate]:
    """All that the named runtimes offer; one of several may be missing."""
    offered: list[Candidate] = []
    refused: list[BackendError] = []
    for name in names:
        try:
            offered += _RUNTIMES[name].offers()
        except BackendError as error:
            refused.append(error)
    if offered:
        return offered
    if len(refused) == 1:
        raise refused[0]
    broken = [error for error in refused if error.code != "backend-missing"]
    if broken:
        raise broken[0]
    raise BackendError("backend-missing", f"no runtime is installed ({' or '.join(names)}): {openvino.PACKAGE.install}")


def _no_device(backend: str, device: str, offered: list[Candidate]) -> str:
    here = ", ".join(dict.fromkeys(offer.device for offer in offered))
    whom = "any backend" if backend == "auto" else f"backend {backend}"
    told = f"device {device} is not available to {whom}; here: {here}"
    if device.startswith("cuda") and backend != "openvino":
        told += "; onnxruntime reaches an NVIDIA GPU with its driver and onnxruntime-gpu instead of onnxruntime: "
        told += "pip uninstall onnxruntime && pip install onnxruntime-gpu"
    return told


def _status(name: str) -> BackendStatus:
    runtime = _RUNTIMES[name]
    package = runtime.PACKAGE
    installed, version = package.installed(), package.version()
    try:
        offered = runtime.offers()
    except Exception as error:  # whatever a broken package does, doctor tells it
        problem = error.message if isinstance(error, BackendError) else one_line(error)
        return BackendStatus(name, installed, version, (), (), problem, package.install)
    devices = tuple(dict.fromkeys(offer.device for offer in offered))
    precisions = tuple(dict.fromkeys(offer.precision for offer in offered))
    rivals = ort.rivals() if runtime is ort else None
    mend = f"pip uninstall onnxruntime onnxruntime-gpu && {package.install}" if rivals else None
    return BackendStatus(name, installed, version, devices, precisions, rivals, mend)


def _tensorrt_status() -> BackendStatus:
    found = next((package for package in _TENSORRT if package.installed()), None)
    return BackendStatus("tensorrt", found is not None, found.version() if found else None, (), (), _NO_TENSORRT, None)


def _known(what: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise UsageError(f"unknown-{what}", f"got {what} {got!r}, wanted one of: {', '.join(known)}")
