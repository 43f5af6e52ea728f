"""A target on this machine: what it offers, how a draft is made for it, and whether it can run here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lnfast.backends import Candidate, openvino, ort, trt
from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.engine.manifest import GRAPH, SERIALIZED, blob_name
from lnfast.backends.loading import Loading
from lnfast.backends.machine import cpu_kind
from lnfast.backends.protocol import NetworkIO
from lnfast.backends.registry import TARGETS
from lnfast.backends.trt import builder, toolkit
from lnfast.card import Model
from lnfast.errors import BackendError, UsageError
from lnfast.export.publish import draft, write_draft
from lnfast.export.variants import Recipe
from lnfast.window import Zyx, window_shapes


@dataclass(frozen=True)
class Workshop:
    """Where engines for a target are made.

    Attributes:
        target: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        version: of its package.
        offered: what it can run on this machine, as candidates; empty where there is no device for it.
        device: of the engines: ``"cpu"`` or ``"cuda"``.
        capabilities: of tensorrt-rtx: GPUs to build for.
        threads: on a CPU.
    """

    target: str
    version: str
    offered: tuple[Candidate, ...]
    device: str
    capabilities: tuple[str, ...]
    threads: int

    def candidate(self, precision: str) -> Candidate | None:
        """How an engine of a precision would run here; None where it cannot."""
        return next((offer for offer in self.offered if offer.precision == precision), None)

    def windows(self, grid_zyx: Zyx) -> tuple[Zyx, ...]:
        """The parts of a grid that are worth a program of their own: on a CPU time goes with voxels."""
        return window_shapes(grid_zyx) if self.target == "openvino" else ()

    def make(
        self,
        folder: Path,
        model: Model,
        precision: str,
        recipe: Recipe,
        shapes: tuple[Zyx, ...],
        say: Callable[[str, int, int], None],
    ) -> EngineFolder:
        """A draft: the graph and what the target compiles of it.

        Args:
            folder: emptied first.
            model: whose network it is.
            precision: of the engine.
            recipe: its graph.
            shapes: windows, beside the whole grid.
            say: progress.

        Raises:
            ModelError, EngineError, BackendError: the target refuses the graph.
        """
        graph = model.onnx_bytes if recipe.graph is None else recipe.graph
        files = {} if recipe.graph is None else {GRAPH: recipe.graph}
        made_for: tuple[str, ...] = (cpu_kind(),) if self.device == "cpu" else self.capabilities
        if self.target in toolkit.PACKAGES:
            card = model.card
            io = NetworkIO(card.input_name, card.output_name, card.shape_zyx, recipe.dtype)
            target = builder.BuildTarget(self.target, self.capabilities)
            files = {SERIALIZED: builder.build(graph, io, target, progress=say)}
            made_for = builder.built_for(target).capabilities
        manifest = draft(
            model,
            target=self.target,
            version=self.version,
            device=self.device,
            made_for=made_for,
            precision=precision,
            dtype=recipe.dtype,
            build=recipe.told,
        )
        engine = write_draft(folder, manifest, files, ())
        if self.target != "openvino":
            return engine
        candidate = self.candidate(precision)
        assert candidate is not None
        everything = (model.card.shape_zyx, *shapes)
        for done, shape in enumerate(everything):
            say("compiling", done, len(everything))
            files[blob_name(shape)] = openvino.compile_blob(Loading(model, candidate, engine, shape, self.threads))
        return write_draft(folder, manifest, files, shapes)


def open_workshop(target: str, device: str, capabilities: tuple[str, ...], threads: int) -> Workshop:
    """Look at what is installed for a target.

    Raises:
        UsageError: ``unknown-target``, ``bad-device``.
        BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
    """
    if target not in TARGETS:
        raise UsageError("unknown-target", f"got target {target!r}, wanted one of: {', '.join(TARGETS)}")
    if capabilities and target != "tensorrt-rtx":
        raise UsageError("bad-capability", f"got GPUs to build for, which are for tensorrt-rtx and not for {target}")
    if target in toolkit.PACKAGES:
        version = toolkit.load(target).version
        offered = _offers_of_trt(target, device)
        return Workshop(target, version, offered, "cuda", capabilities, threads)
    runtime = {"openvino": openvino, "onnxruntime": ort}[target]
    offered = tuple(offer for offer in runtime.offers() if device in ("auto", offer.device))
    if not offered:
        raise BackendError("device-missing", f"device {device} is not available to {target} here")
    first = offered[0].device
    offered = tuple(offer for offer in offered if offer.device == first)
    return Workshop(target, runtime.installed_version(), offered, first.partition(":")[0], (), threads)


def _offers_of_trt(target: str, device: str) -> tuple[Candidate, ...]:
    """What runs here; building needs no GPU, so that none is no error."""
    if not re.fullmatch(r"auto|cuda:\d+", device):
        raise UsageError("bad-device", f"got device {device!r} for {target}, wanted auto or cuda:N")
    try:
        offered = trt.offers()
    except BackendError:
        if target == "tensorrt":
            raise
        return ()
    return tuple(offer for offer in offered if device in ("auto", offer.device))
