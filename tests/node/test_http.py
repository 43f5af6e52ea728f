"""The server of two pages: what it answers, and that no client can hold it up or make it grow."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from lnfast.errors import BackendError
from lnfast.node.monitor import http as pages
from lnfast.node.monitor.http import MOST_CONNECTIONS, MOST_REQUEST_BYTES, Page, PageServer

LONG = "x" * 200_000


def broken() -> Page:
    raise ValueError("SECRET^NAME")


@pytest.fixture
def server() -> Iterator[PageServer]:
    contents = {
        "/healthz": lambda: Page(503, "application/json", "{}\n"),
        "/metrics": lambda: Page(200, "text/plain; version=0.0.4; charset=utf-8", LONG),
        "/broken": broken,
    }
    server = PageServer("127.0.0.1", 0, contents)
    server.start()
    yield server
    server.stop()
    assert not server.threads[0].is_alive()


def ask(server: PageServer, method: str, path: str, **more: object) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, **more)  # type: ignore[arg-type]
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def raw(server: PageServer, request: bytes) -> bytes:
    """What comes back until the server closes; nothing where it resets the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request)
        received = b""
        try:
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                received += part
        except OSError:
            pass
        return received


def test_pages_are_answered_whole(server: PageServer) -> None:
    status, headers, body = ask(server, "GET", "/metrics")
    assert (status, body.decode()) == (200, LONG)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Connection"] == "close" and headers["Cache-Control"] == "no-store"
    assert ask(server, "GET", "/healthz?verbose=1")[0] == 503


def test_head_has_the_headers_and_no_body(server: PageServer) -> None:
    status, headers, body = ask(server, "HEAD", "/metrics")
    assert (status, headers["Content-Length"], body) == (200, str(len(LONG)), b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(server: PageServer, method: str) -> None:
    status, headers, _ = ask(server, method, "/metrics", body=b"x=1")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/%2e%2e/etc/passwd", "//metrics"])
def test_there_are_no_other_pages(server: PageServer, path: str) -> None:
    assert ask(server, "GET", path)[0] == 404


def test_a_page_that_cannot_be_made_is_an_error_without_words(server: PageServer) -> None:
    status, _, body = ask(server, "GET", "/broken")
    assert status == 500 and b"SECRET" not in body
    assert ask(server, "GET", "/healthz")[0] == 503


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET http://elsewhere/metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"get /metrics HTTP/1.1\r\n\r\n",
        b"GET  /metrics HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_400(server: PageServer, request_bytes: bytes) -> None:
    assert raw(server, request_bytes).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_request_without_an_end_is_cut_off_at_its_limit(server: PageServer) -> None:
    started = time.monotonic()
    assert raw(server, b"GET /metrics HTTP/1.1\r\nX: " + b"a" * (100 * MOST_REQUEST_BYTES)) == b""
    assert time.monotonic() - started < 3.0
    assert ask(server, "GET", "/healthz")[0] == 503


def test_silent_and_slow_clients_are_put_out_and_hold_nobody_up(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "CONNECTION_S", 1.0)
    threads = threading.active_count()
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(MOST_CONNECTIONS - 4)]
    try:
        for number, client in enumerate(clients):
            if number % 2:
                client.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
            else:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")  # and it reads nothing
        started = time.monotonic()
        assert ask(server, "GET", "/healthz")[0] == 503
        assert time.monotonic() - started < 0.9, "it waited for the others"
        assert threading.active_count() == threads, "a client took a thread"
        time.sleep(1.5)
        for client in clients:
            try:
                while client.recv(65536):
                    pass
            except OSError:
                continue  # reset: put out
    finally:
        for client in clients:
            client.close()
    assert server._open == 0


def test_more_clients_than_allowed_are_turned_away_and_the_server_goes_on(server: PageServer) -> None:
    clients = []
    try:
        for _ in range(3 * MOST_CONNECTIONS):
            with suppress(ConnectionResetError):  # it was turned away before it knew that it was connected
                clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        time.sleep(0.2)
        assert len(clients) >= MOST_CONNECTIONS
        assert server._open <= MOST_CONNECTIONS
    finally:
        for client in clients:
            client.close()
    deadline = time.monotonic() + 5
    while server._open and time.monotonic() < deadline:
        time.sleep(0.01)
    with ThreadPoolExecutor(8) as pool:
        assert {status for status, _, _ in pool.map(lambda _: ask(server, "GET", "/metrics"), range(40))} == {200}


def test_a_client_that_is_there_at_the_end_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    server = PageServer("127.0.0.1", 0, {})
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"GET /")
        deadline = time.monotonic() + 5
        while not server._open and time.monotonic() < deadline:
            time.sleep(0.01)
        server.stop()
    assert not server.threads[0].is_alive() and not caplog.records


def test_a_port_in_use_is_an_error_and_leaves_nothing_behind(server: PageServer) -> None:
    threads = threading.active_count()
    with pytest.raises(BackendError, match="in use") as refused:
        PageServer("127.0.0.1", server.port, {}).start()
    assert refused.value.code == "port-unavailable"
    assert threading.active_count() == threads


def test_it_shows_that_it_lives(server: PageServer) -> None:
    time.sleep(0.1)
    assert server.threads[0].name == "lnfast-http" and not server.lives[0].overdue()
