"""The log: one line an event, without anything that a header holds."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from dicom_files import SECRET

from lnfast.errors import StudyError
from lnfast.node.monitor import logs

UID = "1.3.12.2.1107.5.2.30.26380.20261130120000123456"
Lines = Callable[[], list[str]]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A stream to configure the log with; the process has its own log again afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("lnfast")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    for place, name in (
        (sys, "excepthook"),
        (threading, "excepthook"),
        (sys, "unraisablehook"),
        (warnings, "showwarning"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def refused() -> StudyError:
    try:
        from lnfast.study import read_study

        read_study("/nowhere/of/interest.nii")
    except StudyError as error:
        return error
    raise AssertionError("a study that is not there was read")


def test_a_line_of_text_has_time_with_zone_level_place_and_fields(stream: io.StringIO) -> None:
    logs.configure("text", "info", stream)
    logging.getLogger("lnfast.node.worker").warning(
        "the exam is dead", extra={"exam": "0123456789abcdef", "code": "missing-slices", "seconds": 12.5, "attempt": 3}
    )
    logging.getLogger("lnfast.node.worker").debug("not at this level")
    (line,) = stream.getvalue().splitlines()
    time, _, rest = line.partition(" ")
    assert datetime.fromisoformat(time).tzinfo is not None
    assert rest == (
        "WARNING node.worker: the exam is dead exam=0123456789abcdef code=missing-slices attempt=3 seconds=12.500"
    )


def test_a_line_of_json_is_one_object_with_the_same_fields(stream: io.StringIO) -> None:
    logs.configure("json", "debug", stream)
    logging.getLogger("lnfast.node").info("two\nlines and \x1b[31m", extra={"target": "pacs", "status": 0xA700})
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert datetime.fromisoformat(event.pop("time")).tzinfo is not None
    assert event == {
        "level": "INFO",
        "logger": "lnfast.node",
        "message": "two lines and ?[31m",
        "target": "pacs",
        "status": 0xA700,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_its_type_code_and_place_and_never_its_text(stream: io.StringIO, form: str) -> None:
    logs.configure(form, "info", stream)  # type: ignore[arg-type]
    logger = logging.getLogger("lnfast.node.receiver")
    for error in (refused(), ValueError(f"bad value {SECRET} of {UID}"), OSError(28, SECRET, SECRET)):
        logger.error("an instance could not be read", exc_info=error)
    first, second, third = stream.getvalue().splitlines()
    assert SECRET not in stream.getvalue() and UID not in stream.getvalue() and "interest" not in stream.getvalue()
    assert "StudyError" in first and refused().code in first and re.search(r"study/\w+\.py:\d+", first)
    assert "ValueError" in second and "OSError" in third and "ENOSPC" in third


def test_the_code_of_the_caller_is_not_replaced(stream: io.StringIO) -> None:
    logs.configure("json", "info", stream)
    logging.getLogger("lnfast.node").error("given up", exc_info=refused(), extra={"code": "worker-died"})
    assert json.loads(stream.getvalue())["code"] == "worker-died"


def test_what_looks_like_a_uid_is_left_out_and_an_address_is_not(stream: io.StringIO) -> None:
    logs.configure("text", "info", stream)
    logging.getLogger("lnfast.node").info("a %s b 10.0.0.5:104 c %s", UID, "2.25.123456789012345678901234567890.1.2.3")
    assert stream.getvalue().endswith("a (uid) b 10.0.0.5:104 c (uid)\n")


def test_another_package_is_told_by_its_place(stream: io.StringIO) -> None:
    logs.configure("text", "debug", stream)
    logging.getLogger("pynetdicom.acse").error("peer sent %s", SECRET)
    logging.getLogger("pydicom").warning("broken %d", SECRET)  # does not even fit its format
    logging.getLogger("pynetdicom.assoc").info("of no interest %s", SECRET)
    first, second = stream.getvalue().splitlines()
    assert "pynetdicom.acse: message of another package at test_logs.py:" in first
    assert "pydicom: " in second and "SECRET" not in stream.getvalue()


def test_a_stream_that_takes_nothing_stops_nobody() -> None:
    code = (
        "import logging, sys; from lnfast.node.monitor import logs; logs.configure('text', 'info');"
        "logging.getLogger('lnfast').error('x'); print('went on')"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.stdout == "went on\n"


CRASH = f"""
import threading, warnings
from lnfast.node.monitor import logs
logs.configure("text", "info")
def fall(): raise ValueError("{SECRET} 1")
thread = threading.Thread(target=fall, name="lnfast-test"); thread.start(); thread.join()
warnings.warn("{SECRET} 2")
class Late:
    def __del__(self): raise ValueError("{SECRET} 3")
Late()
raise KeyError("{SECRET} 4")
"""


def test_no_crash_prints_what_an_exception_says() -> None:
    done = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "SECRET" not in done.stderr + done.stdout, done.stderr
    thread, warning, late, last = done.stderr.splitlines()
    assert "thread_name=lnfast-test error=ValueError" in thread
    assert "UserWarning at <string>:7" in warning and "error=ValueError" in late
    assert "CRITICAL" in last and "error=KeyError" in last
