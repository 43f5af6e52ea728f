"""The part that all runtimes share: two buffers in host memory, and the checks around the call."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from math import prod
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from lnfast.backends.protocol import BackendInfo, Candidate
from lnfast.errors import BackendError, EngineError, one_line

_ALIGNMENT = 64  # bytes: a cache line and the widest vector register; OpenVINO takes no buffer in place below it


def aligned_array(shape: tuple[int, ...], fill: float, dtype: str = "float32") -> NDArray[Any]:
    """Return a C-contiguous array on a 64-byte boundary."""
    size = prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    array: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    array.fill(fill)
    return array


class HostBackend:
    """A `lnfast.backends.Backend` over a function that computes `output` from `input`.

    Args:
        info: the runtime, device and precision in use.
        source, target: ``(1, 1, z, y, x)`` float32 or float16 that `run` reads and writes in place.
        run: the runtime's call; it owns the network, which is freed with it.
    """

    def __init__(
        self, info: BackendInfo, source: NDArray[Any], target: NDArray[Any], run: Callable[[], object]
    ) -> None:
        self.info = info
        self.input = source
        self.output = target
        self._run: Callable[[], object] | None = run
        self._process = os.getpid()
        _open.add(self)

    def infer(self) -> None:
        """Compute `output` from `input`; see `lnfast.backends.Backend.infer`."""
        if self._run is None:
            raise EngineError("backend-closed", f"the {self.info.name} backend was closed; open a new one")
        if os.getpid() != self._process:
            # The runtime's threads do not survive a fork: the call would wait for them for ever.
            raise EngineError(
                "forked",
                f"the {self.info.name} backend was opened in process {self._process} and is used in its fork "
                f"{os.getpid()}; open one in each process",
            )
        try:
            self._run()
        except Exception as error:
            raise EngineError("inference-failed", f"{self.info.name} failed to infer: {one_line(error)}") from error

    def close(self) -> None:
        """Release the runtime; see `lnfast.backends.Backend.close`."""
        self._run = None

    def _abandon(self) -> None:
        """Keep the runtime alive in a fork: its destructor would wait for threads that the fork does not have."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._run))


_open: WeakSet[HostBackend] = WeakSet()


def _abandon_all() -> None:
    for backend in tuple(_open):
        backend._abandon()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_abandon_all)


def check_in_place(name: str, buffer: NDArray[Any], address: int) -> None:
    """Check that a runtime works at the address of our buffer; otherwise its result would never arrive.

    Raises:
        EngineError: ``not-in-place``.
    """
    if buffer.ctypes.data != address:
        raise EngineError(
            "not-in-place", f"this version of {name} copies the buffers that it is given; wanted one that does not"
        )


def check_as_requested(name: str, requested: tuple[str, str], actual: tuple[str, str]) -> None:
    """Compare the requested ``(device, precision)`` with what the runtime says it uses.

    Raises:
        EngineError: ``device-mismatch`` or ``precision-mismatch``.
    """
    for what, wanted, got in zip(("device", "precision"), requested, actual, strict=True):
        if wanted != got:
            raise EngineError(
                f"{what}-mismatch",
                f"{name} was asked for {what} {wanted} and runs {got}; ask for {got} by name if that will do",
            )


def on_one_device(offered: tuple[Candidate, ...], target: str, device: str) -> tuple[Candidate, ...]:
    """Return the candidates on the requested device, for ``auto`` those on the first one's.

    Raises:
        BackendError: ``device-missing``.
    """
    fitting = tuple(offer for offer in offered if device in ("auto", offer.device))
    if not fitting:
        raise BackendError("device-missing", f"device {device} is not available to {target} here")
    return tuple(offer for offer in fitting if offer.device == fitting[0].device)
