"""What a backend is: two buffers and two methods, the same for every runtime.

    preprocess  --writes-->  input (1, 1, z, y, x)  --infer()-->  output (1, 1, z, y, x)  --reads-->  postprocess

The buffers are allocated once and the runtime works in them directly, so no volume is copied or allocated per study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


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
    """What really runs, read back from the runtime.

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
        info: what really runs.
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
        """Let go of the runtime. A second call does nothing; the two arrays stay valid."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a model on this machine.

    Attributes:
        backend, device, precision: as in `BackendInfo`.
        reason: one line that says why it stands here in the order.
        needs_engine: only what `lnfast.export` made can be run so; else the model's own graph can.
    """

    backend: str
    device: str
    precision: str
    reason: str
    needs_engine: bool = False


@dataclass(frozen=True)
class BackendStatus:
    """What ``doctor`` shows of one runtime.

    Attributes:
        name: of the backend.
        installed: whether its package is there; it may still be broken, see `problem`.
        version: of the package, None when unknown.
        devices, precisions: what it offers on this machine.
        problem: what is wrong, None when nothing is.
        mend: the line to type against it, None when there is none.
    """

    name: str
    installed: bool
    version: str | None
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    problem: str | None
    mend: str | None
