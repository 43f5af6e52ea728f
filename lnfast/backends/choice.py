"""The choice of a runtime, device and precision: the one requested by name, else the fastest that this machine has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lnfast.backends import openvino, ort, trt
from lnfast.backends.engine.folder import EngineFolder, check_here, check_model
from lnfast.backends.machine import nvidia_gpus
from lnfast.backends.protocol import Backend, BackendStatus, Candidate
from lnfast.backends.registry import AUTO, BACKENDS, PRECISIONS, TARGETS
from lnfast.backends.requests import LoadRequest
from lnfast.backends.runtime import Runtime
from lnfast.card import Model
from lnfast.errors import BackendError, UsageError, one_line

RUNTIMES: dict[str, Runtime] = {"tensorrt": trt, "openvino": openvino, "onnxruntime": ort}  # in the order of `auto`


def candidates(backend: str = "auto", device: str = "auto", precision: str = "auto") -> tuple[Candidate, ...]:
    """Return the ways to run a model here that fit the request, fastest first, never empty.

    Args:
        backend: ``auto``, ``openvino``, ``onnxruntime`` or ``tensorrt``.
        device: ``auto``, ``cpu``, ``cuda`` (the same as ``cuda:0``) or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16`` or ``int8``.

    Raises:
        UsageError: ``unknown-backend``, ``unknown-device`` or ``unknown-precision``.
        BackendError: ``backend-missing``, ``backend-broken``, ``device-missing`` or ``precision-unavailable``: nothing
            here fits the request, and the message says what is here, or what to install.
    """
    _known("backend", backend, (AUTO, *BACKENDS))
    _known("precision", precision, (AUTO, *PRECISIONS))
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError("unknown-device", f"got device {device!r}, wanted auto, cpu or cuda:N")
    device = "cuda:0" if device == "cuda" else device
    offered = _offers(tuple(RUNTIMES) if backend == "auto" else (backend,))
    on_device = tuple(offer for offer in offered if device in ("auto", offer.device))
    if not on_device:
        raise BackendError("device-missing", _no_device(backend, device, offered))
    fitting = tuple(offer for offer in on_device if precision in ("auto", offer.precision))
    if not fitting:
        possible = "; ".join(f"{offer.backend} {offer.device} {offer.precision}" for offer in on_device)
        raise BackendError("precision-unavailable", f"nothing here computes in {precision}; possible: {possible}")
    return tuple(sorted(fitting, key=lambda offer: offer.device == "cpu"))  # stable: a GPU first, else as offered


def each_candidate(backend: str = "auto", device: str = "auto", precision: str = "auto") -> Iterator[Candidate]:
    """Yield the same candidates, importing each runtime only when its turn comes.

    A start that finds what it needs with the first runtime does not pay for the others: ONNX Runtime takes 0.2 s.

    Raises:
        As `candidates`.
    """
    if backend != "auto" or nvidia_gpus():  # only the runtimes know which of them reaches a GPU
        yield from candidates(backend, device, precision)
        return
    any_fits = False
    for name in RUNTIMES:
        try:
            fitting = candidates(name, device, precision)
        except BackendError:
            continue
        any_fits = True
        yield from fitting
    if not any_fits:
        yield from candidates(backend, device, precision)  # raises the error that names what is missing


def runtime_for(target: str) -> Runtime:
    """Return the runtime that a target's engines are built and run with."""
    return RUNTIMES[TARGETS[target]]


def version_of(target: str) -> str:
    """Return the version of the runtime that a target is for, as manifests have it.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    return runtime_for(target).installed_version(target)


def open_backend(
    model: Model,
    candidate: Candidate,
    *,
    engine: EngineFolder | None = None,
    shape_zyx: tuple[int, int, int] | None = None,
    threads: int = 0,
) -> Backend:
    """Load a model, or an engine built of it, into a runtime and check that it runs as requested.

    Args:
        model: its file is checked against the card first.
        candidate: one of `candidates`.
        engine: built for that candidate; its manifest is checked first. None for the model's own graph.
        shape_zyx: of input and output, for a window of the grid; None for all of it.
        threads: on a CPU; 0 leaves the number to the runtime.

    Raises:
        UsageError: ``bad-threads``, ``unknown-backend``.
        BackendError: the runtime is no longer there.
        ModelError: ``bad-onnx``, ``external-data``, ``model-mismatch``, ``model-damaged``, ``model-incomplete`` or
            ``unsupported-op``.
        EngineError: ``compile-failed``, ``device-mismatch``, ``precision-mismatch`` or ``not-in-place``; of an engine
            also ``engine-damaged``, ``other-model``, ``other-version`` or ``other-device``.
    """
    if threads < 0:
        raise UsageError("bad-threads", f"got {threads} threads, wanted 0 (the runtime's own choice) or more")
    _known("backend", candidate.backend, tuple(RUNTIMES))
    runtime = RUNTIMES[candidate.backend]
    if engine is not None:
        check_model(engine, model)
        check_here(engine, runtime.installed_version(engine.manifest.target))
    return runtime.open_model(LoadRequest(model, candidate, engine, shape_zyx or model.card.shape_zyx, threads))


def backend_status() -> tuple[BackendStatus, ...]:
    """Return what each runtime can do on this machine and what is wrong with it; a broken one raises nothing."""
    return tuple(_status(name) for name in BACKENDS)


def _offers(names: tuple[str, ...]) -> list[Candidate]:
    """Return all that the named runtimes offer; one of several may be missing."""
    offered: list[Candidate] = []
    refused: list[BackendError] = []
    for name in names:
        try:
            offered += RUNTIMES[name].offers()
        except BackendError as error:
            refused.append(error)
    if offered:
        return offered
    if len(refused) == 1:
        raise refused[0]
    broken = [error for error in refused if error.code == "backend-broken"]
    if broken:
        raise broken[0]
    raise BackendError(
        "backend-missing", f"no runtime is installed (openvino or onnxruntime): {openvino.package().install}"
    )


def _no_device(backend: str, device: str, offered: list[Candidate]) -> str:
    here = ", ".join(dict.fromkeys(offer.device for offer in offered))
    runtime = "any backend" if backend == "auto" else f"backend {backend}"
    message = f"device {device} is not available to {runtime}; here: {here}"
    if device.startswith("cuda") and backend != "openvino":
        message += "; onnxruntime reaches an NVIDIA GPU with its driver and onnxruntime-gpu instead of onnxruntime: "
        message += "pip uninstall onnxruntime && pip install onnxruntime-gpu"
    return message


def _status(name: str) -> BackendStatus:
    runtime = RUNTIMES[name]
    package = runtime.package()
    installed, version = package.installed(), package.version()
    try:
        offered = runtime.offers()
    except Exception as error:  # a broken package raises anything; doctor reports it
        problem = error.message if isinstance(error, BackendError) else one_line(error)
        # No package installs a GPU.
        mend = None if isinstance(error, BackendError) and error.code == "device-missing" else package.install
        return BackendStatus(name, installed, version, (), (), problem, mend)
    devices = tuple(dict.fromkeys(offer.device for offer in offered))
    precisions = tuple(dict.fromkeys(offer.precision for offer in offered))
    conflict = runtime.conflict()
    mend = f"pip uninstall onnxruntime onnxruntime-gpu && {package.install}" if conflict else None
    return BackendStatus(name, installed, version, devices, precisions, conflict, mend)


def _known(what: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise UsageError(f"unknown-{what}", f"got {what} {got!r}, wanted one of: {', '.join(known)}")
