"""What this machine is, as far as an engine depends on it."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

# What decides how a network is computed on a CPU, as Linux names it.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


@lru_cache(maxsize=1)
def cpu_flags() -> tuple[str, ...] | None:
    """The flags of this CPU that matter; None where the system does not tell."""
    found = _told("flags", "Features")
    return None if found is None else tuple(flag for flag in FLAGS if flag in found.split())


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """For people."""
    return _told("model name", "Hardware") or platform.processor() or platform.machine()


def cpu_kind() -> str:
    """What an engine for a CPU is bound to: ``"x86_64 avx2 avx512f"``. Other instructions round in other places."""
    flags = cpu_flags()
    return " ".join((platform.machine(), *(("unknown",) if flags is None else flags)))


def boot_id() -> str | None:
    """Changes with every start of the machine; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def nvidia_gpus() -> int:
    """How many NVIDIA GPUs the driver shows; 0 without a driver. Asks the driver itself: no package is imported."""
    count = ctypes.c_int(0)
    driver = _driver()
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def device_kind(device: str) -> str:
    """What a certificate is bound to: `cpu_kind`, or ``"NVIDIA L4, SM 8.9"``.

    Args:
        device: ``"cpu"`` or ``"cuda:N"``.
    """
    if device == "cpu":
        return cpu_kind()
    driver, number = _driver(), ctypes.c_int(0)
    if driver is None or driver.cuDeviceGet(ctypes.byref(number), int(device.partition(":")[2])):
        return "no GPU"
    name, parts = ctypes.create_string_buffer(256), []
    driver.cuDeviceGetName(name, len(name), number)
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, number)
        parts.append(str(value.value))
    return f"{name.value.decode(errors='replace')}, SM {'.'.join(parts)}"


def _driver() -> Any | None:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return None if driver.cuInit(0) else driver
    except (OSError, AttributeError):
        return None


def _told(*keys: str) -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() in keys), "")
