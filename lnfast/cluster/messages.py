"""What the driver and its workers send each other: small, frozen, and made of plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from lnfast import errors
from lnfast.errors import LnfastError
from lnfast.measure import Rules
from lnfast.result import Parts
from lnfast.study import DicomChoice

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One study to run.

    Attributes:
        index: its place in the cohort, from 0.
        path: absolute.
        name: of its folder; None for DICOM, whose studies name themselves once they are read.
    """

    index: int
    path: str
    name: str | None


@dataclass(frozen=True)
class WorkerRequest:
    """Everything that a worker must know before its first study.

    Attributes:
        model, backend, device, precision: as `lnfast.Engine` takes them.
        threads: of its engine.
        rules, choice, parts: as `lnfast.Engine.run_many` takes them.
        out: absolute path of the cohort's output.
        token: the content of the file by which a worker knows that it sees the driver's folder.
        resume: leave a study alone whose folder is complete.
        study_key: by which studies from DICOM are named; a machine's own would give each machine its own names.
    """

    model: str
    backend: str
    device: str
    precision: str
    threads: int
    rules: Rules
    choice: DicomChoice
    parts: Parts
    out: str
    token: str
    resume: bool
    study_key: bytes = field(repr=False)


@dataclass(frozen=True)
class ErrorValue:
    """An error as a value: its class by name, its code and its line.

    Attributes:
        error: name of a class of `lnfast.errors`, or ``"OSError"``, or that of an exception nobody foresaw.
        errno: of the system, for an OSError.
    """

    error: str
    code: str
    message: str
    errno: int | None = None

    @classmethod
    def of(cls, error: Exception) -> ErrorValue:
        """Return the refusal that an exception stands for."""
        name = type(error).__name__
        if isinstance(error, LnfastError):
            return cls(name, error.code, error.message)
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            return cls("OSError", "os-error", f"{where}{error.strerror or error}", error.errno)
        return cls(name, "internal", " ".join(f"{name}: {error}".split()))

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        kind = getattr(errors, self.error, LnfastError)
        code: int = kind.exit_code
        return code

    def exception(self) -> Exception:
        """Return the exception again."""
        if self.errno is not None:
            return OSError(self.errno, self.message)
        kind = getattr(errors, self.error, None)
        return LnfastError(self.code, self.message) if kind is None else kind(self.code, self.message)


@dataclass(frozen=True)
class EngineIdentity:
    """All on which a worker's answers depend; two workers with the same identity give the same answers.

    Attributes:
        lnfast, dicom: versions of lnfast, and of the packages that read and write DICOM.
        model: its name, and a hash over network, probe and the deciding entries of the card.
        backend, device, precision: as the runtime says.
        engine: hash of the engine.
        certified_for: the kind of device that the certificate holds for; empty without a certificate.
    """

    lnfast: str
    dicom: str
    model: str
    backend: str
    device: str
    precision: str
    engine: str
    certified_for: str

    def differences(self, other: EngineIdentity) -> str:
        """Return what differs, as ``what: this, there: that``; empty where nothing does."""
        pairs = ((entry.name, getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self))
        different = ((name, here or "none", there or "none") for name, here, there in pairs if here != there)
        return "; ".join(f"{name} is {here}, wanted {there}" for name, here, there in different)


@dataclass(frozen=True)
class WorkerFacts:
    """A worker whose engine has loaded.

    Attributes:
        identity: of its engine.
        device_kind: the kind of CPU or GPU; may differ between workers without a certificate.
        description: of its engine, for people.
        host: its machine's name.
        pid: of its process.
    """

    identity: EngineIdentity
    device_kind: str
    description: str
    host: str
    pid: int


@dataclass(frozen=True)
class Outcome:
    """What became of one study.

    Attributes:
        index: of the task.
        row: of the table of studies; without the columns that the driver knows.
        nodes: rows of the table of nodes.
        refusal: why there is no report; None where there is one.
        notices: ``(code, message)`` of files beside the report that could not be written; the report has its own.
        resumed: the report was there already.
    """

    index: int
    row: Row = field(default_factory=dict)
    nodes: tuple[Row, ...] = ()
    refusal: ErrorValue | None = None
    notices: tuple[tuple[str, str], ...] = ()
    resumed: bool = False
