"""Runtimes behind one small protocol. Importing this imports none of them."""

from __future__ import annotations

from lnfast.backends.choice import backend_status, candidates, open_backend
from lnfast.backends.protocol import Backend, BackendInfo, BackendStatus, Candidate

__all__ = ["Backend", "BackendInfo", "BackendStatus", "Candidate", "backend_status", "candidates", "open_backend"]
