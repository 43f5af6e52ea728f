"""DICOM peers that do exactly what a test wants, also what no peer should: a socket and a script."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

Step = Callable[[socket.socket], None]


@contextmanager
def scripted_peer(*steps: Step, receive_buffer: int | None = None) -> Iterator[int]:
    """A peer on loopback that takes connections one after the other and runs the steps on each; yields its port.

    At the end all its connections are closed, so a step may wait in ``recv`` for ever.
    """
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            with connection, suppress(OSError):
                for step in steps:
                    step(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        thread = threading.Thread(target=serve, name="scripted-peer", daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


def read_pdu(connection: socket.socket) -> bytes:
    """A whole PDU."""
    data = _exactly(connection, 6)
    return data + _exactly(connection, int.from_bytes(data[2:6], "big"))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data


def accept(connection: socket.socket, *, reject: Sequence[int] = (), max_length: int = 16384) -> None:
    """Read a request for an association and accept it, but for the contexts with some indices."""
    request = A_ASSOCIATE_RQ()
    request.decode(read_pdu(connection))
    proposed = request.to_primitive()
    answer = A_ASSOCIATE()
    answer.application_context_name = proposed.application_context_name
    answer.calling_ae_title, answer.called_ae_title = proposed.calling_ae_title, proposed.called_ae_title
    answer.result, answer.result_source = 0, 1
    contexts = proposed.presentation_context_definition_list
    for index, context in enumerate(contexts):
        context.result = 3 if index in reject else 0
    answer.presentation_context_definition_results_list = contexts
    answer.user_information = [item for item in proposed.user_information if hasattr(item, "maximum_length_received")]
    answer.user_information[0].maximum_length_received = max_length
    answer.user_information += [item for item in proposed.user_information if hasattr(item, "implementation_class_uid")]
    acceptance = A_ASSOCIATE_AC()
    acceptance.from_primitive(answer)
    connection.sendall(acceptance.encode())


def read_message(connection: socket.socket) -> int:
    """Read a request with its data set, if it has one; return its message id."""
    command, data_set_done = b"", False
    message_id: int | None = None
    while message_id is None or not data_set_done:
        data = read_pdu(connection)
        if data[0] != 4:  # it was aborted or released
            raise ConnectionResetError
        body = data[6:]
        while body:
            length = int.from_bytes(body[:4], "big")
            control, part = body[5], body[6 : 4 + length]
            body = body[4 + length :]
            if control & 1:
                command += part
                if control & 2:
                    elements = _elements(command)
                    message_id = int.from_bytes(elements[0x0110], "little")
                    data_set_done = elements[0x0800] == b"\x01\x01"
            elif control & 2:
                data_set_done = True
    return message_id


def _elements(command: bytes) -> dict[int, bytes]:
    elements, at = {}, 0
    while at < len(command):
        length = int.from_bytes(command[at + 4 : at + 8], "little")
        elements[int.from_bytes(command[at + 2 : at + 4], "little")] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return elements


def response(message_id: int, status: int, *, field: int = 0x8001, context_id: int = 1) -> bytes:
    """A P-DATA-TF with a response."""
    values = ((0x0100, field), (0x0120, message_id), (0x0800, 0x0101), (0x0900, status))
    command = b"".join(b"\0\0" + tag.to_bytes(2, "little") + b"\2\0\0\0" + n.to_bytes(2, "little") for tag, n in values)
    fragment = (len(command) + 2).to_bytes(4, "big") + bytes((context_id, 3)) + command
    return b"\x04\0" + len(fragment).to_bytes(4, "big") + fragment


def answer(status: int = 0) -> Step:
    """Read a message and answer it."""
    return lambda connection: connection.sendall(response(read_message(connection), status))


def say(data: bytes) -> Step:
    """Send some bytes."""
    return lambda connection: connection.sendall(data)


def hold(connection: socket.socket) -> None:
    """Keep the connection open and take what comes, until the test ends."""
    while connection.recv(65536):
        pass


def stall(connection: socket.socket) -> None:
    """Keep the connection open and take nothing, until it ends."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    poll.poll()


def serve(connection: socket.socket, *, hang_up_on: str | None = None) -> None:
    """Answer each store with success until the release, and answer that; hang up on a SOP instance UID."""
    command = b""
    while (data := read_pdu(connection))[0] == 4:
        if data[11] & 1:
            command = data[12:]
            if hang_up_on and hang_up_on.encode() + b"\0" in command:
                raise ConnectionResetError
        elif data[11] & 2:
            message_id = int.from_bytes(_elements(command)[0x0110], "little")
            connection.sendall(response(message_id, 0, context_id=data[10]))
    if data[0] == 5:
        connection.sendall(b"\x06\0\0\0\0\x04\0\0\0\0")


@contextmanager
def store_peer(
    on_store: Callable[[Any], int], contexts: Sequence[tuple[str, str]], *, aet: str = "SINK", **settings: Any
) -> Iterator[int]:
    """A PACS made of pynetdicom; yields its port.

    Args:
        on_store: gives the status of the answer to an event of pynetdicom.
        contexts: SOP class and transfer syntax that it accepts, besides the verification.
        aet: its AE title.
        settings: attributes of its `AE`, such as ``require_called_aet``.
    """
    entity = AE(aet)
    entity.add_supported_context("1.2.840.10008.1.1")
    for sop_class, syntax in contexts:
        entity.add_supported_context(sop_class, syntax)
    for name, value in settings.items():
        setattr(entity, name, value)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        server.server_close()
