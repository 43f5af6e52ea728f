"""What an inference library must offer to serve lnfast."""

from __future__ import annotations

from typing import Protocol

from lnfast.backends.loading import Loading
from lnfast.backends.protocol import Backend, Candidate
from lnfast.optional import Package


class Runtime(Protocol):
    """An inference library behind lnfast: each of `lnfast.backends.openvino`, ``ort`` and ``trt`` is one.

    A module is checked against this protocol as an object would be: its functions are the methods.
    """

    def package(self) -> Package:
        """Return the package that is installed, or the one to install."""

    def conflict(self) -> str | None:
        """Say which distributions are installed over each other; None when none are."""

    def offers(self) -> tuple[Candidate, ...]:
        """Return what the runtime can do on this machine, fastest first.

        Raises:
            BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
        """

    def installed_version(self, target: str) -> str:
        """Return the version of a target's package, as manifests have it.

        Raises:
            BackendError: ``backend-missing`` or ``backend-broken``.
        """

    def open_model(self, loading: Loading) -> Backend:
        """Load a checked model or engine; see `lnfast.backends.open_backend`."""
