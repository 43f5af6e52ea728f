"""NVIDIA GPUs through cuda-core, and a run recorded on one of them: the only module that imports cuda-core.

    input (pinned)  --copy-->  GPU  --network-->  GPU  --copy-->  output (pinned)

The three steps are recorded once as a CUDA graph; a study costs one launch and one wait.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import BackendError, UsageError, one_line
from lnfast.optional import Package

PACKAGE = Package("backend tensorrt", "cuda.core", ("cuda-core",), "rtx")
_BINDINGS = Package("backend tensorrt", "cuda.bindings.driver", ("cuda-bindings",), "rtx")
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class DeviceFacts:
    """The properties of a GPU that an engine depends on.

    Attributes:
        device: ``"cuda:0"``.
        name: of the GPU.
        capability: compute capability, ``"8.9"``.
        memory_bytes: of the GPU, used or not.
        driver: version of the driver, None where it is not known.
        cuda: the newest CUDA that the driver runs, ``"13.0"``.
    """

    device: str
    name: str
    capability: str
    memory_bytes: int
    driver: str | None
    cuda: str


def count() -> int:
    """Return how many GPUs CUDA shows, at least one.

    Raises:
        BackendError: ``backend-missing``, ``backend-broken`` (cuda-core) or ``device-missing`` (driver or GPU).
    """
    core, driver = PACKAGE.load(), _BINDINGS.load()
    del core  # it must be installed too, and its error is the clearer one
    try:
        (status,) = driver.cuInit(0)
        if int(status) == 0:
            status, devices = driver.cuDeviceGetCount()
            if int(status) == 0 and devices > 0:
                return int(devices)
    except Exception as error:  # no driver library at all
        raise BackendError("device-missing", _missing(one_line(error))) from error
    if int(status) in (0, _NO_DEVICE):
        raise BackendError("device-missing", _missing("the driver shows no GPU"))
    raise BackendError("device-missing", _missing(f"the driver says {getattr(status, 'name', status)}"))


def ordinal(device: str) -> int:
    """Return the number in ``"cuda:1"``, of a GPU that is there.

    Raises:
        UsageError: ``unknown-device``.
        BackendError: as `count`; ``device-missing`` too when there are fewer.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        raise UsageError("unknown-device", f"got device {device!r}, wanted cuda:N")
    devices = count()
    if int(number) >= devices:
        here = ", ".join(f"cuda:{i}" for i in range(devices))
        raise BackendError("device-missing", f"device {device} is not available to backend tensorrt; here: {here}")
    return int(number)


def device_facts(number: int) -> DeviceFacts:
    """Return the properties of a GPU.

    Raises:
        BackendError: as `ordinal`.
    """
    ordinal(f"cuda:{number}")
    core, driver = PACKAGE.load(), _BINDINGS.load()
    device = core.Device(number)
    capability = device.compute_capability
    newest = _checked(driver.cuDriverGetVersion())
    return DeviceFacts(
        f"cuda:{number}",
        str(device.name),
        f"{capability.major}.{capability.minor}",
        int(_checked(driver.cuDeviceTotalMem(_checked(driver.cuDeviceGet(number))))),
        _driver_version(core),
        f"{newest // 1000}.{newest % 1000 // 10}",
    )


@contextmanager
def current(number: int) -> Iterator[Any]:
    """Yield the ``cuda.core.Device``, current in this thread; then restore the host program's own choice."""
    core, driver = PACKAGE.load(), _BINDINGS.load()
    _checked(driver.cuInit(0))
    before = _checked(driver.cuCtxGetCurrent())
    device = core.Device(number)
    device.set_current()
    try:
        yield device
    finally:
        _checked(driver.cuCtxSetCurrent(before))


class RecordedRun:
    """Two pinned host buffers, two on a GPU, and the copies and the network between them as one CUDA graph.

    Args:
        number: of the GPU.
        shape, dtype: of both buffers.

    Attributes:
        input, output: arrays over the pinned memory; they stay valid when this object is freed.
        addresses: on the GPU, of the network's input and output.
        stream: the handle for the network's own launch.
    """

    def __init__(self, number: int, shape: tuple[int, ...], dtype: str) -> None:
        self._number = number
        self.keep: object = None  # owns the memory that the recording points into
        self._graph: Any = None
        size = prod(shape) * np.dtype(dtype).itemsize
        with current(number) as device:
            self._stream = device.create_stream()
            pinned = PACKAGE.load().LegacyPinnedMemoryResource()
            self._from, self._to = (pinned.allocate(size, stream=self._stream) for _ in range(2))
            self._read, self._written = (device.allocate(size, stream=self._stream) for _ in range(2))
        self.input, self.output = _view(self._from, shape, dtype), _view(self._to, shape, dtype)
        self.addresses = int(self._read.handle), int(self._written.handle)
        self.stream = int(self._stream.handle)

    def record(self, network: Callable[[], None]) -> None:
        """Run the copies and the network once, then record them for `launch`.

        Args:
            network: launches itself on `stream` from and to `addresses`, without waiting. What it owns must live as
                long as this object.
        """
        with current(self._number):
            self._enqueue(network)  # first-time allocations and lazily loaded kernels cannot be recorded
            self._stream.sync()
            builder = self._stream.create_graph_builder()
            try:
                # What this thread does meanwhile must be recordable; other threads are not affected.
                builder.begin_building("thread_local")
                self._enqueue(network)
                self._graph = builder.end_building().complete()
            except BaseException:
                with suppress(Exception):  # it raises once more for an error that is already raised
                    builder.close()
                raise
            builder.close()

    def launch(self) -> None:
        """Compute `output` from `input`; the GIL is free while the GPU works."""
        with current(self._number):
            self._graph.launch(self._stream)
            self._stream.sync()

    def _enqueue(self, network: Callable[[], None]) -> None:
        self._read.copy_from(self._from, stream=self._stream)
        network()
        self._to.copy_from(self._written, stream=self._stream)


class _Owner:
    """The owner of a pinned buffer, which a fork finds in `_pinned`."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        _pinned.add(self)


def _view(buffer: Any, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return an array over a pinned buffer that keeps it alive. (From DLPack, numpy before 2 makes it read-only.)"""
    raw: Any = (ctypes.c_ubyte * buffer.size).from_address(int(buffer.handle))
    raw.owner = _Owner(buffer)
    return np.frombuffer(raw, dtype).reshape(shape)


def _checked(answer: Any) -> Any:
    """Return the value of a call of the driver.

    Raises:
        RuntimeError: with CUDA's own name of the failure.
    """
    status, *rest = answer
    if int(status):
        raise RuntimeError(str(getattr(status, "name", status)))
    return rest[0] if rest else None


def _driver_version(core: Any) -> str | None:
    try:
        return ".".join(map(str, core.system.get_kernel_mode_driver_version()))
    except Exception:  # comes from NVML, which not every machine has: nothing depends on it
        return None


def _missing(why: str) -> str:
    return f"backend tensorrt needs an NVIDIA GPU and its driver: {why}; install the driver, or take --device cpu"


_pinned: WeakSet[_Owner] = WeakSet()


def _abandon_all() -> None:
    """Keep pinned buffers in a fork, where no CUDA could free them."""
    for owner in tuple(_pinned):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_abandon_all)
