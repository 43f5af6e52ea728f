"""TensorRT and TensorRT-RTX on NVIDIA GPUs, as a `lnfast.backends.runtime.Runtime`.

toolkit.py      the two packages
builder.py      an ONNX graph to a serialized engine, also where there is no GPU
execution.py    a serialized engine on a GPU
cuda.py         GPUs, and the way of a study over one
"""

from __future__ import annotations

from lnfast.backends.engine.manifest import SERIALIZED
from lnfast.backends.host import HostBackend
from lnfast.backends.loading import Loading
from lnfast.backends.machine import nvidia_gpus
from lnfast.backends.protocol import Candidate
from lnfast.backends.trt import cuda
from lnfast.backends.trt.execution import open_engine
from lnfast.backends.trt.toolkit import PACKAGES, BuiltFor, first_toolkit, load, package
from lnfast.errors import BackendError, EngineError

__all__ = ["conflict", "installed_version", "offers", "open_model", "package"]

_PRECISIONS = {
    "fp16": "half the bytes, and tensor cores: the safe default there",
    "fp32": "twice the bytes, and no tensor cores",
    "int8": "by name only: not known to be faster than fp16 there",
}
_TURING = (7, 5)  # TensorRT-RTX refuses fp32 and Q/DQ 3D convolutions for it


def offers() -> tuple[Candidate, ...]:
    """What TensorRT can do here, fastest first; each needs an engine.

    Raises:
        BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
    """
    installed = package()
    if not installed.installed():
        raise BackendError(
            "backend-missing",
            f"backend tensorrt needs TensorRT or TensorRT-RTX, and neither is installed: {installed.install}",
        )
    if not nvidia_gpus():  # asked before anything heavy is imported
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
    """Of a target's package, for manifests.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    return load(target).version


def open_model(loading: Loading) -> HostBackend:
    """Load a checked engine; see `lnfast.backends.open_backend`."""
    engine = loading.engine
    if engine is None:
        raise EngineError(
            "engine-missing",
            f"tensorrt runs engines, and there is none of {loading.whose}; make one: lnfast export "
            f"{loading.model.card.name} -o DIR --target {next(iter(PACKAGES))}",
        )
    told = engine.manifest
    built = BuiltFor(told.target, told.version, told.made_for)
    return open_engine(engine.content(SERIALIZED), loading.io, built, loading.candidate)
