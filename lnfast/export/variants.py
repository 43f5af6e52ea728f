"""The graphs to try for a target and a precision, the fastest first.

fp32            the model's own graph
bf16            OpenVINO: the same graph, computed so; TensorRT: a graph in bf16
fp16            a graph in fp16, with fp16 ends
int8            a graph with Q/DQ nodes: first only the cheap ends of the network stay in FP32, then, if that
                does not pass, more and more of the most sensitive convolutions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.backends.protocol import Progress
from lnfast.backends.registry import TARGETS
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.export.graph import Graph, name_of
from lnfast.export.half import to_half
from lnfast.export.quantize import ASYMMETRIC, SYMMETRIC, Scheme, ends, equalize, quantize, tensors_to_quantize
from lnfast.export.ranges import Range, observe
from lnfast.export.studies import StudySet
from lnfast.network import Network
from lnfast.preprocess import write_slabs

# Parts of the ranges that are tried; which one is best depends on how rare the largest values are.
CLIPS = (1.0, 0.85, 0.7)
# Studies on which they are compared, and logits that decide: beyond, errors change no voxel.
TUNING_STUDIES, NEAR_LOGITS = 3, 4.0
# Of int8: convolutions that stay in FP32 beside the ends, as parts of all there are.
FP32_PARTS = (0.0, 0.15, 0.35)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GraphVariant:
    """One graph to try.

    Attributes:
        facts: how it was changed, for the manifest.
        graph: the ONNX file; None for the model's own.
        dtype: of its input and output.
    """

    facts: dict[str, Any]
    graph: bytes | None
    dtype: str = "float32"


@dataclass(eq=False)
class GraphVariants:
    """The graph variants of a model, and what they need to know of it; each fact is measured once.

    Attributes:
        model: the model whose graph is changed.
        studies: the studies that ranges are measured on.
        reference: FP32, on the whole grid.
        load_graph: loads a graph into the target, to compare logits; None where the target cannot run here.
        progress: told of each step.
    """

    model: Model
    studies: StudySet
    reference: Network
    load_graph: Callable[[bytes], Network] | None
    progress: Progress

    def of(self, target: str, precision: str) -> Iterator[GraphVariant]:
        """Yield the variants to try, one after the other, until one passes.

        Raises:
            ModelError, EngineError, BackendError: from changing the graph or from ONNX Runtime.
        """
        on_tensorrt = TARGETS[target] == "tensorrt"
        if precision == "int8":
            yield from self._int8(SYMMETRIC if on_tensorrt else ASYMMETRIC)
        elif precision == "fp16" or (precision == "bf16" and on_tensorrt):
            dtype = "float16" if precision == "fp16" else "float32"
            yield GraphVariant({"graph": f"all of it in {precision}"}, to_half(self.graph, precision).to_bytes(), dtype)
        else:
            yield GraphVariant({"graph": "the model's own"}, None)

    @cached_property
    def graph(self) -> Graph:
        """The model's own graph."""
        return Graph(self.model)

    @cached_property
    def inputs(self) -> tuple[Floats, ...]:
        """The network's input for each of the studies, or for each of its slabs."""
        card, inputs = self.model.card, []
        for done, (_, volume) in enumerate(self.studies):
            self.progress("preparing calibration studies", done, len(self.studies))
            x = np.empty((1, 1, *card.shape_zyx), np.float32)
            inputs += [x.copy() for _ in write_slabs(volume, card, x[0, 0])]
        return tuple(inputs)

    @cached_property
    def equalized(self) -> tuple[Graph, dict[str, Range]]:
        """The graph that is quantized, and its ranges."""
        tensors = tensors_to_quantize(self.graph)

        def inputs() -> Iterator[Floats]:
            for done, x in enumerate(self.inputs):
                self.progress("measuring ranges", done, len(self.inputs))
                yield x

        ranges = observe(self.graph, tensors, inputs())
        graph = self.graph.copy()
        return graph, equalize(graph, ranges)

    @cached_property
    def reference_logits(self) -> tuple[Floats, ...]:
        """FP32 logits of the first studies."""
        logits = []
        backend = self.reference.at(self.reference.grid_zyx)
        for x in self.inputs[:TUNING_STUDIES]:
            np.copyto(backend.input, x)
            backend.infer()
            logits.append(np.array(backend.output, np.float32))
        return tuple(logits)

    def _int8(self, scheme: Scheme) -> Iterator[GraphVariant]:
        graph, ranges = self.equalized
        outer = ends(graph)
        inner = [name_of(node) for node in graph.weighted if name_of(node) not in outer]
        if not inner:
            why = f"{graph.description} has no convolution but those that are kept high, so int8 would change nothing"
            raise EngineError("compile-failed", why)
        order: list[str] | None = None
        clip = CLIPS[0] if self.load_graph is None else self._best_clip(graph, ranges, scheme, outer)
        for part in FP32_PARTS:
            more = round(part * len(inner))
            if more and self.load_graph is None:
                return
            if more and order is None:
                order = self._by_sensitivity(scheme, clip, outer, inner)
            in_fp32 = [*outer, *(order or [])[:more]]
            activations = "int8" if scheme.symmetric else "uint8"
            facts = {
                "graph": f"int8 weights by channel, {activations} activations by tensor",
                "clip": clip,
                "high": in_fp32,
                "ranges_from": self.studies.source,
            }
            yield GraphVariant(facts, quantize(graph, ranges, scheme, clip=clip, in_fp32=in_fp32).to_bytes())

    def _best_clip(self, graph: Graph, ranges: dict[str, Range], scheme: Scheme, in_fp32: list[str]) -> float:
        errors = {}
        for done, clip in enumerate(CLIPS):
            self.progress("choosing ranges", done, len(CLIPS))
            errors[clip] = self._error(quantize(graph, ranges, scheme, clip=clip, in_fp32=in_fp32))
        return min(errors, key=errors.__getitem__)

    def _by_sensitivity(self, scheme: Scheme, clip: float, outer: list[str], inner: list[str]) -> list[str]:
        """Return the inner convolutions, those whose 8 bits cost most first."""
        graph, ranges = self.equalized
        errors = {}
        for done, name in enumerate(inner):
            self.progress("finding sensitive layers", done, len(inner))
            errors[name] = self._error(quantize(graph, ranges, scheme, clip=clip, in_fp32=[*outer, name]))
        return sorted(inner, key=errors.__getitem__)

    def _error(self, graph: Graph) -> float:
        """Return the root mean square difference from FP32 of the logits that decide."""
        assert self.load_graph is not None
        network = self.load_graph(graph.to_bytes())
        level = self.model.card.level
        total, count = 0.0, 0
        try:
            backend = network.at(network.grid_zyx)
            for x, wanted in zip(self.inputs, self.reference_logits, strict=False):
                np.copyto(backend.input, x)
                backend.infer()
                near = np.abs(wanted - level) < NEAR_LOGITS
                total += float(np.square(backend.output[near] - wanted[near], dtype=np.float64).sum())
                count += int(near.sum())
        finally:
            network.close()
        if not np.isfinite(total):
            raise EngineError("non-finite-logits", "an 8-bit graph answers with NaN or infinity")
        return math.sqrt(total / max(count, 1))
