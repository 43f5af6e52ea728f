"""Every way in which lnfast says no.

    LnfastError                 1   our own fault, or the base of what follows
    ├── UsageError              2   the call itself makes no sense
    ├── StudyError              3   this study is refused
    ├── ModelError              4   this model folder is refused
    │   └── EngineError         4   this engine is refused: it did not prove itself
    ├── BackendError            5   a backend or a device is not available here
    └── PeerError               5   a DICOM peer is not reached, or does not take what is sent

The number is the exit code of the command line. Each error carries a stable ``code`` (``"not-nifti"``), which a
vendor may branch on, and one line that says what was got, what was wanted and what to do. The line may be reworded;
the code may not.
"""

from __future__ import annotations


class LnfastError(Exception):
    """Base of all errors that lnfast raises on purpose.

    Attributes:
        code: stable identifier in kebab case.
        message: one line for a person.
        exit_code: what the command line exits with.
    """

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = " ".join(message.split())

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class UsageError(LnfastError):
    """The request contradicts itself or names something that does not exist."""

    exit_code = 2


class StudyError(LnfastError):
    """A study is refused: it cannot be read, or no trustworthy number can be made of it."""

    exit_code = 3


class ModelError(LnfastError):
    """A model folder is incomplete, damaged or not of the kind that lnfast runs."""

    exit_code = 4


class EngineError(ModelError):
    """An engine did not prove that it computes what the model says."""


class BackendError(LnfastError):
    """A runtime or a device that was asked for is not available on this machine."""

    exit_code = 5


class PeerError(LnfastError):
    """A DICOM peer cannot be reached, or does not take what is sent to it."""

    exit_code = 5


def one_line(error: BaseException, most: int = 300) -> str:
    """The words of a foreign exception in one line, without the lines that only name source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    message = " ".join(line for line in lines if line and not line.startswith("Exception from "))
    message = message or type(error).__name__
    return message if len(message) <= most else message[: most - 3] + "..."
