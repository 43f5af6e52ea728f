"""Optional packages: whether they are there, and what to type when they are not."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from lnfast.errors import BackendError


@dataclass(frozen=True)
class Package:
    """A runtime that lnfast can use and does not require.

    Attributes:
        backend: what needs it.
        module: the name to import.
        distributions: what may have installed it.
        install: the line that installs it.
    """

    backend: str
    module: str
    distributions: tuple[str, ...]
    install: str

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
        """Of the first distribution that is installed."""
        return next((found for found in map(_version, self.distributions) if found), None)

    def load(self) -> Any:
        """Import the package.

        Raises:
            BackendError: ``backend-missing``, or ``backend-broken`` when it is there and cannot be imported.
        """
        if not self.installed():
            raise BackendError(
                "backend-missing",
                f"backend {self.backend} needs the package {self.distributions[0]}, "
                f"which is not installed: {self.install}",
            )
        try:
            return importlib.import_module(self.module)
        except Exception as error:  # a broken native library raises whatever it likes
            raise BackendError(
                "backend-broken",
                f"the package {self.module} is installed and cannot be imported ({one_line(error)}); "
                f"install it again: {self.install}",
            ) from error


def one_line(error: BaseException, most: int = 300) -> str:
    """The words of a foreign exception in one line, without the lines that only name source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = " ".join(line for line in lines if line and not line.startswith("Exception from "))
    told = told or type(error).__name__
    return told if len(told) <= most else told[: most - 3] + "..."


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
