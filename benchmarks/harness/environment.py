"""The machine and its software: enough to repeat the measurements, nothing that names the machine or its user."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lnfast.backends.machine import cpu_flags, cpu_limit, cpu_name
from lnfast_ext import instruction_set

PACKAGES = (
    *("lnfast", "numpy", "nibabel", "isal", "openvino", "onnxruntime", "onnx", "torch", "monai"),
    *("scipy", "trimesh", "connected-components-3d", "scikit-image", "SimpleITK"),
    *("pydicom", "highdicom", "dcm2niix"),
)
# Runnable tasks per core above which other programs disturb the timings.
BUSY_LOAD = 0.3


def describe_environment(threads: int) -> dict[str, Any]:
    """Return the machine, its software and its load.

    Args:
        threads: of every subject and peer.
    """
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu_name(),
        "cpu_flags": list(cpu_flags() or ()),
        "cpu_limit": cpu_limit(),
        "cores": usable_cores(),
        "threads": threads,
        "kernels": instruction_set(),
        "memory_gib": _memory_gib(),
        "governor": _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "load_average": None if load is None else [round(value, 2) for value in load],
        "busy": None if load is None else load[0] / usable_cores() > BUSY_LOAD,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed for name in PACKAGES if (installed := _version(name)) is not None},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    for line in (_read(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 2**20, 1)
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of this checkout, with ``+changes`` where tracked files differ from it."""
    try:
        return _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    command = ("git", "-C", str(Path(__file__).parent), *words)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
