"""TensorRT and TensorRT-RTX: serialized engines executed on NVIDIA GPUs. The only module that imports either.

`lnfast.backends.trt_build` makes the engines, also where there is no GPU; `lnfast.backends.cuda` moves the data.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Any

from lnfast.backends import cuda
from lnfast.backends.engine_folder import SERIALIZED
from lnfast.backends.host import HostBackend
from lnfast.backends.loading import Loading
from lnfast.backends.machine import nvidia_gpus
from lnfast.backends.package import Package, one_line
from lnfast.backends.protocol import BackendInfo, Candidate, NetworkIO
from lnfast.errors import BackendError, EngineError, LnfastError

PACKAGES = {  # in the order of `offers`: the first tunes an engine on the very GPU
    "tensorrt": Package(
        "tensorrt", "tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "pip install 'lnfast[tensorrt]'"
    ),
    "tensorrt-rtx": Package(
        "tensorrt", "tensorrt_rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"), "pip install 'lnfast[rtx]'"
    ),
}
_PRECISIONS = {
    "fp16": "half the bytes, and tensor cores: the safe default there",
    "fp32": "twice the bytes, and no tensor cores",
    "int8": "by name only: not known to be faster than fp16 there",
}
_TURING = (7, 5)  # TensorRT-RTX refuses fp32 and Q/DQ 3D convolutions for it
_NOISE = ("Thread context has not been set", "catchCudaError")  # beside the error that matters, or without any


@dataclass(frozen=True)
class BuiltFor:
    """What an engine runs on; to be kept beside it.

    Attributes:
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        version: of that package, in full; it must be the same where the engine runs.
        capabilities: the GPUs by compute capability, ``("8.6", "8.9")``. Empty: TensorRT-RTX's own portable set.
    """

    target: str
    version: str
    capabilities: tuple[str, ...]


class Toolkit:
    """One of the two packages, imported.

    Attributes:
        name: its key in `PACKAGES`.
        trt: the module.
        version: in full, ``"1.7.1.116"``.
        logger: an ``ILogger``. TensorRT keeps the first one of a process for ever, so there is one.
        lock: for whatever compiles. TensorRT-RTX 1.7.1 holds the GPUs of a build in a global: of two builds at once,
            for SM 8.6 and 8.9, one ended with "Target SM 86 is not found in the accelerator list".
    """

    def __init__(self, name: str, trt: Any) -> None:
        self.name = name
        self.trt = trt
        self.version = str(trt.__version__)
        self.lock = Lock()
        self._heard: deque[tuple[int, str]] = deque(maxlen=500)
        self._numbers = itertools.count(1)
        self.logger = _logger(trt, self._hear)

    def mark(self) -> int:
        """A point in time for `reason`."""
        return next(self._numbers)

    def reason(self, mark: int) -> str:
        """The first error that the package has told since; later ones are its consequences."""
        told = [message for number, message in tuple(self._heard) if number > mark]
        plain = [message for message in told if not any(noise in message for noise in _NOISE)]
        return next(iter(plain or told), "it gives no reason")

    def _hear(self, message: str) -> None:
        self._heard.append((next(self._numbers), message))


_toolkits: dict[str, Toolkit] = {}


def load(target: str) -> Toolkit:
    """Import the package of a target.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    module = PACKAGES[target].load()
    return _toolkits.get(target) or _toolkits.setdefault(target, Toolkit(target, module))


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
    toolkit = _first()
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


def package() -> Package:
    """Return the package that is installed, or the one to install."""
    return next((entry for entry in PACKAGES.values() if entry.installed()), PACKAGES["tensorrt-rtx"])


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


def open_engine(blob: bytes, io: NetworkIO, built: BuiltFor, candidate: Candidate) -> HostBackend:
    """Load a serialized engine onto a GPU, run it once and record the run.

    Args:
        blob: what `lnfast.backends.trt_build.build` made.
        io: what the engine must take and give; the backend's two buffers are of this type, in pinned memory.
        built: what it was made for, checked before the package sees it.
        candidate: its device is used, its precision is what the engine is said to compute in.

    Raises:
        UsageError: ``unknown-device``.
        BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
        EngineError: ``engine-mismatch`` (made for something else), ``engine-damaged``, ``compile-failed``,
            ``not-in-place`` or ``inference-failed``.
    """
    toolkit = load(built.target)
    number = cuda.ordinal(candidate.device)
    facts = cuda.device_facts(number)
    _check_built(built, toolkit, facts)
    try:
        with toolkit.lock, cuda.current(number):
            context = _context(toolkit, blob, io, facts)
            lane = cuda.Lane(number, (1, 1, *io.shape_zyx), io.dtype)
            _lead(toolkit, context, io, lane)
    except LnfastError:
        raise
    except Exception as error:
        told = f"{toolkit.name} cannot run the engine on {facts.device} ({facts.name}): {one_line(error)}"
        raise EngineError("inference-failed", told) from error
    lane.input.fill(0)
    lane.output.fill(float("nan"))
    info = BackendInfo("tensorrt", _short(toolkit), candidate.device, candidate.precision)
    return HostBackend(info, lane.input, lane.output, lane.run)


def _context(toolkit: Toolkit, blob: bytes, io: NetworkIO, facts: cuda.DeviceFacts) -> Any:
    """An execution context; it keeps its engine and its runtime."""
    mark = toolkit.mark()
    runtime = toolkit.trt.Runtime(toolkit.logger)
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        code, told = _refused(toolkit, runtime, blob)
        why = told or toolkit.reason(mark)
        raise EngineError(code, f"{toolkit.name} does not load the engine on {_where(facts)}: {why}; {_AGAIN}")
    _check_io(toolkit, engine, io)
    context = engine.create_execution_context()
    if context is None:
        told = f"{toolkit.name} gets no engine ready on {_where(facts)}: {toolkit.reason(mark)}"
        raise EngineError("compile-failed", told)
    return context


def _lead(toolkit: Toolkit, context: Any, io: NetworkIO, lane: cuda.Lane) -> None:
    """Lead the lane's buffers through the network."""
    for name, address in zip((io.input_name, io.output_name), lane.addresses, strict=True):
        if not context.set_tensor_address(name, address) or context.get_tensor_address(name) != address:
            raise EngineError("not-in-place", f"{toolkit.name} does not take the memory that it is given for {name}")
    capturable = getattr(context, "is_stream_capturable", None)  # TensorRT has none: fixed shapes always are
    if capturable is not None and not capturable(lane.stream):
        raise EngineError(
            "compile-failed", f"{toolkit.name} cannot record this engine as a CUDA graph: it allocates; {_AGAIN}"
        )

    def network() -> None:
        mark = toolkit.mark()
        if not context.execute_async_v3(lane.stream):
            raise EngineError("inference-failed", f"{toolkit.name} failed to infer: {toolkit.reason(mark)}")

    lane.record(network)
    lane.keep = context  # the recording points into its memory


def _check_built(built: BuiltFor, toolkit: Toolkit, facts: cuda.DeviceFacts) -> None:
    same = built.version == toolkit.version and (not built.capabilities or facts.capability in built.capabilities)
    if not same:
        made = f" and SM {', '.join(built.capabilities)}" if built.capabilities else ""
        raise EngineError(
            "engine-mismatch",
            f"the engine is made for {built.target} {built.version}{made}; here: {toolkit.name} {toolkit.version} and "
            f"{_where(facts)}; {_AGAIN}",
        )


def _check_io(toolkit: Toolkit, engine: Any, io: NetworkIO) -> None:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    got = {
        (
            str(engine.get_tensor_mode(name).name).lower(),
            str(name),
            tuple(engine.get_tensor_shape(name)),
            dtype_name(engine.get_tensor_dtype(name)),
        )
        for name in names
    }
    shape = (1, 1, *io.shape_zyx)
    wanted: set[tuple[str, str, tuple[int, ...], str]]
    wanted = {("input", io.input_name, shape, io.dtype), ("output", io.output_name, shape, io.dtype)}
    if got != wanted:
        raise EngineError(
            "engine-mismatch",
            f"the {toolkit.name} engine has {_told(got)}, wanted {_told(wanted)}; {_AGAIN}",
        )


def _refused(toolkit: Toolkit, runtime: Any, blob: bytes) -> tuple[str, str | None]:
    """Code and words for an engine that was not deserialized; only TensorRT-RTX can say what is wrong."""
    bits = getattr(toolkit.trt, "EngineInvalidityDiagnostics", None)
    if bits is None or not hasattr(runtime, "get_engine_validity"):
        return "engine-damaged", None
    found = int(runtime.get_engine_validity(blob)[1])
    for name, told in (
        ("MALFORMED_ENGINE", None),
        ("VERSION_MISMATCH", "another version made it"),
        ("UNSUPPORTED_CC", "it was made for other GPUs"),
        ("OLD_CUDA_DRIVER", "the driver is too old"),
        ("INSUFFICIENT_GPU_MEMORY", "the GPU has too little memory"),
    ):
        bit = getattr(bits, name, None)
        if bit is not None and found & int(bit):
            return ("engine-mismatch" if told else "engine-damaged"), told
    return "engine-damaged", None


def _first() -> Toolkit:
    """The first package that can be imported."""
    refused = []
    for target in PACKAGES:
        try:
            return load(target)
        except BackendError as error:
            refused.append(error)
    raise next((error for error in refused if error.code != "backend-missing"), refused[-1])


def _logger(trt: Any, hear: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors; a library prints nothing into its host program."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                hear(message)

    return Logger()


def dtype_name(kind: Any) -> str:
    """numpy's name of a ``DataType`` that a backend's buffers can have, else TensorRT's own."""
    return {"FLOAT": "float32", "HALF": "float16"}.get(kind.name, str(kind.name))


def _short(toolkit: Toolkit) -> str:
    number = ".".join(toolkit.version.split(".")[:3])
    return f"rtx {number}" if toolkit.name == "tensorrt-rtx" else number


def _told(tensors: set[tuple[str, str, tuple[int, ...], str]]) -> str:
    return ", ".join(f"{role} {name} {dtype} {shape}" for role, name, shape, dtype in sorted(tensors)) or "no tensors"


def _where(facts: cuda.DeviceFacts) -> str:
    return f"{facts.device} ({facts.name}, SM {facts.capability})"


_AGAIN = "make one for this machine with lnfast export"
