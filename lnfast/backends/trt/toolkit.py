"""TensorRT and TensorRT-RTX, imported: the only module that imports either."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from lnfast.errors import BackendError
from lnfast.optional import Package

PACKAGES = {  # in the order of preference: the first tunes an engine on the very GPU
    "tensorrt": Package("backend tensorrt", "tensorrt", ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "tensorrt"),
    "tensorrt-rtx": Package("backend tensorrt", "tensorrt_rtx", ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12"), "rtx"),
}
_NOISE = ("Thread context has not been set", "catchCudaError")  # beside the error that matters, or without any


@dataclass(frozen=True)
class BuiltFor:
    """The version and the GPUs that an engine runs on, as its manifest has them.

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
        logger: an ``ILogger``. TensorRT keeps the first one of a process, so there is one.
        lock: held by whatever compiles. TensorRT-RTX 1.7.1 keeps the GPUs of a build in a global: of two builds at once
            for SM 8.6 and 8.9, one ended with "Target SM 86 is not found in the accelerator list".
    """

    def __init__(self, name: str, trt: Any) -> None:
        self.name = name
        self.trt = trt
        self.version = str(trt.__version__)
        self.lock = Lock()
        self._messages: deque[tuple[int, str]] = deque(maxlen=500)
        self._numbers = itertools.count(1)
        self.logger = _logger(trt, self._record)

    def mark(self) -> int:
        """Return a point in time for `reason`."""
        return next(self._numbers)

    def reason(self, mark: int) -> str:
        """Return the first error that the package has logged since; later ones are its consequences."""
        messages = [message for number, message in tuple(self._messages) if number > mark]
        plain = [message for message in messages if not any(noise in message for noise in _NOISE)]
        return next(iter(plain or messages), "it gives no reason")

    def _record(self, message: str) -> None:
        self._messages.append((next(self._numbers), message))


_toolkits: dict[str, Toolkit] = {}


def load(target: str) -> Toolkit:
    """Import the package of a target.

    Raises:
        BackendError: ``backend-missing`` or ``backend-broken``.
    """
    module = PACKAGES[target].load()
    return _toolkits.get(target) or _toolkits.setdefault(target, Toolkit(target, module))


def package() -> Package:
    """Return the package that is installed, or the one to install."""
    return next((entry for entry in PACKAGES.values() if entry.installed()), PACKAGES["tensorrt-rtx"])


def first_toolkit() -> Toolkit:
    """Return the first package that can be imported."""
    refused = []
    for target in PACKAGES:
        try:
            return load(target)
        except BackendError as error:
            refused.append(error)
    raise next((error for error in refused if error.code != "backend-missing"), refused[-1])


def dtype_name(kind: Any) -> str:
    """Return numpy's name of a ``DataType`` that a backend's buffers can have, else TensorRT's own."""
    return {"FLOAT": "float32", "HALF": "float16"}.get(kind.name, str(kind.name))


def _logger(trt: Any, record: Callable[[str], None]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """A logger that keeps errors and prints nothing into the host program."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                record(message)

    return Logger()
