"""An ONNX graph built into a serialized TensorRT engine. TensorRT-RTX needs no GPU for that, TensorRT does.

Precision is in the graph: a network is strongly typed, so fp16 and Q/DQ graphs come from `lnfast.export`.
"""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from lnfast.backends.protocol import NetworkIO, Progress
from lnfast.backends.trt import cuda
from lnfast.backends.trt.toolkit import PACKAGES, BuiltFor, Toolkit, dtype_name, load
from lnfast.errors import BackendError, EngineError, ModelError, UsageError, one_line

# External data is looked for beside this path, where nothing can be. Without a path the parser reads the current
# folder, and weights that no hash covers could slip in.
_NOWHERE = f"{os.devnull}/model.onnx"
_NETWORK = "lnfast"  # else the engine holds a running number, and no two builds are equal


@dataclass(frozen=True)
class BuildTarget:
    """The package, GPUs and memory that an engine is built for.

    Attributes:
        name: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        capabilities: for tensorrt-rtx, the GPUs by compute capability, ``("8.6", "8.9")``; each adds size. Empty: its
            own portable set (8.0 and later, not 7.5). For tensorrt always empty: it builds for `device` alone.
        device: for tensorrt, the GPU to tune on.
        workspace_bytes: the most memory that the network may use beside its weights, None for all there is.
    """

    name: str
    capabilities: tuple[str, ...] = ()
    device: str = "cuda:0"
    workspace_bytes: int | None = None


@dataclass(frozen=True)
class BuilderFacts:
    """An installed package that builds engines.

    Attributes:
        target: its name as a `BuildTarget`.
        version: in full.
        capabilities: those that can be chosen; empty when it builds for its own GPU alone.
        needs_gpu: whether it needs a GPU to build.
    """

    target: str
    version: str
    capabilities: tuple[str, ...]
    needs_gpu: bool


def builders() -> tuple[BuilderFacts, ...]:
    """Return the packages that can build engines here; a broken package is left out."""
    facts = []
    for target in PACKAGES:
        try:
            toolkit = load(target)
        except BackendError:
            continue
        known = tuple(_capabilities(toolkit))
        facts.append(BuilderFacts(target, toolkit.version, known, target == "tensorrt"))
    return tuple(facts)


def built_for(target: BuildTarget) -> BuiltFor:
    """Return what an engine from `build` will run on.

    Raises:
        UsageError: ``unknown-target``, ``unknown-device``.
        BackendError: as `build`.
    """
    toolkit = _toolkit(target)
    own = target.name == "tensorrt"
    capabilities = (cuda.device_facts(cuda.ordinal(target.device)).capability,) if own else target.capabilities
    return BuiltFor(target.name, toolkit.version, capabilities)


def build(onnx_bytes: bytes, io: NetworkIO, target: BuildTarget, *, progress: Progress | None = None) -> bytes:
    """Build a serialized engine.

    Builds in several threads wait for one another.

    Args:
        onnx_bytes: a graph in the types that it computes in; the same bytes give the same engine from the same
            TensorRT-RTX.
        io: the input and output that the graph must have.
        target: what the engine is built for.
        progress: called with a phase, how many of its steps are done, and how many it has. An exception from it stops
            the build and reaches the caller.

    Raises:
        UsageError: ``unknown-target``, ``unknown-capability``, ``unknown-device``.
        BackendError: ``backend-missing``, ``backend-broken``; for tensorrt also ``device-missing``.
        ModelError: ``bad-onnx``, ``unsupported-op`` (with operator and node) or ``model-mismatch``.
        EngineError: ``compile-failed`` with the package's own reason.
    """
    toolkit = _toolkit(target)
    known = _capabilities(toolkit)
    for wanted in target.capabilities:
        if wanted not in known:
            possible = ", ".join(known) or "none: it makes engines for the GPU that it runs on"
            raise UsageError(
                "unknown-capability",
                f"got compute capability {wanted!r} for {target.name} {toolkit.version}, wanted one of: {possible}",
            )
    device = cuda.current(cuda.ordinal(target.device)) if target.name == "tensorrt" else nullcontext()
    with toolkit.lock, device:
        return _build(toolkit, onnx_bytes, io, target, progress)


def _build(toolkit: Toolkit, onnx_bytes: bytes, io: NetworkIO, target: BuildTarget, progress: Progress | None) -> bytes:
    trt = toolkit.trt
    mark = toolkit.mark()
    monitor = _monitor(trt, progress)
    try:
        builder = trt.Builder(toolkit.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        network.name = _NETWORK
        parser = trt.OnnxParser(network, toolkit.logger)
        if not parser.parse(onnx_bytes, _NOWHERE):
            raise _parse_error(toolkit, parser, mark)
        _check_io(toolkit, network, io)
        engine = builder.build_serialized_network(network, _config(toolkit, builder, target, monitor))
    except (TypeError, RuntimeError) as error:  # how the bindings say that an object could not be created
        message = f"{toolkit.name} {toolkit.version} cannot start to build: {one_line(error)} ({toolkit.reason(mark)})"
        raise EngineError("compile-failed", message) from error
    if monitor.failure is not None:
        raise monitor.failure
    if engine is None:
        what = f"SM {', '.join(target.capabilities)}" if target.capabilities else "its default GPUs"
        what = target.device if target.name == "tensorrt" else what
        message = f"{toolkit.name} {toolkit.version} refuses to build for {what}: {_plain(toolkit.reason(mark))}"
        if target.name == "tensorrt-rtx":
            _clear_refusal(toolkit)
        raise EngineError("compile-failed", message)
    return bytes(engine)


def _clear_refusal(toolkit: Toolkit) -> None:
    """Build one layer and discard it, after a refusal.

    TensorRT-RTX 1.7.1 remembers a refused build for SM 7.5: whatever it builds next holds Turing's kernels too, 55.8 MB
    instead of 5.5 for the shipped model. The build after that is clean, so this one is thrown away.
    """
    trt = toolkit.trt
    builder = trt.Builder(toolkit.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    layer = network.add_activation(network.add_input("x", trt.float32, (1, 8)), trt.ActivationType.RELU)
    network.mark_output(layer.get_output(0))
    builder.build_serialized_network(network, builder.create_builder_config())


def _config(toolkit: Toolkit, builder: Any, target: BuildTarget, monitor: Any) -> Any:
    trt = toolkit.trt
    config = builder.create_builder_config()
    # TF32 keeps ten bits of each factor: that is not the fp32 that a graph says.
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # TensorRT-RTX: else a run cannot be recorded
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if target.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, target.workspace_bytes)
    config.progress_monitor = monitor
    if target.capabilities:
        known = _capabilities(toolkit)
        config.num_compute_capabilities = len(target.capabilities)
        for i, wanted in enumerate(target.capabilities):
            if not config.set_compute_capability(known[wanted], i):
                raise EngineError("compile-failed", f"{toolkit.name} {toolkit.version} does not build for SM {wanted}")
    return config


def _check_io(toolkit: Toolkit, network: Any, io: NetworkIO) -> None:
    """Check the ports as `lnfast.backends.graph.check_ports` does, for a graph that may be float16."""
    wanted = (1, 1, *io.shape_zyx)
    for role, count, get, name in (
        ("input", network.num_inputs, network.get_input, io.input_name),
        ("output", network.num_outputs, network.get_output, io.output_name),
    ):
        tensors = [get(i) for i in range(count)]
        got = [(str(tensor.name), tuple(tensor.shape), dtype_name(tensor.dtype)) for tensor in tensors]
        if got != [(name, wanted, io.dtype)]:
            has = ", ".join(f"{named} {dtype} {shape}" for named, shape, dtype in got) or "missing"
            raise ModelError(
                "model-mismatch",
                f"the {role} of the graph is {has} as {toolkit.name} reads it, wanted {name} {io.dtype} {wanted}; "
                "export the model again",
            )


def _parse_error(toolkit: Toolkit, parser: Any, mark: int) -> ModelError:
    package = f"{toolkit.name} {toolkit.version}"
    if not parser.num_errors:
        return ModelError("bad-onnx", f"{package} cannot read the graph: {_plain(toolkit.reason(mark))}")
    error = parser.get_error(0)
    reason, operator = str(error.desc()), str(error.node_operator())
    if not operator:  # of the file, not of a node
        return ModelError("bad-onnx", f"{package} cannot read the graph: {_plain(reason)}")
    node = str(error.node_name()) or f"number {error.node()}"
    unknown = "Plugin not found" in reason or "is not supported in TensorRT" in reason
    if unknown or str(error.code()).endswith("UNSUPPORTED_NODE"):
        return ModelError(
            "unsupported-op",
            f"{package} has no operator {operator} (node {node}); export the model with another, or take another "
            "target",
        )
    return ModelError("unsupported-op", f"{package} does not take operator {operator} (node {node}): {_plain(reason)}")


def _plain(reason: str) -> str:
    """Return TensorRT's message without places in its source, and without what only says that there is no GPU."""
    lines = [line for line in reason.splitlines() if "catchCudaError" not in line]
    words = " ".join(lines)
    words = re.sub(r"\s*In \w+ at [^\s)]+:\d+", "", words)
    return re.sub(r"\[\w+\.cpp:\d+: \w+\] ", "", words).strip() or reason


def _monitor(trt: Any, progress: Progress | None) -> Any:
    """Return a monitor that reports progress, and stops a build of minutes when that raises, Ctrl-C included."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.failure: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            self._report(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._report(phase, step + 1)
            return self.failure is None

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

        def _report(self, phase: str, done: int) -> None:
            try:
                if progress is not None and self.failure is None:
                    progress(phase, done, self._steps.get(phase, done))
            except BaseException as error:  # may not pass through C++; raised again after it
                self.failure = error

    return Monitor()


def _capabilities(toolkit: Toolkit) -> dict[str, Any]:
    """Return ``{"8.9": ComputeCapability.SM89}``; empty for TensorRT, which has no such choice."""
    kind = getattr(toolkit.trt, "ComputeCapability", None)
    if kind is None or not hasattr(toolkit.trt.IBuilderConfig, "set_compute_capability"):
        return {}
    names = [name for name in kind.__members__ if re.fullmatch(r"SM\d{2,}", name)]
    return {f"{name[2:-1]}.{name[-1]}": kind.__members__[name] for name in names}


def _toolkit(target: BuildTarget) -> Toolkit:
    if target.name not in PACKAGES:
        raise UsageError("unknown-target", f"got target {target.name!r}, wanted one of: {', '.join(PACKAGES)}")
    return load(target.name)
