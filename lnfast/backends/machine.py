"""The properties of this machine that an engine depends on."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

# The instruction sets that decide how a network is computed on a CPU, as Linux names them.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


@lru_cache(maxsize=1)
def cpu_flags() -> tuple[str, ...] | None:
    """Return those of `FLAGS` that this CPU has; None where the system does not list them."""
    line = _cpuinfo("flags", "Features")
    return None if line is None else tuple(flag for flag in FLAGS if flag in line.split())


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """Return the CPU's name, for people."""
    return _cpuinfo("model name", "Hardware") or platform.processor() or platform.machine()


def cpu_limit() -> str | None:
    """Return the instruction set beyond which oneDNN is told not to go (in OpenVINO and PyTorch); None without a limit.

    Source: "CPU Dispatcher Control" in the developer guide of oneDNN, where the older name stands too.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return None if limit.upper() in ("", "ALL", "DEFAULT") else limit.upper()


def cpu_kind() -> str:
    """Return what an engine for a CPU is bound to, ``"x86_64 avx2 avx512f"``: other instructions round elsewhere."""
    flags, limit = cpu_flags(), cpu_limit()
    limited = () if limit is None else ("up to", limit)
    return " ".join((platform.machine(), *(("unknown",) if flags is None else flags), *limited))


def boot_id() -> str | None:
    """Return an id that changes with every start of the machine; None where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def nvidia_gpus() -> int:
    """Return how many NVIDIA GPUs the driver shows; 0 without a driver. Only the driver is loaded, no package."""
    count = ctypes.c_int(0)
    driver = _driver()
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def device_kind(device: str) -> str:
    """Return what a certificate is bound to: `cpu_kind`, or ``"NVIDIA L4, SM 8.9"``.

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


def _cpuinfo(*keys: str) -> str | None:
    """Return the first line of /proc/cpuinfo under one of some keys; None where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() in keys), "")
