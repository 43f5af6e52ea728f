"""The packages behind the extra ``evaluate``, imported when they are used and here only."""

from __future__ import annotations

from typing import Any

from lnfast.optional import Package

# Name to import: name to install.
PACKAGES = {"scipy": "scipy", "statsmodels": "statsmodels", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def load(module: str) -> Any:
    """Import a module of one of `PACKAGES`, such as ``scipy.stats``; its calls are not typed.

    Raises:
        BackendError: ``backend-missing``, or ``backend-broken`` when it is there and cannot be imported.
    """
    return _package(module).load(module)


def check_all_installed() -> None:
    """Refuse before any work is done, without importing anything.

    Raises:
        BackendError: ``backend-missing``.
    """
    for module in PACKAGES:
        _package(module).check_installed()


def versions() -> dict[str, str | None]:
    """The version of each package, by the name to install."""
    return {distribution: _package(module).version() for module, distribution in PACKAGES.items()}


def _package(module: str) -> Package:
    root = module.partition(".")[0]
    return Package("lnfast evaluate", root, (PACKAGES[root],), "evaluate")
