"""The log of the node: one line an event, as text or as JSON, on standard error, with nothing of a patient.

A line has a time with its zone, the level, the logger, a message, and whichever of `FIELDS` the caller gave::

    logger.warning("the exam is dead", extra={"exam": exam_id, "code": error.code}, exc_info=error)

An exception is logged as its type, its code and the line of lnfast in which it was raised: the text of an exception of
pydicom quotes headers. For the same reason what other packages log or warn of is told by its place alone, and whatever
looks like a UID is left out of every line.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from lnfast.errors import LnfastError

# In this order. `exam` is the keyed hash by which the node calls an exam.
FIELDS = (
    "exam",
    "code",
    "target",
    "peer",
    "thread_name",
    "at",
    "result",
    "instances",
    "refused",
    "attempt",
    "seconds",
    "status",
    "amount",
)
_OURS = "lnfast"
_PACKAGE = Path(__file__).parents[2]
# Five dots and more: an address has three.
_UID = re.compile(r"(?<![\w.])[0-2](?:\.\d+){5,}")


def configure(form: Literal["text", "json"], level: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to standard error, and see to it that no exception prints its text there.

    Args:
        form: of a line.
        level: the least that is logged of lnfast; of other packages it is WARNING.
        stream: in place of standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text())
    root = logging.getLogger()
    for former in tuple(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())
    logging.raiseExceptions = False  # a full disk behind stderr must not stop the node, nor print the record
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    warnings.showwarning = _warned


class Text(logging.Formatter):
    """A line for people: ``2026-11-30T12:00:00.000+01:00 WARNING node.worker: message exam=... code=...``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        entries = dict(_entries(record))
        head = f"{entries.pop('time')} {entries.pop('level')} {entries.pop('logger').removeprefix(f'{_OURS}.')}"
        message = entries.pop("message")
        return " ".join([f"{head}: {message}", *(f"{name}={_word(value)}" for name, value in entries.items())])


class Json(logging.Formatter):
    """A line for machines: a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return json.dumps(dict(_entries(record)), ensure_ascii=True)


def _entries(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    yield "time", datetime.fromtimestamp(record.created, timezone.utc).astimezone().isoformat(timespec="milliseconds")
    yield "level", record.levelname
    yield "logger", record.name
    if record.name.partition(".")[0] == _OURS:
        yield "message", _clean(record.getMessage())
    else:  # its words may quote a header
        yield "message", f"message of another package at {Path(record.pathname).name}:{record.lineno}"
    for name in FIELDS:
        value = getattr(record, name, None)
        if value is not None:
            yield name, value if isinstance(value, (int, float)) else _clean(str(value))
    if record.exc_info and record.exc_info[1] is not None:
        yield from _exception(record.exc_info[1], has_code=getattr(record, "code", None) is not None)


def _exception(error: BaseException, *, has_code: bool) -> Iterator[tuple[str, str]]:
    yield "error", type(error).__name__
    if isinstance(error, LnfastError) and not has_code:
        yield "code", error.code
    if isinstance(error, OSError) and error.errno is not None:
        yield "errno", errno.errorcode.get(error.errno, str(error.errno))
    yield "at", place(error)


def place(error: BaseException) -> str:
    """Return the last line of lnfast's own code that an exception passed, such as ``node/exams/worker.py:120``."""
    ours = "?"
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            ours = f"{path.relative_to(_PACKAGE).as_posix()}:{line}"
    return ours


def _clean(text: str) -> str:
    """Return one printable line without UIDs."""
    line = _UID.sub("(uid)", " ".join(text.split()))
    return "".join(character if character.isprintable() else "?" for character in line)


def _word(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return json.dumps(text) if " " in text or not text else text


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("lnfast.node").critical("an exception that nothing caught", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None:
        return
    logging.getLogger("lnfast.node").critical(
        "a thread ended by an exception that nothing caught",
        exc_info=args.exc_value,
        extra={"thread_name": args.thread.name if args.thread else "?"},
    )


def _unraisable(args: Any) -> None:
    if args.exc_value is not None:
        logging.getLogger("lnfast.node").error("an exception that could not be raised", exc_info=args.exc_value)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    logging.getLogger("lnfast.node").warning("%s at %s:%d", category.__name__, Path(filename).name, lineno)
