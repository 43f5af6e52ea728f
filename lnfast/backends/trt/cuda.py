"""NVIDIA GPUs through cuda-core, and the way of a study over one of them: the only module that imports it.

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
    """What an engine depends on.

    Attributes:
        device: ``"cuda:0"``.
        name: of the GPU.
        capability: compute capability, ``"8.9"``.
        memory_bytes: of the GPU, used or not.
        driver: version of the driver, None where it does not tell.
        cuda: the newest CUDA that the driver runs, ``"13.0"``.
    """

    device: str
    name: str
    capability: str
    memory_bytes: int
    driver: str | None
    cuda: str


def count() -> int:
    """How many GPUs CUDA shows, at least one.

    Raises:
        BackendError: ``backend-missing``, ``backend-broken`` (cuda-core) or ``device-missing`` (driver or GPU).
    """
    core, driver = PACKAGE.load(), _BINDINGS.load()
    del core  # it must be there too, and says best what is wrong with it
    try:
        (status,) = driver.cuInit(0)
        if int(status) == 0:
            status, found = driver.cuDeviceGetCount()
            if int(status) == 0 and found > 0:
                return int(found)
    except Exception as error:  # no driver library at all
        raise BackendError("device-missing", _missing(one_line(error))) from error
    if int(status) in (0, _NO_DEVICE):
        raise BackendError("device-missing", _missing("the driver shows no GPU"))
    raise BackendError("device-missing", _missing(f"the driver says {getattr(status, 'name', status)}"))


def ordinal(device: str) -> int:
    """The number in ``"cuda:1"``, of a GPU that is there.

    Raises:
        UsageError: ``unknown-device``.
        BackendError: as `count`; ``device-missing`` too when there are fewer.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        raise UsageError("unknown-device", f"got device {device!r}, wanted cuda:N")
    there = count()
    if int(number) >= there:
        here = ", ".join(f"cuda:{i}" for i in range(there))
        raise BackendError("device-missing", f"device {device} is not available to backend tensorrt; here: {here}")
    return int(number)


def device_facts(number: int) -> DeviceFacts:
    """What a GPU is.

    Raises:
        BackendError: as `ordinal`.
    """
    ordinal(f"cuda:{number}")
    core, driver = PACKAGE.load(), _BINDINGS.load()
    device = core.Device(number)
    capability = device.compute_capability
    newest = _done(driver.cuDriverGetVersion())
    return DeviceFacts(
        f"cuda:{number}",
        str(device.name),
        f"{capability.major}.{capability.minor}",
        int(_done(driver.cuDeviceTotalMem(_done(driver.cuDeviceGet(number))))),
        _driver_version(core),
        f"{newest // 1000}.{newest % 1000 // 10}",
    )


@contextmanager
def current(number: int) -> Iterator[Any]:
    """The ``cuda.core.Device``, current in this thread; afterwards the host program's own choice is current again."""
    core, driver = PACKAGE.load(), _BINDINGS.load()
    _done(driver.cuInit(0))
    before = _done(driver.cuCtxGetCurrent())
    device = core.Device(number)
    device.set_current()
    try:
        yield device
    finally:
        _done(driver.cuCtxSetCurrent(before))


class Lane:
    """Two pinned host buffers, their twins on a GPU, and one stream that leads through them.

    Args:
        number: of the GPU.
        shape, dtype: of both buffers.

    Attributes:
        input, output: arrays over the pinned memory; they stay valid when the lane has gone.
        addresses: on the GPU, where the network reads and where it writes.
        stream: the handle for the network's own launch.
    """

    def __init__(self, number: int, shape: tuple[int, ...], dtype: str) -> None:
        self._number = number
        self.keep: object = None  # what the recording points into
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
        """Run the whole way once as it is, then record it for `run`.

        Args:
            network: launches itself on `stream` from and to `addresses`, without waiting. What it owns must live as
                long as this lane.
        """
        with current(self._number):
            self._enqueue(network)  # first-time allocations and lazily loaded kernels cannot be recorded
            self._stream.sync()
            builder = self._stream.create_graph_builder()
            try:
                # What this thread does meanwhile must be recordable; other threads may do as they like.
                builder.begin_building("thread_local")
                self._enqueue(network)
                self._graph = builder.end_building().complete()
            except BaseException:
                with suppress(Exception):  # it complains once more of what is already on its way up
                    builder.close()
                raise
            builder.close()

    def run(self) -> None:
        """Take `input` through to `output`; the GIL is free while the GPU works."""
        with current(self._number):
            self._graph.launch(self._stream)
            self._stream.sync()

    def _enqueue(self, network: Callable[[], None]) -> None:
        self._read.copy_from(self._from, stream=self._stream)
        network()
        self._to.copy_from(self._written, stream=self._stream)


class _Owner:
    """Keeps a pinned buffer, and can be found after a fork."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        _pinned.add(self)


def _view(buffer: Any, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An array over a pinned buffer that keeps it alive. (From DLPack, numpy before 2 makes it read-only.)"""
    raw: Any = (ctypes.c_ubyte * buffer.size).from_address(int(buffer.handle))
    raw.owner = _Owner(buffer)
    return np.frombuffer(raw, dtype).reshape(shape)


def _done(answer: Any) -> Any:
    """What a function of the driver returned.

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
    except Exception:  # comes from NVML, which is not everywhere: nothing depends on it
        return None


def _missing(why: str) -> str:
    return f"backend tensorrt needs an NVIDIA GPU and its driver: {why}; install the driver, or take --device cpu"


_pinned: WeakSet[_Owner] = WeakSet()


def _abandon_all() -> None:
    """In a fork there is no CUDA any more that could take the memory back."""
    for owner in tuple(_pinned):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_abandon_all)
