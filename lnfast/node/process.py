"""The process of a node: signals, rights and limits, and the exit code."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lnfast.errors import LnfastError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.monitor import logs
from lnfast.node.monitor.systemd import Systemd
from lnfast.node.service import Service

# Python's 5 ms make each of the few waits of an instance that long while the worker builds a result: 84 instances took
# 1.6 to 2.1 s in place of 0.4 to 0.6; with 1 ms they take about as long as without.
_SWITCH_S = 1e-3

_logger = logging.getLogger("lnfast.node")


def run_node(config: NodeConfig) -> int:
    """Run a node in this process until a signal ends it: the first lets it drain, the second ends it at once.

    Returns:
        The exit code: 0 after a drain, 2 and 5 for what must be changed before another start, 1 after a fault. The last
        line of the log says why.
    """
    logs.configure(config.log.format, config.log.level)
    _protect()
    sys.setswitchinterval(_SWITCH_S)
    with _signals() as signals:
        try:
            service = Service(config, Systemd())
            code = service.run(signals.wait)
        except LnfastError as error:
            _logger.critical("%s", error.message, extra={"code": error.code})
            return error.exit_code
        except Exception as error:
            _logger.critical("the node ends by a fault", exc_info=error)
            return LnfastError.exit_code
        if service.has_threads():  # native code that is still at work would make the interpreter's end a crash
            logging.shutdown()
            os._exit(code)
        return code


class _Signals:
    """The signals that arrived."""

    def __init__(self) -> None:
        self.readable, self.writable = os.pipe()
        self._received = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """Note the first signal; the second ends the process. Nothing here may take a lock."""
        if self._received:
            os._exit(128 + number)
        self._received = True
        os.write(self.writable, b"\0")

    def wait(self, seconds: float) -> bool:
        """Wait for a signal; return whether there was one."""
        return bool(select.select([self.readable], [], [], seconds)[0])


@contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    before = {number: signal.signal(number, signals.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(signals.readable)
        os.close(signals.writable)


def _protect() -> None:
    """See to it that nobody else may read what is written, and that no core file holds patients' images."""
    os.umask(0o077)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
