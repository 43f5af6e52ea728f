"""The packages behind the extra ``evaluate``, imported when they are used and here only."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lnfast.backends.package import Package, one_line
from lnfast.errors import BackendError

INSTALL = "pip install 'lnfast[evaluate]'"
# Name to import: name to install.
PACKAGES = {"scipy": "scipy", "statsmodels": "statsmodels", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def load(module: str) -> Any:
    """Import a module of one of `PACKAGES`, such as ``scipy.stats``; its calls are not typed.

    Raises:
        BackendError: ``package-missing``, or ``package-broken`` when it is there and cannot be imported.
    """
    package = _package(module)
    check_installed(package)
    try:
        return import_module(module)
    except Exception as error:  # a broken native library raises whatever it likes
        raise BackendError(
            "package-broken",
            f"the package {package.distributions[0]} is installed and cannot be imported ({one_line(error)}); "
            f"install it again: {INSTALL}",
        ) from error


def check_all_installed() -> None:
    """Say no before any work is done, without importing anything.

    Raises:
        BackendError: ``package-missing``.
    """
    for module in PACKAGES:
        check_installed(_package(module))


def check_installed(package: Package) -> None:
    """Raises BackendError ``package-missing`` where there is nothing to import."""
    if not package.installed():
        raise BackendError(
            "package-missing",
            f"{package.backend} needs the package {package.distributions[0]}, which is not installed: {INSTALL}",
        )


def versions() -> dict[str, str | None]:
    """Of each package, by the name to install."""
    return {distribution: _package(module).version() for module, distribution in PACKAGES.items()}


def _package(module: str) -> Package:
    root = module.partition(".")[0]
    return Package("lnfast evaluate", root, (PACKAGES[root],), INSTALL)
