"""Which runtime, device and precision: what was asked for by name, else the fastest that this machine has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lnfast.backends import openvino, ort, trt
from lnfast.backends.engine.folder import EngineFolder, check_here, check_model
from lnfast.backends.loading import Loading
from lnfast.backends.machine import nvidia_gpus
from lnfast.backends.protocol import Backend, BackendStatus, Candidate
from lnfast.backends.registry import AUTO, BACKENDS, PRECISIONS, TARGETS
from lnfast.backends.runtime import Runtime
from lnfast.card import Model
from lnfast.errors import BackendError, UsageError, one_line

RUNTIMES: dict[str, Runtime] = {"tensorrt": trt, "openvino": openvino, "onnxruntime": ort}  # in the order of `auto`


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
    _known("backend", backend, (AUTO, *BACKENDS))
    _known("precision", precision, (AUTO, *PRECISIONS))
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError("unknown-device", f"got device {device!r}, wanted auto, cpu or cuda:N")
    device = "cuda:0" if device == "cuda" else device
    offered = _offers(tuple(RUNTIMES) if backend == "auto" else (backend,))
    there = tuple(offer for offer in offered if device in ("auto", offer.device))
    if not there:
        raise BackendError("device-missing", _no_device(backend, device, offered))
    fitting = tuple(offer for offer in there if precision in ("auto", offer.precision))
    if not fitting:
        possible = "; ".join(f"{offer.backend} {offer.device} {offer.precision}" for offer in there)
        raise BackendError("precision-unavailable", f"nothing here computes in {precision}; possible: {possible}")
    return tuple(sorted(fitting, key=lambda offer: offer.device == "cpu"))  # stable: a GPU first, else as offered


def each_candidate(backend: str = "auto", device: str = "auto", precision: str = "auto") -> Iterator[Candidate]:
    """The same one after the other, without importing a runtime before it is its turn.

    A start that finds what it needs with the first runtime does not pay for the others: ONNX Runtime takes 0.2 s.

    Raises:
        As `candidates`.
    """
    if backend != "auto" or nvidia_gpus():  # which of several runtimes reaches a GPU only they can say
        yield from candidates(backend, device, precision)
        return
    found = False
    for name in RUNTIMES:
        try:
            fitting = candidates(name, device, precision)
        except BackendError:
            continue
        found = True
        yield from fitting
    if not found:
        yield from candidates(backend, device, precision)  # says what is missing


def runtime_for(target: str) -> Runtime:
    """Return the runtime that a target's engines are built and run with."""
    return RUNTIMES[TARGETS[target]]


def version_of(target: str) -> str:
    """Of the runtime that a target is for, as manifests have it.

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
    """Load a model, or an engine that was made of it, into a runtime and prove that it runs what was asked for.

    Args:
        model: its file is checked against the card first.
        candidate: one of `candidates`.
        engine: made for that candidate; what it says of itself is checked first. None for the model's own graph.
        shape_zyx: of input and output, for a window of the grid; None for all of it.
        threads: on a CPU; 0 leaves the number to the runtime.

    Raises:
        UsageError: ``bad-threads``, ``unknown-backend``.
        BackendError: the runtime has gone since.
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
    return runtime.open_model(Loading(model, candidate, engine, shape_zyx or model.card.shape_zyx, threads))


def backend_status() -> tuple[BackendStatus, ...]:
    """What each runtime can do on this machine and what is wrong with it; a broken one is told of, not raised."""
    return tuple(_status(name) for name in BACKENDS)


def _offers(names: tuple[str, ...]) -> list[Candidate]:
    """All that the named runtimes offer; one of several may be missing."""
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
    whom = "any backend" if backend == "auto" else f"backend {backend}"
    told = f"device {device} is not available to {whom}; here: {here}"
    if device.startswith("cuda") and backend != "openvino":
        told += "; onnxruntime reaches an NVIDIA GPU with its driver and onnxruntime-gpu instead of onnxruntime: "
        told += "pip uninstall onnxruntime && pip install onnxruntime-gpu"
    return told


def _status(name: str) -> BackendStatus:
    runtime = RUNTIMES[name]
    package = runtime.package()
    installed, version = package.installed(), package.version()
    try:
        offered = runtime.offers()
    except Exception as error:  # whatever a broken package does, doctor tells it
        problem = error.message if isinstance(error, BackendError) else one_line(error)
        # No package brings a GPU.
        mend = None if isinstance(error, BackendError) and error.code == "device-missing" else package.install
        return BackendStatus(name, installed, version, (), (), problem, mend)
    devices = tuple(dict.fromkeys(offer.device for offer in offered))
    precisions = tuple(dict.fromkeys(offer.precision for offer in offered))
    rivals = runtime.conflict()
    mend = f"pip uninstall onnxruntime onnxruntime-gpu && {package.install}" if rivals else None
    return BackendStatus(name, installed, version, devices, precisions, rivals, mend)


def _known(what: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise UsageError(f"unknown-{what}", f"got {what} {got!r}, wanted one of: {', '.join(known)}")
