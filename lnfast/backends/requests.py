"""Requests to a runtime: to load a model's network, or to build an engine of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.engine.manifest import GRAPH, blob_name
from lnfast.backends.graph import check_file
from lnfast.backends.protocol import Candidate, NetworkIO
from lnfast.card import Model
from lnfast.window import Zyx


@dataclass(frozen=True)
class LoadRequest:
    """One network at one shape.

    Attributes:
        model: the model whose network it is.
        candidate: the requested runtime, device and precision.
        engine: the engine built for them; None for the model's own graph.
        shape_zyx: of input and output: the card's, or that of a window.
        threads: on a CPU; 0 leaves the number to the runtime.
    """

    model: Model
    candidate: Candidate
    engine: EngineFolder | None
    shape_zyx: Zyx
    threads: int

    @property
    def io(self) -> NetworkIO:
        """The network's input and output."""
        card = self.model.card
        dtype = "float32" if self.engine is None else self.engine.manifest.dtype
        return NetworkIO(card.input_name, card.output_name, self.shape_zyx, dtype)

    @property
    def description(self) -> str:
        """The network's name in error messages."""
        name = f"model {self.model.card.name}"
        return name if self.engine is None else f"engine {self.engine.folder} of {name}"

    def onnx_bytes(self) -> bytes:
        """Return the ONNX file, checked.

        Raises:
            ModelError: ``bad-onnx``, ``external-data``, ``model-damaged`` or ``model-incomplete``.
            EngineError: ``engine-damaged``.
        """
        own = self.engine is not None and self.engine.has(GRAPH)
        content = self.engine.content(GRAPH) if self.engine is not None and own else self.model.onnx_bytes
        check_file(content, f"{GRAPH if own else 'model.onnx'} of {self.description}")
        return content

    def compiled_bytes(self) -> bytes | None:
        """Return what OpenVINO compiled for this shape; None where the engine has none.

        Raises:
            EngineError: ``engine-damaged``.
        """
        name = blob_name(self.shape_zyx)
        return self.engine.content(name) if self.engine is not None and self.engine.has(name) else None


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build.

    Attributes:
        model: the model of which it is built.
        draft: an engine folder with the graph in its precision, or without one for the model's own graph.
        candidate: how the engine would run here; None where it cannot.
        windows: shapes to compile beside that of the whole grid.
        capabilities: for TensorRT-RTX, the GPUs by compute capability; empty for its portable set.
        threads: on a CPU; 0 leaves the number to the runtime.
    """

    model: Model
    draft: EngineFolder
    candidate: Candidate | None
    windows: tuple[Zyx, ...]
    capabilities: tuple[str, ...]
    threads: int

    @property
    def io(self) -> NetworkIO:
        """The network's input and output on the whole grid."""
        card = self.model.card
        return NetworkIO(card.input_name, card.output_name, card.shape_zyx, self.draft.manifest.dtype)

    def onnx_bytes(self) -> bytes:
        """Return the graph in its precision."""
        return self.draft.content(GRAPH) if self.draft.has(GRAPH) else self.model.onnx_bytes

    def graph_files(self) -> dict[str, bytes]:
        """Return the draft's graph by file name; empty where the model's own is used."""
        return {GRAPH: self.draft.content(GRAPH)} if self.draft.has(GRAPH) else {}


@dataclass(frozen=True)
class Build:
    """The files that a runtime built.

    Attributes:
        files: contents by file name.
        made_for: as in `lnfast.backends.engine.manifest.Manifest`.
        windows: shapes that were compiled beside that of the whole grid.
    """

    files: Mapping[str, bytes]
    made_for: tuple[str, ...]
    windows: tuple[Zyx, ...] = ()
