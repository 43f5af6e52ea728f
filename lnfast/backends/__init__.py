"""Inference libraries behind one small protocol. Importing this package imports none of them, nor numpy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lnfast.backends.choice import backend_status, candidates, open_backend
    from lnfast.backends.protocol import Backend, BackendInfo, BackendStatus, Candidate

__all__ = ["Backend", "BackendInfo", "BackendStatus", "Candidate", "backend_status", "candidates", "open_backend"]

_MODULES = {
    "choice": ("backend_status", "candidates", "open_backend"),
    "protocol": ("Backend", "BackendInfo", "BackendStatus", "Candidate"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'lnfast.backends' has no attribute {name!r}")
    value = getattr(import_module(f"lnfast.backends.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
