"""The tables of a cohort, studies and nodes, as Parquet and CSV, in the order of the studies.

Studies end in any order. Their rows go to a file, of which only the offsets are kept: 8 bytes a study. At the end the
tables are written from it batch by batch, each whole or not at all.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from lnfast.atomic import replacing_file
from lnfast.cluster.messages import Row
from lnfast.cluster.packages import PYARROW
from lnfast.cluster.rows import NODE_COLUMNS

TABLES = ("studies.parquet", "studies.csv", "nodes.parquet", "nodes.csv")
_BATCH_ROWS = 2048
_ABSENT = -1


class Journal:
    """The rows of a cohort while it runs: on disk, in the order in which studies end.

    Args:
        path: of the file; an older one is overwritten.
        count: of studies.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._file = open(path, "w+b")  # noqa: SIM115  # closed by __exit__
        self._offsets = array("q", [_ABSENT]) * count
        self._end = 0

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, index: int, study: Row, nodes: tuple[Row, ...]) -> None:
        """Store the rows of a study that has none yet.

        Raises:
            OSError: of the disk, with the file's name.
        """
        assert self._offsets[index] == _ABSENT, "a study ends once"
        line = json.dumps([study, nodes]).encode("ascii") + b"\n"
        try:
            self._file.write(line)
        except OSError as error:
            error.filename = error.filename or self._file.name
            raise
        self._offsets[index] = self._end
        self._end += len(line)

    def rows(self) -> Iterator[tuple[Row, tuple[Row, ...]]]:
        """Yield the rows of every study that has ended, in the order of the studies."""
        self._file.flush()
        for offset in self._offsets:
            if offset != _ABSENT:
                self._file.seek(offset)
                study, nodes = json.loads(self._file.readline())
                yield study, tuple(nodes)
        self._file.seek(self._end)


def write_tables(journal: Journal, columns: Mapping[str, str], out: Path) -> None:
    """Write studies and nodes as Parquet and CSV.

    Args:
        journal: with the rows of all studies.
        columns: of the table of studies.
        out: the folder of the tables.

    Raises:
        OSError: of the disk, with the file's name.
    """
    with ExitStack() as files:
        studies = _Table(files, out / "studies", columns)
        nodes = _Table(files, out / "nodes", NODE_COLUMNS)
        for study, rows in journal.rows():
            studies.add(study)
            for row in rows:
                nodes.add(row)
        studies.close()
        nodes.close()


def remove_tables(out: Path) -> None:
    """Delete the tables of an earlier run: while another one works they say what no longer holds."""
    for name in TABLES:
        (out / name).unlink(missing_ok=True)


class _Table:
    """One table, written to both files in batches.

    Args:
        files: closes and renames them.
        path: without an ending.
        columns: name -> type.
    """

    def __init__(self, files: ExitStack, path: Path, columns: Mapping[str, str]) -> None:
        arrow, parquet = PYARROW.load(), PYARROW.load("pyarrow.parquet")
        self._arrow, self._columns = arrow, columns
        self._schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in columns.items()])
        self._rows: list[Row] = []
        text = files.enter_context(replacing_file(path.with_name(f"{path.name}.csv")))
        binary = files.enter_context(replacing_file(path.with_name(f"{path.name}.parquet")))
        self._file = files.enter_context(text.open("w", encoding="utf-8", newline=""))
        self._csv = csv.writer(self._file)
        self._csv.writerow(columns)
        self._parquet = files.enter_context(parquet.ParquetWriter(binary, self._schema, compression="zstd"))

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left, and end both files, so that they are whole before they get their names."""
        self._flush()
        self._file.close()
        self._parquet.close()

    def _flush(self) -> None:
        columns = {name: [row.get(name) for row in self._rows] for name in self._columns}
        self._parquet.write_table(self._arrow.table(columns, schema=self._schema))
        self._csv.writerows([_cell(row.get(name)) for name in self._columns] for row in self._rows)
        self._rows = []


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
