"""A fake GPU: CUDA and TensorRT as far as lnfast uses them, executed in order."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from lnfast.backends.protocol import NetworkIO


class Gpu:
    """CUDA as far as it is used, in order: nothing happens before a sync, and recording does nothing at all.

    Each call must find its device current in its thread, as the driver wants it. Device memory begins as garbage. The
    engine computes ``2 x + 1`` on its own shape and type, from and to the addresses that it was given.
    """

    def __init__(self, io: NetworkIO, devices: int = 2, capability: tuple[int, int] = (8, 9)) -> None:
        self.io, self.devices, self.capability = io, devices, capability
        self.local = threading.local()
        self.streams: dict[int, Stream] = {}
        self.log: list[str] = []
        self.broken: set[str] = set()  # the calls that fail
        self.validity = 0
        self.core = SimpleNamespace(
            Device=lambda number: FakeDevice(self, number), LegacyPinnedMemoryResource=lambda: Pinned(self)
        )
        self.trt = self._trt()

    @property
    def current(self) -> int | None:
        return getattr(self.local, "device", None)

    def must_be_current(self, number: int) -> None:
        if self.current != number:
            raise RuntimeError(f"CUDA_ERROR_INVALID_CONTEXT: {self.current} is current, not {number}")

    # the driver's functions
    def cuInit(self, flags: int) -> tuple[int]:  # noqa: N802
        return (100 if self.devices == 0 else 0,)

    def cuDeviceGetCount(self) -> tuple[int, int]:  # noqa: N802
        return 0, self.devices

    def cuDeviceGet(self, number: int) -> tuple[int, int]:  # noqa: N802
        return 0, number

    def cuDeviceTotalMem(self, device: int) -> tuple[int, int]:  # noqa: N802
        return 0, 8 << 30

    def cuDriverGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return 0, 13010

    def cuCtxGetCurrent(self) -> tuple[int, int | None]:  # noqa: N802
        return 0, self.current

    def cuCtxSetCurrent(self, device: int | None) -> tuple[int]:  # noqa: N802
        self.local.device = device
        return (0,)

    def _trt(self) -> Any:
        logger = type("ILogger", (), {"ERROR": 1, "__init__": lambda self: None})
        bits = SimpleNamespace(MALFORMED_ENGINE=32, VERSION_MISMATCH=1, UNSUPPORTED_CC=2, OLD_CUDA_DRIVER=4)
        return SimpleNamespace(
            __version__="1.7.1.116",
            ILogger=logger,
            Runtime=lambda logger: FakeRuntime(self, logger),
            EngineInvalidityDiagnostics=bits,
        )


class FakeRuntime:
    def __init__(self, gpu: Gpu, logger: Any) -> None:
        self.gpu, self.logger = gpu, logger

    def get_engine_validity(self, blob: bytes) -> tuple[int, int]:
        return 2, self.gpu.validity

    def deserialize_cuda_engine(self, blob: bytes) -> Any:
        if blob != b"engine":
            self.logger.log(2, "a warning")
            self.logger.log(1, "the magic is wrong")
            self.logger.log(1, "hence nothing works")
            return None
        return FakeEngine(self.gpu, self.logger)


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, gpu: Gpu, logger: Any) -> None:
        self.gpu, self.logger, self.io = gpu, logger, gpu.io

    def get_tensor_name(self, i: int) -> str:
        return (self.io.output_name, self.io.input_name)[i]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name="INPUT" if name == self.io.input_name else "OUTPUT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, 1, *self.io.shape_zyx)

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name={"float32": "FLOAT", "float16": "HALF"}[self.io.dtype])

    def create_execution_context(self) -> Any:
        if "context" in self.gpu.broken:
            self.logger.log(0, "no memory left")
            return None
        return Context(self)


class Context:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.gpu = engine, engine.gpu
        self.at: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.at[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        return 0 if "address" in self.gpu.broken else self.at[name]

    def is_stream_capturable(self, stream: int) -> bool:
        return "capturable" not in self.gpu.broken

    def execute_async_v3(self, handle: int) -> bool:
        self.gpu.log.append("network")
        recording = self.gpu.streams[handle].recording is not None
        if "network" in self.gpu.broken or (recording and "recording" in self.gpu.broken):
            self.engine.logger.log(1, "Cask convolution failed")
            return False
        io, at = self.engine.io, self.at
        dtype = np.dtype(io.dtype)
        size = int(np.prod(io.shape_zyx)) * dtype.itemsize

        def compute() -> None:
            x = np.frombuffer((ctypes.c_ubyte * size).from_address(at[io.input_name]), dtype)
            y = np.frombuffer((ctypes.c_ubyte * size).from_address(at[io.output_name]), dtype)
            y[:] = 2 * x + 1

        self.gpu.streams[handle].push(compute)
        return True


class Stream:
    def __init__(self, gpu: Gpu, device: int) -> None:
        self.gpu, self.device = gpu, device
        self.waiting: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.handle = 4096 + len(gpu.streams)
        gpu.streams[self.handle] = self

    def push(self, work: Callable[[], None]) -> None:
        self.gpu.must_be_current(self.device)
        (self.waiting if self.recording is None else self.recording).append(work)

    def sync(self) -> None:
        self.gpu.must_be_current(self.device)
        assert self.recording is None, "a recording stream cannot be waited for"
        if "sync" in self.gpu.broken:
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: a kernel went astray")
        for work in self.waiting:
            work()
        self.waiting.clear()

    def create_graph_builder(self) -> Any:
        return Recorder(self)


class Recorder:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def begin_building(self, mode: str) -> Any:
        self.stream.recording = []
        return self

    def end_building(self) -> Any:
        self.work, self.stream.recording = self.stream.recording, None
        return self

    def complete(self) -> Any:
        return SimpleNamespace(launch=self.launch)

    def launch(self, stream: Stream) -> None:
        stream.gpu.log.append("launch")
        for work in self.work or ():
            stream.push(work)

    def close(self) -> None:
        self.stream.recording = None


class Memory:
    def __init__(self, gpu: Gpu, size: int, device: int | None, stream: Stream) -> None:
        assert stream.device == gpu.current
        self.size, self.device = size, device
        self.bytes = (ctypes.c_ubyte * size)(*([0xAA] * size))
        self.handle = ctypes.addressof(self.bytes)

    def copy_from(self, source: Memory, *, stream: Stream) -> None:
        if source.size != self.size:
            raise ValueError("buffer sizes mismatch between src and dst")
        assert (self.device is None) != (source.device is None)
        stream.push(lambda: (ctypes.memmove(self.handle, source.handle, self.size), None)[1])


class Pinned:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def allocate(self, size: int, *, stream: Stream) -> Memory:
        return Memory(self.gpu, size, None, stream)


class FakeDevice:
    name = "NVIDIA Fake 4090"

    def __init__(self, gpu: Gpu, number: int) -> None:
        self.gpu, self.number = gpu, number
        self.compute_capability = SimpleNamespace(major=gpu.capability[0], minor=gpu.capability[1])

    def set_current(self) -> None:
        self.gpu.local.device = self.number

    def create_stream(self) -> Stream:
        self.gpu.must_be_current(self.number)
        return Stream(self.gpu, self.number)

    def allocate(self, size: int, *, stream: Stream) -> Memory:
        return Memory(self.gpu, size, self.number, stream)
