"""The protocol that an inference library must follow to serve lnfast."""

from __future__ import annotations

from typing import Protocol

from lnfast.backends.protocol import Backend, Candidate, Progress
from lnfast.backends.requests import Build, BuildRequest, LoadRequest
from lnfast.optional import Package


class Runtime(Protocol):
    """An inference library behind lnfast: each of `lnfast.backends.openvino`, ``ort`` and ``trt`` is one.

    A module is checked against this protocol as an object would be: its functions are the methods.
    """

    def package(self) -> Package:
        """Return the package that is installed, or the one to install."""

    def conflict(self) -> str | None:
        """Say which distributions are installed over each other; None when none are."""

    def installed_version(self, target: str) -> str:
        """Return the version of a target's package, as manifests have it.

        Raises:
            BackendError: ``backend-missing`` or ``backend-broken``.
        """

    def offers(self) -> tuple[Candidate, ...]:
        """Return what the runtime can do on this machine, fastest first.

        Raises:
            BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
        """

    def open_model(self, request: LoadRequest) -> Backend:
        """Load a checked model or engine; see `lnfast.backends.open_backend`."""

    def builds_for_other_machines(self) -> bool:
        """Return whether engines are built here that this machine cannot run."""

    def compiles_windows(self) -> bool:
        """Return whether an engine holds programs for windows of the model grid."""

    def build_offers(self, target: str, device: str) -> tuple[Candidate, ...]:
        """Return how engines of a target would run on the requested device, all on one; empty where they cannot.

        Args:
            target: one of `lnfast.backends.registry.TARGETS` that this runtime runs.
            device: ``auto``, ``cpu`` or ``cuda:N``.

        Raises:
            UsageError: ``bad-device``.
            BackendError: ``backend-missing``, ``backend-broken`` or ``device-missing``.
        """

    def build(self, request: BuildRequest, progress: Progress) -> Build:
        """Build the files of an engine from the graph of a draft.

        Raises:
            ModelError, EngineError, BackendError: the target refuses the graph.
            UsageError: ``unknown-capability``, ``unknown-device``.
        """
