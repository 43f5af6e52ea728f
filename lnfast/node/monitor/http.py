"""A web server for two small pages that are read over the loopback interface, and for nothing else.

One thread serves all clients. A request is a GET or a HEAD of at most `MOST_REQUEST_BYTES`, and a connection has
`CONNECTION_S` for everything, so that a client which is slow, silent or hostile costs a socket for a few seconds: it
takes no thread, no memory that grows and nobody else's turn.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lnfast._version import __version__
from lnfast.errors import BackendError
from lnfast.node.monitor.life import ThreadedPart

MOST_REQUEST_BYTES = 8192
MOST_CONNECTIONS = 32
CONNECTION_S = 5.0
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,1024}) HTTP/1\.[01]")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_logger = logging.getLogger("lnfast.node.http")


@dataclass(frozen=True)
class Page:
    """What is answered.

    Attributes:
        status: 200 or 503.
        content_type: with its charset.
        text: the body.
    """

    status: int
    content_type: str
    text: str


class PageServer(ThreadedPart):
    """Serves pages from a thread of its own.

    Args:
        bind, port: to listen on; port 0 lets the system choose.
        pages: by path; each is made anew for every request.
    """

    def __init__(self, bind: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        super().__init__("lnfast-http", self._run)
        self._bind, self._port, self._pages = bind, port, pages
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open = 0

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def start(self) -> None:
        """Listen.

        Raises:
            BackendError: ``port-unavailable``.
        """
        try:
            self._server = self._loop.run_until_complete(
                asyncio.start_server(self._serve, self._bind, self._port, limit=MOST_REQUEST_BYTES)
            )
        except OSError as error:
            self._loop.close()
            reason = os.strerror(error.errno or 0)
            raise BackendError(
                "port-unavailable",
                f"cannot listen on {self._bind} port {self._port}: {reason}; give another health_bind or health_port",
            ) from error
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CONNECTION_S)

    def _run(self) -> None:
        beating = self._loop.create_task(self._beat())
        try:
            self._loop.run_forever()
        finally:
            assert self._server is not None
            self._server.close()
            tasks = asyncio.all_tasks(self._loop) | {beating}
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0))  # in which the connections are closed
            self._loop.close()

    async def _beat(self) -> None:
        while True:
            self._life.beat()
            await asyncio.sleep(1.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        answered = False
        try:
            if self._open <= MOST_CONNECTIONS:
                await asyncio.wait_for(self._answer(reader, writer), CONNECTION_S)
                answered = True
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # the client was too slow, said too much, or went away
        except asyncio.CancelledError:
            pass  # the server stops; asyncio of Python 3.11 takes a cancelled client for a fault
        finally:
            if not answered:  # what the kernel holds for this client goes as well
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._open -= 1
            writer.transport.abort()  # waits for nobody

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, page = self._page(head.partition(b"\r\n")[0])
        body = page.text.encode()
        lines = (
            f"HTTP/1.1 {page.status} {_REASONS[page.status]}",
            f"Server: lnfast/{__version__}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *(("Allow: GET, HEAD",) if page.status == 405 else ()),
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + (b"" if method == "HEAD" else body))
        await writer.drain()
        writer.write_eof()
        while await reader.read(MOST_REQUEST_BYTES):  # until the client has everything and closes
            pass

    def _page(self, request_line: bytes) -> tuple[str, Page]:
        match = _REQUEST_LINE.fullmatch(request_line)
        if match is None:
            return "GET", _error(400)
        method, path = match[1].decode(), match[2].decode().partition("?")[0]
        if method not in ("GET", "HEAD"):
            return method, _error(405)
        make = self._pages.get(path)
        if make is None:
            return method, _error(404)
        try:
            return method, make()
        except Exception as error:
            _logger.error("a page could not be made", exc_info=error)
            return method, _error(500)


def _error(status: int) -> Page:
    return Page(status, "text/plain; charset=utf-8", f"{status} {_REASONS[status]}\n")
