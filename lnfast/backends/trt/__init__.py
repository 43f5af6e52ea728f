"""TensorRT and TensorRT-RTX on NVIDIA GPUs, as a `lnfast.backends.runtime.Runtime`.

toolkit.py      the two packages
builder.py      an ONNX graph to a serialized engine, also where there is no GPU
execution.py    a serialized engine on a GPU
cuda.py         GPUs, and a run recorded on one
"""

from __future__ import annotations

import re

from lnfast.backends.engine.manifest import SERIALIZED
from lnfast.backends.host import HostBackend
from lnfast.backends.machine import nvidia_gpus
from lnfast.backends.protocol import Candidate, Progress
from lnfast.backends.requests import Build, BuildRequest, LoadRequest
from lnfast.backends.trt import builder, cuda
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import PACKAGES, BuiltFor, first_toolkit, load, package
from lnfast.errors import BackendError, EngineError, UsageError

__all__ = [
    "build",
    "build_offers",
    "builds_for_other_machines",
    "compiles_windows",
    "conflict",
    "installed_version",
    "offers",
    "open_model",
    "package",
]

_PRECISIONS = {
    "fp16": "half the bytes, and tensor cores: the safe default there",
    "fp32": "twice the bytes, and no tensor cores",
    "int8": "by name only: not known to be faster than fp16 there",
}
_TURING = (7, 5)  # TensorRT-RTX refuses fp32 and Q/DQ 3D convolutions for it


def offers() -> tuple[Candidate, ...]:
    """Return what TensorRT can do here, fastest first; each needs an engine.

    Raises:
        BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
    """
    installed = package()
    if not installed.installed():
        raise BackendError(
            "backend-missing",
            f"backend tensorrt needs TensorRT or TensorRT-RTX, and neither is installed: {installed.install}",
        )
    if not nvidia_gpus():  # checked before anything heavy is imported
        raise BackendError(
            "device-missing",
            "backend tensorrt needs an NVIDIA GPU with its driver, and this machine shows none; take --device cpu",
        )
    toolkit = first_toolkit()
    offered = []
    for facts in map(cuda.device_facts, range(cuda.count())):
        number = tuple(map(int, facts.capability.split(".")))
        fit = ("fp16",) if toolkit.name == "tensorrt-rtx" and number <= _TURING else tuple(_PRECISIONS)
        offered += [
            Candidate(
                "tensorrt",
                facts.device,
                precision,
                f"{toolkit.name} on {facts.name}: {_PRECISIONS[precision]}",
                needs_engine=True,
            )
            for precision in fit
        ]
    return tuple(offered)


def conflict() -> None:
    """Return None: each distribution provides a module of its own."""


def installed_version(target: str) -> str:
    """Return the version of a target's package, for manifests.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    return load(target).version


def open_model(request: LoadRequest) -> HostBackend:
    """Load a checked engine; see `lnfast.backends.open_backend`."""
    engine = request.engine
    if engine is None:
        raise EngineError(
            "engine-missing",
            f"tensorrt runs engines, and there is none of {request.description}; make one: lnfast export "
            f"{request.model.card.name} -o DIR --target {next(iter(PACKAGES))}",
        )
    manifest = engine.manifest
    built = BuiltFor(manifest.target, manifest.version, manifest.made_for)
    return open_engine(engine.content(SERIALIZED), request.io, built, request.candidate)


def builds_for_other_machines() -> bool:
    """Return True: TensorRT-RTX needs no GPU to build, and the GPUs to build for can be chosen."""
    return True


def compiles_windows() -> bool:
    """Return False: an engine has one shape."""
    return False


def build_offers(target: str, device: str) -> tuple[Candidate, ...]:
    """Return how engines would run on the requested device; see `lnfast.backends.runtime.Runtime.build_offers`.

    TensorRT-RTX builds where nothing can run, so that none is no error.
    """
    if not re.fullmatch(r"auto|cuda:\d+", device):
        raise UsageError("bad-device", f"got device {device!r} for {target}, wanted auto or cuda:N")
    try:
        offered = offers()
    except BackendError:
        if target == "tensorrt":
            raise
        return ()
    return tuple(offer for offer in offered if device in ("auto", offer.device))


def build(request: BuildRequest, progress: Progress) -> Build:
    """Serialize an engine for the target of the draft; see `lnfast.backends.runtime.Runtime.build`."""
    target = builder.BuildTarget(request.draft.manifest.target, request.capabilities)
    serialized = builder.build(request.onnx_bytes(), request.io, target, progress=progress)
    return Build({SERIALIZED: serialized}, builder.built_for(target).capabilities)
