"""A backend: two buffers and two methods, the same for every runtime.

    preprocess  --writes-->  input (1, 1, z, y, x)  --infer()-->  output (1, 1, z, y, x)  --reads-->  postprocess

The buffers are allocated once and the runtime works in them directly, so no volume is copied or allocated per study,
unless it has so many thin slices that the answers of several slabs are joined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

# ``(step, done, total)``: so many of a step's parts are done.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class NetworkIO:
    """The one input and the one output of a network.

    Attributes:
        input_name, output_name: in the ONNX graph and in the engine.
        shape_zyx: both are ``(1, 1, *shape_zyx)``.
        dtype: of both, ``"float32"`` or ``"float16"``.
    """

    input_name: str
    output_name: str
    shape_zyx: tuple[int, int, int]
    dtype: str = "float32"


@dataclass(frozen=True)
class BackendInfo:
    """The runtime, device and precision in use, read back from the runtime.

    Attributes:
        name: ``"openvino"``, ``"onnxruntime"`` or ``"tensorrt"``.
        version: of the runtime.
        device: ``"cpu"`` or ``"cuda:0"``.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``: of the arithmetic, not of the buffers.
    """

    name: str
    version: str
    device: str
    precision: str


class Backend(Protocol):
    """One loaded network. It serves one thread at a time; `infer` releases the GIL.

    Attributes:
        info: the runtime, device and precision in use.
        input: ``(1, 1, z, y, x)`` float32 or float16, C-contiguous, 64-byte aligned, pinned where a GPU reads it; write
            the next study here.
        output: the same of logits; NaN until the first `infer`, overwritten by each one. Its address never changes.
    """

    info: BackendInfo
    input: NDArray[Any]
    output: NDArray[Any]

    def infer(self) -> None:
        """Compute `output` from `input`.

        Raises:
            EngineError: ``inference-failed`` with the runtime's own exception as ``__cause__``, ``backend-closed``
                after `close`, ``forked`` in a child process of the one that opened the backend.
        """

    def close(self) -> None:
        """Release the runtime. A second call does nothing; the two arrays stay valid."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a model on this machine.

    Attributes:
        backend, device, precision: as in `BackendInfo`.
        reason: one line that explains its place in the order.
        needs_engine: whether it takes an engine from `lnfast.export`; else the model's own graph is enough.
    """

    backend: str
    device: str
    precision: str
    reason: str
    needs_engine: bool = False


@dataclass(frozen=True)
class BackendStatus:
    """The state of one runtime, as ``doctor`` shows it.

    Attributes:
        name: of the backend.
        installed: whether its package is installed; it may still be broken, see `problem`.
        version: of the package, None when unknown.
        devices, precisions: what it offers on this machine.
        problem: what is wrong, None when nothing is.
        mend: the command line that repairs it, None when there is none.
    """

    name: str
    installed: bool
    version: str | None
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    problem: str | None
    mend: str | None
