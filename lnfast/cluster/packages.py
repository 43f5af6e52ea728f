"""The packages of the extra ``cluster``."""

from __future__ import annotations

from lnfast.optional import Package

RAY = Package("lnfast cohort", "ray", ("ray",), "cluster")
PYARROW = Package("lnfast cohort", "pyarrow", ("pyarrow",), "cluster")


def check_packages() -> None:
    """Refuse before any work is done.

    Raises:
        BackendError: ``backend-missing``.
    """
    for package in (RAY, PYARROW):
        package.check_installed()
