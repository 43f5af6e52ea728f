"""The file of the ledger: its tables, how it is opened, and what is done with one that is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lnfast.errors import BackendError, LnfastError

VERSION = 1
# The header's application id: a ledger that was made, and one that knows what the spool had by then.
NEW, COMPLETE = 0x4C4E4E30, 0x4C4E4E31
_LEAST_BYTES = 64 << 10  # SQLite opens no ledger with less, and calls that an "I/O error"
_BUSY_S = 20.0  # another process, such as ``lnfast node retry``, holds the ledger for milliseconds
_COMPANIONS = ("-wal", "-shm")
_TABLES = """
CREATE TABLE exams (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, code TEXT, message TEXT, first_at REAL NOT NULL, last_at REAL NOT NULL,
    ended TEXT, instances INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, started_at REAL, choice TEXT
);
CREATE INDEX exams_by_state ON exams (state);
CREATE TABLE missing (exam TEXT NOT NULL, sop_key TEXT NOT NULL, PRIMARY KEY (exam, sop_key));
CREATE TABLE results (
    id INTEGER PRIMARY KEY, exam TEXT NOT NULL, number INTEGER NOT NULL, revision INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, report_sha256 TEXT NOT NULL, n_stage TEXT NOT NULL, predecessor INTEGER,
    created_at REAL NOT NULL, released_at REAL, UNIQUE (exam, number)
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, result INTEGER NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, first_at REAL NOT NULL, next_at REAL NOT NULL, code TEXT, status TEXT,
    sent_at REAL, UNIQUE (result, target)
);
CREATE INDEX jobs_due ON jobs (target, state, next_at);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, exam TEXT, kind TEXT NOT NULL, code TEXT, message TEXT
);
"""


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open a ledger for writing; make it where it is missing or empty.

    Raises:
        LnfastError: ``ledger-damaged``, ``ledger-newer``.
        BackendError: ``spool-full``, ``spool-failed``.
    """
    with ledger_errors(path):
        connection = _connect(path, "rwc")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            if _version(connection) == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute(f"PRAGMA application_id = {NEW}")
            connection.execute("COMMIT")
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a ledger that is there, also while a node writes to it; nothing of it is changed.

    Raises:
        LnfastError: ``ledger-damaged``, ``ledger-newer``.
        BackendError: ``spool-failed``: it is not there, or cannot be read.
    """
    with ledger_errors(path):
        connection = _connect(path, "ro")
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def move_aside(path: Path) -> Path:
    """Rename a damaged ledger, with the files that SQLite keeps beside it; return its new name."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
    for companion in (*_COMPANIONS, ""):  # the ledger last: after a kill the next start does the rest
        if (source := path.with_name(path.name + companion)).exists():
            os.replace(source, aside.with_name(aside.name + companion))
    return aside


@contextmanager
def ledger_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says into an error with a code.

    Raises:
        LnfastError: ``ledger-damaged``.
        BackendError: ``spool-full``, ``spool-failed``.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error) or _is_full(path.parent):
            raise BackendError("spool-full", f"the disk of the ledger {path} is full") from error
        raise BackendError("spool-failed", f"the ledger {path} cannot be used: {error}") from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,  # transactions begin where the ledger says
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > VERSION:
        raise LnfastError(
            "ledger-newer", f"the ledger {path} was written by a newer lnfast (version {version}); install that one"
        )
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"exams", "missing", "results", "jobs", "events"} <= tables:
        raise _damaged(path, "tables are missing")
    page = connection.execute("PRAGMA page_size").fetchone()[0]
    if path.stat().st_size % page:  # SQLite fills a last page that was cut with zeros
        raise _damaged(path, "its end is missing")
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise _damaged(path, str(problem))


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _LEAST_BYTES
    except OSError:
        return False


def _damaged(path: Path, reason: str) -> LnfastError:
    return LnfastError(
        "ledger-damaged",
        f"the ledger {path} is damaged ({reason}); the node moves it aside when it starts and goes on from the files",
    )
