"""A manifest: a CSV or Parquet file with a row for each study.

``path`` is the study, relative to the manifest's folder or absolute. ``study``, where there is such a column, names its
folder. Every other column is carried along into the table of studies.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnfast.cluster.packages import PYARROW
from lnfast.cluster.rows import BOOLEAN, INTEGER, LEADING_COLUMNS, NUMBER, REPORT_COLUMNS, STRING
from lnfast.errors import UsageError
from lnfast.report import folder_name

_ENDINGS = (".csv", ".parquet")
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class ManifestRow:
    """One row.

    Attributes:
        path: as it is written there.
        study: the name of its folder; None where the manifest names none.
        carried: the other columns.
    """

    path: str
    study: str | None
    carried: dict[str, Any]


@dataclass(frozen=True)
class StudyManifest:
    """A manifest that was read.

    Attributes:
        columns: of those that are carried along, name -> type as in `lnfast.cluster.rows`.
        rows: in their order.
    """

    columns: dict[str, str]
    rows: tuple[ManifestRow, ...]


def is_manifest(path: Path) -> bool:
    """Return whether a path is to be read as a manifest: by its ending."""
    return path.suffix.lower() in _ENDINGS and not path.is_dir()


def read_manifest(path: Path) -> StudyManifest:
    """Read a manifest.

    Raises:
        UsageError: ``bad-manifest`` with what is wrong and where.
        BackendError: ``backend-missing`` for a Parquet file without pyarrow.
    """
    with _explained(path):
        columns, values = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
        _check_columns(path, [*columns])
        carried = {name: kind for name, kind in columns.items() if name not in LEADING_COLUMNS}
        rows = tuple(_row(path, number, row, carried) for number, row in enumerate(values, start=1))
    _check_names(path, rows)
    return StudyManifest(carried, rows)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors are of these, and so is bad UTF-8
        reason = getattr(error, "strerror", None) or f"{error}"
        raise UsageError("bad-manifest", f"{path} cannot be read: {reason}") from error


def _csv(path: Path) -> tuple[dict[str, str], Iterable[dict[str, Any]]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        # A spreadsheet of a country with a decimal comma writes semicolons.
        reader = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",", strict=True)
        names = list(reader.fieldnames or ())
        rows: list[dict[str, Any]] = []
        for row in reader:
            if None in row or None in row.values():
                wanted = f"wanted {len(names)} as in its head"
                raise UsageError(
                    "bad-manifest", f"{path}: line {reader.line_num} has another number of cells, {wanted}"
                )
            rows.append(row)
    if len(set(names)) != len(names):
        raise UsageError("bad-manifest", f"{path} has two columns of one name")
    return dict.fromkeys(names, STRING), rows


def _parquet(path: Path) -> tuple[dict[str, str], Iterable[dict[str, Any]]]:
    arrow, parquet = PYARROW.load(), PYARROW.load("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        if len(set(schema.names)) != len(schema.names):
            raise UsageError("bad-manifest", f"{path} has two columns of one name")
        columns = {field.name: _kind(path, arrow, field) for field in schema}
        rows = [row for batch in file.iter_batches(_BATCH_ROWS) for row in batch.to_pylist()]
    for row in rows:
        row |= {name: str(row[name]) for name, kind in columns.items() if kind == STRING and row[name] is not None}
    return columns, rows


def _kind(path: Path, arrow: Any, field: Any) -> str:
    """Return the type by which a column is carried along: its own, and text for dates and the like."""
    types = arrow.types
    if types.is_boolean(field.type):
        return BOOLEAN
    if types.is_integer(field.type):
        return INTEGER
    if types.is_floating(field.type):
        return NUMBER
    if types.is_nested(field.type) or types.is_binary(field.type) or types.is_large_binary(field.type):
        raise UsageError("bad-manifest", f"{path}: column {field.name} is of type {field.type}, wanted numbers or text")
    return STRING


def _check_columns(path: Path, names: list[str]) -> None:
    if "path" not in names:
        raise UsageError("bad-manifest", f"{path} has no column path, wanted path and, for the name, study")
    taken = sorted(set(names) & set(REPORT_COLUMNS))
    if taken:
        raise UsageError("bad-manifest", f"{path}: the table of studies has a column {taken[0]} of its own; rename it")


def _row(path: Path, number: int, row: dict[str, Any], carried: dict[str, str]) -> ManifestRow:
    location, study = row["path"], row.get("study")
    if not isinstance(location, str) or not location.strip():
        raise UsageError("bad-manifest", f"{path}: study {number} has no path")
    if study is not None and not str(study).strip():
        study = None
    return ManifestRow(location, None if study is None else str(study), {name: row[name] for name in carried})


def _check_names(path: Path, rows: tuple[ManifestRow, ...]) -> None:
    """Refuse two studies whose folders would be one, also where letters differ only in case."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if row.study is not None:
            first = seen.setdefault(folder_name(row.study).casefold(), number)
            if first != number:
                where = f"{path}: studies {first} and {number}"
                raise UsageError(
                    "bad-manifest", f"{where} would both be written to {folder_name(row.study)}; rename one"
                )


def absolute(manifest: Path, location: str) -> str:
    """Return a path of a manifest, which may be relative to the manifest's folder."""
    return os.path.normpath(os.path.join(os.path.abspath(manifest.parent), location))
