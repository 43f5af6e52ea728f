"""Serialized engines executed on NVIDIA GPUs; `lnfast.backends.trt.cuda` moves the data."""

from __future__ import annotations

from typing import Any

from lnfast.backends.host import HostBackend
from lnfast.backends.protocol import BackendInfo, Candidate, NetworkIO
from lnfast.backends.trt import cuda
from lnfast.backends.trt.toolkit import BuiltFor, Toolkit, dtype_name, load
from lnfast.errors import EngineError, LnfastError, one_line


def open_engine(blob: bytes, io: NetworkIO, built: BuiltFor, candidate: Candidate) -> HostBackend:
    """Load a serialized engine onto a GPU, run it once and record the run.

    Args:
        blob: from `lnfast.backends.trt.builder.build`.
        io: the engine's input and output; the backend's two buffers are of this type, in pinned memory.
        built: what it was built for, checked before the package sees it.
        candidate: gives the device, and the precision that is reported.

    Raises:
        UsageError: ``unknown-device``.
        BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
        EngineError: ``engine-mismatch`` (built for something else), ``engine-damaged``, ``compile-failed``,
            ``not-in-place`` or ``inference-failed``.
    """
    toolkit = load(built.target)
    number = cuda.ordinal(candidate.device)
    facts = cuda.device_facts(number)
    _check_built(built, toolkit, facts)
    try:
        with toolkit.lock, cuda.current(number):
            context = _context(toolkit, blob, io, facts)
            run = cuda.RecordedRun(number, (1, 1, *io.shape_zyx), io.dtype)
            _record(toolkit, context, io, run)
    except LnfastError:
        raise
    except Exception as error:
        message = f"{toolkit.name} cannot run the engine on {facts.device} ({facts.name}): {one_line(error)}"
        raise EngineError("inference-failed", message) from error
    run.input.fill(0)
    run.output.fill(float("nan"))
    info = BackendInfo("tensorrt", _short(toolkit), candidate.device, candidate.precision)
    return HostBackend(info, run.input, run.output, run.launch)


def _context(toolkit: Toolkit, blob: bytes, io: NetworkIO, facts: cuda.DeviceFacts) -> Any:
    """Return an execution context; it keeps its engine and its runtime alive."""
    mark = toolkit.mark()
    runtime = toolkit.trt.Runtime(toolkit.logger)
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        code, why = _refusal(toolkit, runtime, blob)
        why = why or toolkit.reason(mark)
        raise EngineError(code, f"{toolkit.name} does not load the engine on {_where(facts)}: {why}; {_AGAIN}")
    _check_io(toolkit, engine, io)
    context = engine.create_execution_context()
    if context is None:
        message = f"{toolkit.name} gets no engine ready on {_where(facts)}: {toolkit.reason(mark)}"
        raise EngineError("compile-failed", message)
    return context


def _record(toolkit: Toolkit, context: Any, io: NetworkIO, run: cuda.RecordedRun) -> None:
    """Bind the buffers on the GPU to the network and record its launch."""
    for name, address in zip((io.input_name, io.output_name), run.addresses, strict=True):
        if not context.set_tensor_address(name, address) or context.get_tensor_address(name) != address:
            raise EngineError("not-in-place", f"{toolkit.name} does not take the memory that it is given for {name}")
    capturable = getattr(context, "is_stream_capturable", None)  # TensorRT has none: fixed shapes always are
    if capturable is not None and not capturable(run.stream):
        raise EngineError(
            "compile-failed", f"{toolkit.name} cannot record this engine as a CUDA graph: it allocates; {_AGAIN}"
        )

    def network() -> None:
        mark = toolkit.mark()
        if not context.execute_async_v3(run.stream):
            raise EngineError("inference-failed", f"{toolkit.name} failed to infer: {toolkit.reason(mark)}")

    run.record(network)
    run.keep = context  # the recording points into its memory


def _check_built(built: BuiltFor, toolkit: Toolkit, facts: cuda.DeviceFacts) -> None:
    same = built.version == toolkit.version and (not built.capabilities or facts.capability in built.capabilities)
    if not same:
        gpus = f" and SM {', '.join(built.capabilities)}" if built.capabilities else ""
        raise EngineError(
            "engine-mismatch",
            f"the engine is made for {built.target} {built.version}{gpus}; here: {toolkit.name} {toolkit.version} and "
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
            f"the {toolkit.name} engine has {_ports_text(got)}, wanted {_ports_text(wanted)}; {_AGAIN}",
        )


def _refusal(toolkit: Toolkit, runtime: Any, blob: bytes) -> tuple[str, str | None]:
    """Return the code and the reason for an engine that was not deserialized; only TensorRT-RTX knows the reason."""
    bits = getattr(toolkit.trt, "EngineInvalidityDiagnostics", None)
    if bits is None or not hasattr(runtime, "get_engine_validity"):
        return "engine-damaged", None
    flags = int(runtime.get_engine_validity(blob)[1])
    for name, reason in (
        ("MALFORMED_ENGINE", None),
        ("VERSION_MISMATCH", "another version made it"),
        ("UNSUPPORTED_CC", "it was made for other GPUs"),
        ("OLD_CUDA_DRIVER", "the driver is too old"),
        ("INSUFFICIENT_GPU_MEMORY", "the GPU has too little memory"),
    ):
        bit = getattr(bits, name, None)
        if bit is not None and flags & int(bit):
            return ("engine-mismatch" if reason else "engine-damaged"), reason
    return "engine-damaged", None


def _short(toolkit: Toolkit) -> str:
    number = ".".join(toolkit.version.split(".")[:3])
    return f"rtx {number}" if toolkit.name == "tensorrt-rtx" else number


def _ports_text(tensors: set[tuple[str, str, tuple[int, ...], str]]) -> str:
    return ", ".join(f"{role} {name} {dtype} {shape}" for role, name, shape, dtype in sorted(tensors)) or "no tensors"


def _where(facts: cuda.DeviceFacts) -> str:
    return f"{facts.device} ({facts.name}, SM {facts.capability})"


_AGAIN = "make one for this machine with lnfast export"
