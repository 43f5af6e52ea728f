"""Optional packages: whether they are there, the one way to import them, and what to type when they are missing."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from lnfast.errors import BackendError, one_line


@dataclass(frozen=True)
class Package:
    """A package that a feature of lnfast needs and that lnfast itself does not.

    Attributes:
        feature: what needs it, as a message names it: ``"backend openvino"``, ``"lnfast evaluate"``.
        module: the name to import.
        distributions: what may have installed it.
        extra: the extra of lnfast that installs it.
    """

    feature: str
    module: str
    distributions: tuple[str, ...]
    extra: str

    @property
    def install(self) -> str:
        """The line that installs it."""
        return f"pip install 'lnfast[{self.extra}]'"

    def installed(self) -> bool:
        """Whether there is something to import, without importing it."""
        try:
            spec = find_spec(self.module)
        except (ImportError, ValueError):
            return False
        return spec is not None and spec.origin is not None  # a folder that an uninstall left behind has no origin

    def present(self) -> tuple[str, ...]:
        """The distributions that are installed."""
        return tuple(name for name in self.distributions if _version(name))

    def version(self) -> str | None:
        """The version of the first distribution that is installed."""
        return next((version for version in map(_version, self.distributions) if version), None)

    def check_installed(self) -> None:
        """Refuse before any work is done, without importing anything.

        Raises:
            BackendError: ``backend-missing``.
        """
        if not self.installed():
            raise BackendError(
                "backend-missing",
                f"{self.feature} needs the package {self.distributions[0]}, which is not installed: {self.install}",
            )

    def load(self, submodule: str | None = None) -> Any:
        """Import the package; its calls are not typed.

        Args:
            submodule: what to import of it, such as ``"scipy.stats"``; the package itself when None.

        Raises:
            BackendError: ``backend-missing``, or ``backend-broken`` when it is there and cannot be imported.
        """
        self.check_installed()
        try:
            return importlib.import_module(submodule or self.module)
        except Exception as error:  # a broken native library raises whatever it likes
            raise BackendError(
                "backend-broken",
                f"the package {self.module} is installed and cannot be imported ({one_line(error)}); "
                f"install it again: {self.install}",
            ) from error


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
