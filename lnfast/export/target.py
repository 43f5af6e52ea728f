"""A target on this machine: its version, and which precisions of it run here."""

from __future__ import annotations

from dataclasses import dataclass

from lnfast.backends import Candidate
from lnfast.backends.choice import runtime_for
from lnfast.backends.registry import AUTO, TARGET_PRECISIONS, TARGETS
from lnfast.errors import BackendError, UsageError
from lnfast.export.request import Request
from lnfast.window import Zyx, window_shapes


@dataclass(frozen=True)
class InstalledTarget:
    """A target whose package is installed.

    Attributes:
        name: ``openvino``, ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``.
        version: of its package.
        offered: what it can run on this machine, as candidates; empty where there is no device for it.
        device: of the engines: ``"cpu"`` or ``"cuda"``.
    """

    name: str
    version: str
    offered: tuple[Candidate, ...]
    device: str

    def candidate(self, precision: str) -> Candidate | None:
        """Return how an engine of a precision would run here; None where it cannot."""
        return next((offer for offer in self.offered if offer.precision == precision), None)

    def candidates(self, precisions: tuple[str, ...]) -> tuple[Candidate, ...]:
        """Return how engines of some precisions would run here, those that can, in the same order."""
        possible = map(self.candidate, precisions)
        return tuple(candidate for candidate in possible if candidate is not None)

    def windows(self, grid_zyx: Zyx) -> tuple[Zyx, ...]:
        """Return the windows of a grid that an engine is compiled for beside the whole."""
        return window_shapes(grid_zyx) if runtime_for(self.name).compiles_windows() else ()


def open_target(request: Request) -> InstalledTarget:
    """Find what is installed for the target of a request, and check that it has the precision.

    Raises:
        UsageError: ``unknown-target``, ``bad-capability``, ``bad-device`` or ``unknown-precision``.
        BackendError: ``backend-missing``, ``backend-broken``, ``device-missing`` or ``precision-unavailable``.
    """
    name = request.target
    if name not in TARGETS:
        raise UsageError("unknown-target", f"got target {name!r}, wanted one of: {', '.join(TARGETS)}")
    if request.capabilities and name != "tensorrt-rtx":
        raise UsageError("bad-capability", f"got GPUs to build for, which are for tensorrt-rtx and not for {name}")
    runtime = runtime_for(name)
    version = runtime.installed_version(name)
    offered = runtime.build_offers(name, request.device)
    target = InstalledTarget(name, version, offered, offered[0].device.partition(":")[0] if offered else "cuda")
    _check_precision(target, request.precision)
    return target


def _check_precision(target: InstalledTarget, precision: str) -> None:
    known = TARGET_PRECISIONS[target.name]
    if precision != AUTO and precision not in known:
        raise UsageError(
            "unknown-precision", f"got precision {precision!r} for {target.name}, wanted auto or {', '.join(known)}"
        )
    here = [offer.precision for offer in target.offered]
    if not runtime_for(target.name).builds_for_other_machines() and precision not in (AUTO, *here):
        raise BackendError(
            "precision-unavailable",
            f"{target.name} runs {', '.join(here)} on {target.offered[0].device} here, {precision} was asked for",
        )
