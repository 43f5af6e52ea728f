"""Peers that break the protocol, hang, flood or lie: a defined answer, bounded memory, and the next one is served."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_network import dcmsend, echo, program, wait_until
from exam_files import write_exam
from receiver_process import ReceiverProcess, receiver_process
from receivers import (
    LOOPBACK,
    MR,
    QUICK,
    RELEASE,
    RawPeer,
    command_pdu,
    echo_pdus,
    encoded_image,
    request_pdu,
    store_pdus,
)

MIB = 1 << 20
AT_REST = 2  # threads: the program's own, and the one that accepts
HEADROOM = 24 * MIB  # above what a receiver holds at rest
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
INVALID, UNEXPECTED, UNRECOGNIZED, NOT_SPECIFIED = 6, 2, 1, 0


def aborted(reason: int) -> tuple[int, bytes]:
    """An A-ABORT by the provider."""
    return 7, bytes((0, 0, 2, reason))


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with receiver_process(tmp_path_factory.mktemp("hostile"), limits={"pdu_s": 1.0}) as process:
        assert echo(process.port)
        dcmsend(process.port, *write_exam(tmp_path_factory.mktemp("exam"), "warm"))  # everything is imported by now
        yield process


@pytest.fixture
def node(process: ReceiverProcess) -> Iterator[ReceiverProcess]:
    """The receiver; behind the test it must serve, and hold what it held before."""
    wait_until(lambda: process.threads() == AT_REST, "it is at rest", 10)
    descriptors, resident = process.descriptors(), process.resident_bytes()
    process.reset_peak()
    yield process
    assert echo(process.port)
    wait_until(lambda: process.threads() == AT_REST, "the threads are gone", 10)
    wait_until(lambda: process.descriptors() == descriptors, "the descriptors are closed", 10)
    assert process.peak_bytes() < resident + HEADROOM
    assert list((process.folder / "spool" / "incoming").iterdir()) == []
    assert "Traceback" not in process.log()


def test_a_hundred_silent_and_a_hundred_half_requests_keep_nobody_out(node: ReceiverProcess, tmp_path: Path) -> None:
    waiting = [RawPeer(node.port) for _ in range(200)]
    request = request_pdu()
    for number, peer in enumerate(waiting[100:]):
        peer.write(request[: number + 1])
    wait_until(lambda: node.descriptors() > 200, "all are accepted", 10)
    assert node.threads() == AT_REST
    dcmsend(node.port, *write_exam(tmp_path / "exam", "x"))
    for peer in waiting:
        assert peer.read() == (0, b"")  # the time for a request is over
        peer.connection.close()


def test_silent_connections_take_no_processor(node: ReceiverProcess) -> None:
    waiting = [RawPeer(node.port) for _ in range(100)]
    association = RawPeer(node.port)
    association.associate()
    begin = node.cpu_s()
    time.sleep(1.0)
    assert node.cpu_s() - begin < 0.1
    for peer in (*waiting, association):
        peer.connection.close()


def test_more_than_may_wait_crowd_out_those_that_waited_longest(node: ReceiverProcess) -> None:
    crowd = [RawPeer(node.port) for _ in range(400)]
    assert echo(node.port)
    assert crowd[0].read() == (0, b"")
    assert node.descriptors() < 330
    for peer in crowd:
        peer.connection.close()
    assert node.counted()['associations_total{outcome="crowded-out"}'] >= 1  # others had waited too long by then


def test_without_a_free_descriptor_those_that_have_waited_longest_give_theirs(tmp_path: Path) -> None:
    prefix = ("sh", "-c", 'ulimit -n 40 && exec "$@"', "sh")
    with receiver_process(tmp_path, prefix=prefix, limits={"request_s": 60.0}) as node:
        crowd = [RawPeer(node.port) for _ in range(80)]
        assert echo(node.port)
        dcmsend(node.port, *write_exam(tmp_path / "exam", "y"))
        assert crowd[0].read() == (0, b"")
        for peer in crowd:
            peer.connection.close()
        assert "code=no-descriptor" in node.log()


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (struct.pack(">BxI", 1, 0xFFFFFFFF) + bytes(1000), INVALID),
        (struct.pack(">BxI", 1, 10) + bytes(10), INVALID),
        (struct.pack(">BxI", 1, 68) + bytes(68), INVALID),  # no context
        (struct.pack(">BxI", 0, 0xFFFFFFFF), UNRECOGNIZED),
        (b"GET / HTTP/1.1\r\n\r\n", UNRECOGNIZED),
        (b"\x16\x03\x01\x02\x00\x01\x00", UNRECOGNIZED),  # TLS
        (store_pdus(encoded_image())[0], UNEXPECTED),
        (struct.pack(">BxI", 4, 0xFFFFFFFF), UNEXPECTED),
        (RELEASE, UNEXPECTED),
        (request_pdu() + store_pdus(encoded_image())[0], UNEXPECTED),  # without waiting for the answer
    ],
)
def test_what_is_no_request_is_aborted_at_once(node: ReceiverProcess, first: bytes, reason: int) -> None:
    with RawPeer(node.port) as peer:
        begin = time.monotonic()
        peer.write(first)
        assert peer.ended() == aborted(reason)
        assert time.monotonic() - begin < 1


def test_an_abort_before_the_association_needs_no_answer(node: ReceiverProcess) -> None:
    with RawPeer(node.port) as peer:
        peer.write(bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
        assert peer.read() == (0, b"")


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        (struct.pack(">BxI", 4, 0xFFFFFFFF), INVALID),
        (struct.pack(">BxI", 4, (1 << 20) + 1), INVALID),
        (struct.pack(">BxI", 5, 0xFFFFFFFF), INVALID),
        (struct.pack(">BxI", 7, 0xFFFFFFFF), INVALID),
        (struct.pack(">BxI", 4, 0), INVALID),  # a P-DATA-TF without a fragment
        (struct.pack(">BxIIBB", 4, 6, 0xFFFFFFFF, 3, 3), INVALID),
        (struct.pack(">BxIIBB", 4, 6, 1, 3, 3), INVALID),
        (struct.pack(">BxIIBB", 4, 6, 0, 3, 3), INVALID),
        (struct.pack(">BxI", 4, 5) + bytes(5), INVALID),
        (struct.pack(">BxI", 99, 4), UNRECOGNIZED),
        (struct.pack(">BxI", 6, 4) + bytes(4), UNEXPECTED),
        (request_pdu(), UNEXPECTED),  # a second request
        (command_pdu(b"", context_id=99), INVALID),  # a context that was not accepted
        (command_pdu(b"x" * 100, control=0), 5),  # a data set without a command
        (command_pdu(b"\0" * 7), INVALID),  # half an element
        (command_pdu(struct.pack("<HHI", 0, 0x0002, 0xFFFFFFFF) + b"1.2"), INVALID),
        (command_pdu(struct.pack("<HHI", 8, 0x1140, 0) * 10), INVALID),  # not of group 0
        (command_pdu(struct.pack("<HHI", 0, 0x0100, 0)), INVALID),
        (command_pdu(struct.pack("<HHIH", 0, 0x0100, 2, 1)), INVALID),  # no message id
    ],
)
def test_what_breaks_the_protocol_of_an_association_is_aborted_for_the_reason(
    node: ReceiverProcess, pdu: bytes, reason: int
) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(pdu)
        assert peer.ended() == aborted(reason)


def command(field: int, *, data_set: bool = False) -> bytes:
    """The command set of a request of any kind."""
    values = ((0x0002, MR.encode() + b"\0"), (0x0100, field), (0x0110, 1), (0x0800, 1 if data_set else 0x0101))
    parts = [(element, struct.pack("<H", value) if isinstance(value, int) else value) for element, value in values]
    return b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in parts)


FOREIGN = (0x0020, 0x0021, 0x0010, 0x0130, 0x8001, 0x1234)  # C-FIND, C-MOVE, C-GET, N-ACTION, an answer, nothing


@pytest.mark.parametrize(
    ("field", "data_set"), [(field, data_set) for field in FOREIGN for data_set in (False, True)] + [(0x0001, False)]
)
def test_commands_that_no_context_is_for_are_aborted(node: ReceiverProcess, field: int, data_set: bool) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(command_pdu(command(field, data_set=data_set)))
        assert peer.ended() == aborted(5)


def test_a_store_by_the_context_of_echo_is_aborted(node: ReceiverProcess) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(*store_pdus(encoded_image(), context_id=1))
        assert peer.ended() == aborted(5)


def test_a_cancel_of_nothing_is_no_fault(node: ReceiverProcess) -> None:
    cancel = struct.pack("<HHIHHHIHHHIH", 0, 0x0100, 2, 0x0FFF, 0, 0x0120, 2, 1, 0, 0x0800, 2, 0x0101)
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(command_pdu(cancel), *echo_pdus())
        assert peer.status() == 0


def test_a_command_set_without_an_end_is_aborted(node: ReceiverProcess) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        piece = command_pdu(bytes(10_000), control=1)
        peer.write(*[piece] * 10)
        assert peer.ended() == aborted(INVALID)


def context_item(number: int, syntaxes: int = 1) -> bytes:
    """A presentation context of a request, whatever its number."""
    names = [(0x30, MR.encode())] + [(0x40, f"1.2.840.10008.1.2.{index}".encode()) for index in range(syntaxes)]
    inner = b"".join(struct.pack(">BxH", kind, len(name)) + name for kind, name in names)
    return struct.pack(">BxHB3x", 0x20, len(inner) + 4, number & 0xFF) + inner


@pytest.mark.parametrize(
    "items",
    [
        b"".join(context_item(2 * index + 1) for index in range(3000)),  # ids come again and again
        b"".join(context_item(2 * index + 1) for index in range(129)),
        context_item(1) * 2,
        context_item(2),  # an even id
        context_item(1, 0),
        context_item(1)[:-1],
        b"\x20\0\0\0" * 10_000,
        b"\x20\0\xff\xff" + bytes(100),
    ],
)
def test_contexts_that_there_cannot_be_are_aborted(node: ReceiverProcess, items: bytes) -> None:
    request = request_pdu()[6:74] + items
    with RawPeer(node.port) as peer:
        peer.write(struct.pack(">BxI", 1, len(request)), request)
        assert peer.ended() == aborted(INVALID)


def test_as_many_syntaxes_as_a_request_has_room_for_are_negotiated_quickly(node: ReceiverProcess) -> None:
    items = struct.pack(">BxH", 0x10, 21) + b"1.2.840.10008.3.1.1.1"
    items += b"".join(context_item(2 * index + 1, 80) for index in range(128))
    request = request_pdu()[6:74] + items
    assert 200_000 < len(request) < 256 << 10
    with RawPeer(node.port) as peer:
        begin = time.monotonic()
        peer.write(struct.pack(">BxI", 1, len(request)), request)
        kind, body = peer.read()
        assert kind == 2 and body.count(b"\x21\0") >= 128
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize("uid", ["../../etc/passwd", "", "1" * 10_000, "1.2.3\n", "1.2.3\\1.2.4", "\xe4", " ", "9.1"])
def test_a_uid_that_is_none_is_answered_and_never_a_path(node: ReceiverProcess, uid: str) -> None:
    value = uid.encode("latin-1") + b"\0" * (len(uid) % 2)
    values = [(2, MR.encode() + b"\0"), (0x100, b"\1\0"), (0x110, b"\7\0"), (0x700, b"\0\0"), (0x800, b"\1\0")]
    parts = [struct.pack("<HHI", 0, element, len(text)) + text for element, text in [*values, (0x1000, value)]]
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(command_pdu(b"".join(parts)), command_pdu(encoded_image(), control=2))
        assert peer.status() == 0x0117
        peer.write(command_pdu(b"".join(parts[:-1])), command_pdu(encoded_image(), control=2))  # none at all
        assert peer.status() == 0x0117
        peer.write(*store_pdus(encoded_image()))
        assert peer.status() == 0
    assert all(re.fullmatch("[0-9a-f]{32}", path.stem) for path in node.folder.rglob("*.dcm"))
    assert {path.name for path in node.folder.iterdir()} <= {"spool", "log", "metrics"}


def test_an_instance_in_single_bytes_is_taken(node: ReceiverProcess) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        for pdu in store_pdus(encoded_image("1.2.77", pixels=64), sop_uid="1.2.77"):
            for index in range(len(pdu)):
                peer.write(pdu[index : index + 1])
        assert peer.status() == 0
        peer.write(RELEASE)
        assert peer.ended()[0] == 6


def test_a_pdu_that_trickles_is_given_up(node: ReceiverProcess) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        begin = time.monotonic()
        pdu = store_pdus(encoded_image())[0]
        for index in range(len(pdu)):
            try:
                peer.write(pdu[index : index + 1])
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - begin < 4  # one second for a PDU, 50 ms for each byte


def test_a_message_that_trickles_in_whole_pdus_is_given_up(node: ReceiverProcess) -> None:
    begin = time.monotonic()
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(store_pdus(encoded_image())[0])
        while time.monotonic() - begin < 10:
            try:
                peer.write(command_pdu(b"x", control=0))
            except OSError:
                break
            time.sleep(0.05)
    assert QUICK.message_s - 1 < time.monotonic() - begin < QUICK.message_s + 3


def test_empty_fragments_without_an_end_are_given_up(node: ReceiverProcess) -> None:
    begin = time.monotonic()
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(store_pdus(encoded_image())[0])
        with pytest.raises(OSError, match=r"."):
            while time.monotonic() - begin < 10:
                peer.write(command_pdu(b"", control=0) * 100)
    assert time.monotonic() - begin < QUICK.message_s + 3


def test_a_silent_association_is_ended(node: ReceiverProcess) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        begin = time.monotonic()
        assert peer.ended() == aborted(NOT_SPECIFIED)
        assert QUICK.idle_s - 0.5 < time.monotonic() - begin < QUICK.idle_s + 2


def test_a_sender_that_does_not_wait_for_answers_is_served_in_bounded_memory(node: ReceiverProcess) -> None:
    """100 instances of 1 MiB in one go, while nobody reads the answers until the end."""
    with RawPeer(node.port) as peer:
        peer.associate()
        pdus = (store_pdus(encoded_image(uid, pixels=MIB), sop_uid=uid) for uid in (f"1.2.8.{n}" for n in range(100)))
        writer = threading.Thread(target=lambda: [peer.write(*each) for each in pdus])
        writer.start()
        assert [peer.status() for _ in range(100)] == [0] * 100
        writer.join()


def test_a_peer_that_never_reads_is_given_up(node: ReceiverProcess) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((LOOPBACK, node.port))
        connection.settimeout(10)
        connection.sendall(request_pdu())
        requests = b"".join(echo_pdus()) * 1000
        begin = time.monotonic()
        with pytest.raises(OSError, match=r"."):
            while time.monotonic() - begin < 10:
                connection.sendall(requests)
        assert time.monotonic() - begin < 10


def test_an_object_of_64_mib_costs_the_memory_of_one_pdu(node: ReceiverProcess) -> None:
    image = encoded_image("1.2.64", pixels=60 * MIB)
    pdus = store_pdus(image, sop_uid="1.2.64", size=128 << 10)
    resident = node.resident_bytes()
    node.reset_peak()
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(*pdus)
        assert peer.status() == 0
    assert node.peak_bytes() - resident < 4 * MIB
    assert max(path.stat().st_size for path in node.files()) > 60 * MIB


def test_an_instance_beyond_the_limit_is_read_to_its_end_and_refused_without_memory_or_disk(
    node: ReceiverProcess,
) -> None:
    pdus = store_pdus(encoded_image("1.2.65", pixels=80 * MIB), sop_uid="1.2.65", size=128 << 10)
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.write(*pdus)
        assert peer.status() == 0xC001
        peer.write(RELEASE)
        assert peer.ended()[0] == 6


def test_a_data_set_without_an_end_is_aborted(tmp_path: Path) -> None:
    with (
        receiver_process(tmp_path, limits={"most_message_bytes": 4 * MIB}, max_instance_bytes=MIB) as node,
        RawPeer(node.port) as peer,
    ):
        peer.associate()
        pdus = store_pdus(encoded_image())
        endless = command_pdu(bytes(16000), control=0) * 16
        peer.write(pdus[0])
        with pytest.raises(OSError, match=r"."):
            for _ in range(1000):
                peer.write(endless)
        assert echo(node.port)


def test_a_data_set_of_a_million_elements_before_its_uids_is_refused_quickly(node: ReceiverProcess) -> None:
    tiny = b"".join(struct.pack("<HH2sH", 0x0009, 0x1000 + index, b"LO", 0) for index in range(60_000))
    nested = (
        struct.pack("<HH2s2xI", 0x0009, 0x1000, b"SQ", 0xFFFFFFFF)
        + (struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + struct.pack("<HH2s2xI", 0x0009, 0x1000, b"SQ", 0xFFFFFFFF))
        * 100_000
    )
    items = (
        struct.pack("<HH2s2xI", 0x0009, 0x1000, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000
    )
    with RawPeer(node.port) as peer:
        peer.associate()
        for data in (tiny, nested, items):
            begin = time.monotonic()
            peer.write(*store_pdus(data))
            assert peer.status() == 0xC000
            assert time.monotonic() - begin < 3


def test_a_full_disk_refuses_instances_for_the_moment_and_the_service_lives(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    (folder / "spool").mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=4m tmpfs "{folder}/spool" && exec "$@"'
    prefix = (program("unshare"), "--mount", "--map-root-user", "--user", "sh", "-c", mount, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        if os.environ.get("CI"):
            pytest.fail("no namespace of its own to mount a small disk in")
        pytest.skip("no namespace of its own to mount a small disk in")
    with receiver_process(folder, prefix=prefix) as node, RawPeer(node.port) as peer:
        peer.associate()
        statuses = []
        for number in range(8):
            uid = f"1.2.9.{number}"
            peer.write(*store_pdus(encoded_image(uid, pixels=900_000), sop_uid=uid))
            statuses.append(peer.status())
        assert statuses[0] == 0 and set(statuses) == {0, 0xA700}
        assert statuses == sorted(statuses)
        spool = Path(f"/proc/{node.process.pid}/root{folder}/spool")
        assert list((spool / "incoming").iterdir()) == []
        for path in spool.rglob("*.dcm"):
            path.unlink()
        peer.write(*store_pdus(encoded_image("1.2.9.9", pixels=900_000), sop_uid="1.2.9.9"))
        assert peer.status() == 0
        assert "code=spool-full" in node.log()


def test_nothing_of_a_patient_is_logged_whatever_goes_wrong(tmp_path: Path) -> None:
    """SECRET in every text of the images, in AE titles, in UIDs and in bytes where they do not belong."""
    files = write_exam(tmp_path / "exam", "s")
    with receiver_process(tmp_path / "node") as node:
        dcmsend(node.port, *files)
        dcmsend(node.port, *files, calling="SECRET^NAME")
        assert not echo(node.port, called="SECRET^NAME")
        data = files[0].read_bytes()[132:]
        for pdus in (
            [b"SECRET^NAME" * 10],
            [request_pdu(calling="SECRET"), b"SECRET^NAME" * 10],
            [request_pdu(), *store_pdus(b"SECRET^NAME" * 100)],
            [request_pdu(), *store_pdus(data)],
            [request_pdu(), *store_pdus(data, sop_uid="1.2.840.113619.2.1.1.1")],
            [request_pdu(), command_pdu(b"SECRET^NAME")],
            [request_pdu(), *store_pdus(data)[:1], b"SECRET^NAME" * 10],
        ):
            with RawPeer(node.port) as peer:
                for pdu in pdus:
                    peer.write(pdu)
                    time.sleep(0.05)
        counted = node.counted()
        spool = subprocess.run(["ls", "-R", str(tmp_path / "node")], capture_output=True, text=True, check=True).stdout
        log = node.log()
    assert len(log.splitlines()) > 5
    for text in (log, spool, str(counted)):
        assert "SECRET" not in text
        assert not re.search(r"1\.2\.840|2\.25\.", text)
