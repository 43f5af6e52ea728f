"""The ways to make an engine of a model for a target and a precision, the fastest first.

fp32            the model's own graph
bf16            OpenVINO: the same graph, computed so; TensorRT: a graph in bf16
fp16            a graph in fp16, with fp16 ends
int8            a graph with Q/DQ nodes: first only the cheap ends of the network are kept high, then, if that
                does not pass, more and more of the convolutions that matter most
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.backends import Candidate
from lnfast.backends.engine.folder import EngineFolder
from lnfast.card import Model
from lnfast.errors import EngineError
from lnfast.export.graph import Graph, name_of
from lnfast.export.half import to_half
from lnfast.export.quantize import ASYMMETRIC, SYMMETRIC, ends, equalize, quantize, tensors_to_quantize
from lnfast.export.ranges import Range, observe
from lnfast.export.studies import Studies
from lnfast.network import Network
from lnfast.preprocess import write_input

# Parts of the ranges that are tried; which one is best depends on how rare the largest values are.
CLIPS = (1.0, 0.85, 0.7)
# Studies on which they are compared, and logits that decide: beyond, errors change no voxel.
TUNING_STUDIES, NEAR_LOGITS = 3, 4.0
# Rungs of int8: convolutions that are kept high beside the ends, as parts of all there are.
RUNGS = (0.0, 0.15, 0.35)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """One graph to try.

    Attributes:
        told: how it was made, for the manifest.
        graph: the ONNX file; None for the model's own.
        dtype: of its ends.
    """

    told: dict[str, Any]
    graph: bytes | None
    dtype: str = "float32"


@dataclass(eq=False)
class Kitchen:
    """A model and what recipes must know of it; each thing is found out once.

    Attributes:
        model: to make engines of.
        studies: to take ranges on.
        reference: FP32, on the whole grid.
        open_draft: loads a graph for the target, to compare logits; None where the target cannot run here.
        say: progress, ``(what, done, of)``.
    """

    model: Model
    studies: Studies
    reference: Network
    open_draft: Callable[[bytes], Network] | None
    say: Callable[[str, int, int], None]

    def recipes(self, target: str, precision: str) -> Iterator[Recipe]:
        """What to try, one after the other, until one passes.

        Raises:
            ModelError, EngineError, BackendError: what graph work or ONNX Runtime says.
        """
        if precision == "int8":
            yield from self._integer(symmetric=target.startswith("tensorrt"))
        elif precision == "fp16" or (precision == "bf16" and target.startswith("tensorrt")):
            dtype = "float16" if precision == "fp16" else "float32"
            yield Recipe({"graph": f"all of it in {precision}"}, to_half(self.graph, precision).to_bytes(), dtype)
        else:
            yield Recipe({"graph": "the model's own"}, None)

    @cached_property
    def graph(self) -> Graph:
        """The model's."""
        return Graph(self.model)

    @cached_property
    def inputs(self) -> tuple[Floats, ...]:
        """What the network is given of each study that ranges are taken on."""
        card, found = self.model.card, []
        for done, (_, volume) in enumerate(self.studies):
            self.say("preparing calibration studies", done, len(self.studies))
            x = np.empty((1, 1, *card.shape_zyx), np.float32)
            write_input(volume, card, x[0, 0])
            found.append(x)
        return tuple(found)

    @cached_property
    def equalized(self) -> tuple[Graph, dict[str, Range]]:
        """The graph that is quantized, and its ranges."""
        tensors = tensors_to_quantize(self.graph)

        def told() -> Iterator[Floats]:
            for done, x in enumerate(self.inputs):
                self.say("measuring ranges", done, len(self.inputs))
                yield x

        ranges = observe(self.graph, tensors, told())
        graph = self.graph.copy()
        return graph, equalize(graph, ranges)

    @cached_property
    def answers(self) -> tuple[Floats, ...]:
        """FP32 logits of the first studies."""
        found = []
        backend = self.reference.at(self.reference.grid_zyx)
        for x in self.inputs[:TUNING_STUDIES]:
            np.copyto(backend.input, x)
            backend.infer()
            found.append(np.array(backend.output, np.float32))
        return tuple(found)

    def _integer(self, *, symmetric: bool) -> Iterator[Recipe]:
        graph, ranges = self.equalized
        flavour = SYMMETRIC if symmetric else ASYMMETRIC
        kept = ends(graph)
        inner = [name_of(node) for node in graph.weighted if name_of(node) not in kept]
        if not inner:
            why = f"{graph.whose} has no convolution but those that are kept high, so int8 would change nothing"
            raise EngineError("compile-failed", why)
        order: list[str] | None = None
        clip = CLIPS[0] if self.open_draft is None else self._best_clip(graph, ranges, flavour, kept)
        for rung in RUNGS:
            more = round(rung * len(inner))
            if more and self.open_draft is None:
                return
            if more and order is None:
                order = self._by_harm(graph, ranges, flavour, kept, inner, clip)
            high = [*kept, *(order or [])[:more]]
            told = {
                "graph": "int8 weights by channel, " + ("int8" if symmetric else "uint8") + " activations by tensor",
                "clip": clip,
                "high": high,
                "ranges_from": self.studies.source,
            }
            yield Recipe(told, quantize(graph, ranges, flavour, clip=clip, high=high).to_bytes())

    def _best_clip(self, graph: Graph, ranges: dict[str, Range], flavour: Any, high: list[str]) -> float:
        errors = {}
        for done, clip in enumerate(CLIPS):
            self.say("choosing ranges", done, len(CLIPS))
            errors[clip] = self._error(quantize(graph, ranges, flavour, clip=clip, high=high))
        return min(errors, key=errors.__getitem__)

    def _by_harm(
        self, graph: Graph, ranges: dict[str, Range], flavour: Any, kept: list[str], inner: list[str], clip: float
    ) -> list[str]:
        """The convolutions whose 8 bits cost most, first."""
        errors = {}
        for done, name in enumerate(inner):
            self.say("finding sensitive layers", done, len(inner))
            errors[name] = self._error(quantize(graph, ranges, flavour, clip=clip, high=[*kept, name]))
        return sorted(inner, key=errors.__getitem__)

    def _error(self, graph: Graph) -> float:
        """Root mean square difference of the logits that decide, from FP32."""
        assert self.open_draft is not None
        network = self.open_draft(graph.to_bytes())
        level = self.model.card.level
        total, count = 0.0, 0
        try:
            backend = network.at(network.grid_zyx)
            for x, wanted in zip(self.inputs, self.answers, strict=False):
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


def draft_opener(
    model: Model, candidate: Candidate, folder: Path, make: Callable[[Path, Recipe], EngineFolder], threads: int
) -> Callable[[bytes], Network]:
    """A function that loads an int8 graph for a target, in a folder of nobody's."""

    def opened(graph: bytes) -> Network:
        engine = make(folder, Recipe({}, graph))
        return Network(model, candidate, engine=engine, threads=threads)

    return opened
