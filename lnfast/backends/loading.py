"""What a runtime is asked to load: a model's network, as the model has it or as `lnfast.export` made it."""

from __future__ import annotations

from dataclasses import dataclass

from lnfast.backends.engine.folder import EngineFolder
from lnfast.backends.engine.manifest import GRAPH, blob_name
from lnfast.backends.graph import check_file
from lnfast.backends.protocol import Candidate, NetworkIO
from lnfast.card import Model
from lnfast.window import Zyx


@dataclass(frozen=True)
class Loading:
    """One network at one shape.

    Attributes:
        model: whose network it is.
        candidate: the runtime, device and precision that are asked for.
        engine: made for them; None for the model's own graph.
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
        """What the network takes and gives."""
        card = self.model.card
        dtype = "float32" if self.engine is None else self.engine.manifest.dtype
        return NetworkIO(card.input_name, card.output_name, self.shape_zyx, dtype)

    @property
    def whose(self) -> str:
        """For messages."""
        name = f"model {self.model.card.name}"
        return name if self.engine is None else f"engine {self.engine.folder} of {name}"

    def graph(self) -> bytes:
        """The ONNX file, checked.

        Raises:
            ModelError: ``bad-onnx``, ``external-data``, ``model-damaged`` or ``model-incomplete``.
            EngineError: ``engine-damaged``.
        """
        own = self.engine is not None and self.engine.has(GRAPH)
        content = self.engine.content(GRAPH) if self.engine is not None and own else self.model.onnx_bytes
        check_file(content, f"{GRAPH if own else 'model.onnx'} of {self.whose}")
        return content

    def compiled(self) -> bytes | None:
        """What OpenVINO compiled for this shape, None where nothing was kept.

        Raises:
            EngineError: ``engine-damaged``.
        """
        name = blob_name(self.shape_zyx)
        return self.engine.content(name) if self.engine is not None and self.engine.has(name) else None
