"""The client against DCMTK, pynetdicom and peers that misbehave: every answer has its code, nothing is left behind."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dicom_network import StoreScp, reserved_port, store_scp, wait_until
from instance_files import (
    DEFLATED,
    ENHANCED_MR,
    EXPLICIT,
    IMPLICIT,
    JPEG_LS,
    MR,
    REPORT,
    RLE,
    SEGMENTATION,
    data_set,
    write_instance,
)
from scripted_peers import (
    Step,
    accept,
    answer,
    hold,
    read_message,
    read_pdu,
    response,
    say,
    scripted_peer,
    serve,
    stall,
    store_peer,
)

from lnfast.errors import PeerError
from lnfast.node.client.answers import LASTING
from lnfast.node.client.client import VERIFICATION, ClientAssociation, Route, Timeouts
from lnfast.node.client.instance_file import InstanceFile
from lnfast.node.client.transfer import offers, transfer
from lnfast.node.config.address import Address
from lnfast.node.transport.link import CancelledError
from lnfast.node.transport.requestor_pdu import Offer

SHORT = Timeouts(connect_s=2.0, acse_s=0.5, dimse_s=0.5, network_s=0.7)


def route(port: int, *, called: str = "SINK", host: str = "127.0.0.1", timeouts: Timeouts = SHORT) -> Route:
    return Route(Address(called, host, port), "LNFAST", None, timeouts)


def store(port: int, file: InstanceFile, *, timeouts: Timeouts = SHORT) -> Any:
    with ClientAssociation(route(port, timeouts=timeouts), offers([file])) as association:
        return association.store(file)


def code(action: Callable[[], object]) -> str:
    """The code with which an action fails, within the times that it has."""
    begun = time.monotonic()
    with pytest.raises(PeerError) as caught:
        action()
    assert time.monotonic() - begun < 5
    message = str(caught.value)
    assert "\n" not in message and message.isprintable() and "SECRET" not in message
    return caught.value.code


@contextmanager
def nothing_left() -> Iterator[None]:
    """Check that no descriptor and no thread is left behind; the peer of the test may need a moment to notice."""
    descriptors, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == threads
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "the descriptors are closed", 5)


@pytest.fixture
def file(tmp_path: Path) -> InstanceFile:
    return write_instance(tmp_path / "one.dcm")


# ------------------------------------------------------------------------------------------------------ what is stored


@pytest.mark.parametrize("largest_pdu", [4096, 16384, 131072])
def test_the_bytes_of_every_data_set_arrive_as_they_lie_on_the_disk(tmp_path: Path, largest_pdu: int) -> None:
    kinds = [(MR, EXPLICIT), (MR, IMPLICIT), (ENHANCED_MR, DEFLATED), (MR, JPEG_LS), (REPORT, RLE)]
    sizes = (10, largest_pdu - 300, largest_pdu * 3, 700_000)
    files = [
        write_instance(tmp_path / "own" / f"{number}-{size}.dcm", *kind, size=size)
        for number, kind in enumerate(kinds)
        for size in sizes
    ]
    with store_scp(tmp_path / "pacs", "+xa", "+B", "-pdu", str(largest_pdu)) as peer:
        with ClientAssociation(route(peer.port), offers(files)) as association:
            assert association.rejected == ()
            statuses = [association.store(each).status for each in files]
        assert statuses == [0] * len(files)
        arrived = {path.name.partition(".")[2]: data_set(path) for path in peer.files()}
    assert arrived == {file.sop_uid: data_set(file.path) for file in files}


def test_orthanc_style_peers_without_a_limit_get_large_pdus(tmp_path: Path) -> None:
    """A peer may take PDUs of any length; ours stay within 128 KiB all the same."""
    file = write_instance(tmp_path / "large.dcm", size=1_000_000)
    lengths: list[int] = []

    def count(connection: socket.socket) -> None:
        done = b""
        while len(done) < len(data_set(file.path)):
            data = read_pdu(connection)
            lengths.append(len(data))
            if not data[11] & 1:
                done += data[12:]
        assert done == data_set(file.path)
        connection.sendall(response(1, 0))

    with scripted_peer(lambda connection: accept(connection, max_length=0), count, hold) as port:
        assert store(port, file).status == 0
    assert max(lengths) == 128 * 1024 + 6


def test_a_peer_that_takes_tiny_pdus_gets_tiny_ones(tmp_path: Path) -> None:
    file = write_instance(tmp_path / "small.dcm", size=60)
    with scripted_peer(lambda connection: accept(connection, max_length=8), answer(), hold) as port:
        assert store(port, file).status == 0


def test_storing_again_is_no_failure(tmp_path: Path, file: InstanceFile) -> None:
    with store_scp(tmp_path / "pacs", "+B") as peer:
        for _ in range(2):
            assert store(peer.port, file).problem is None
        assert [data_set(path) for path in peer.files()] == [data_set(file.path)]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_echo_is_answered(tmp_path: Path, host: str) -> None:
    with (
        store_scp(tmp_path / "pacs") as peer,
        nothing_left(),
        ClientAssociation(route(peer.port, host=host), (VERIFICATION,)) as association,
    ):
        association.echo()
        association.echo()


def test_every_address_of_a_host_is_tried(file: InstanceFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a family that this system may not have, one where nothing listens, then the right one."""
    with scripted_peer(accept, serve) as port, reserved_port() as closed, nothing_left():
        addresses = [
            (socket.AF_APPLETALK, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", closed)),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
        ]
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *arguments, **options: addresses)
            assert store(port, file).status == 0
            patch.setattr(socket, "getaddrinfo", lambda *arguments, **options: addresses[:2])
            assert code(lambda: store(port, file)) == "peer-unreachable"


def test_a_peer_with_ipv6_is_reached(file: InstanceFile) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                accept(connection)
                answer()(connection)
                read_pdu(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        there = Route(Address("SINK", "::1", listener.getsockname()[1]), "LNFAST", None, SHORT)
        with ClientAssociation(there, offers([file])) as association:
            assert association.store(file).status == 0
        thread.join(10)


# ------------------------------------------------------------------------------------------------------- every answer


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (0x0000, None),
        (0xB000, None),
        (0xB006, None),
        (0xB007, None),
        (0x0107, None),
        (0x0111, None),
        (0xA700, "out-of-resources"),
        (0xA7FF, "out-of-resources"),
        (0x0213, "out-of-resources"),
        (0x0110, "processing-failure"),
        (0xA900, "class-mismatch"),
        (0xC000, "cannot-understand"),
        (0xC123, "cannot-understand"),
        (0x0122, "class-not-supported"),
        (0x0124, "not-authorized"),
        (0x0117, "store-refused"),
        (0xFE00, "store-refused"),
    ],
)
def test_every_status_has_its_meaning(file: InstanceFile, status: int, problem: str | None) -> None:
    with (
        scripted_peer(accept, answer(status), answer(), hold) as port,
        nothing_left(),
        ClientAssociation(route(port), offers([file])) as association,
    ):
        given = association.store(file)
        assert association.store(file).status == 0, "the association stands"
    assert given.status == status
    assert given.warning == (problem is None and status != 0)
    assert (given.problem.code if given.problem else None) == problem
    retried = {"out-of-resources", "processing-failure"}
    assert problem is None or (problem in LASTING) == (problem not in retried)


def test_pynetdicoms_own_peers_are_understood(file: InstanceFile) -> None:
    received = []

    def on_store(event: Any) -> int:
        received.append((event.request.DataSet.getvalue(), event.request.Priority, event.assoc.requestor.ae_title))
        return 0xB007

    with store_peer(on_store, [(MR, EXPLICIT)]) as port:
        assert store(port, file).status == 0xB007
    assert received == [(data_set(file.path), 0, "LNFAST")]


@pytest.mark.parametrize(
    ("result", "source", "reason", "expected"),
    [
        (1, 1, 1, "peer-busy"),  # DCMTK refuses so, and says no reason that a person could mend
        (1, 1, 2, "association-rejected"),
        (1, 1, 3, "ae-title-rejected"),
        (1, 1, 7, "ae-title-rejected"),
        (1, 2, 1, "peer-busy"),
        (1, 2, 2, "association-rejected"),
        (2, 1, 3, "peer-busy"),
        (2, 3, 1, "peer-busy"),
        (2, 3, 2, "peer-busy"),
    ],
)
def test_every_rejection_has_its_meaning(
    file: InstanceFile, result: int, source: int, reason: int, expected: str
) -> None:
    rejection = b"\x03\0\0\0\0\x04\0" + bytes((result, source, reason))
    with scripted_peer(lambda connection: read_pdu(connection) and None, say(rejection), hold) as port, nothing_left():
        assert code(lambda: store(port, file)) == expected


@pytest.mark.parametrize("setting", [{"require_called_aet": True}, {"require_calling_aet": ["OTHER"]}])
def test_an_ae_title_that_the_peer_does_not_know_lasts(file: InstanceFile, setting: dict[str, Any]) -> None:
    with store_peer(lambda event: 0, [(MR, EXPLICIT)], aet="OTHER", **setting) as port:
        assert code(lambda: store(port, file)) == "ae-title-rejected"
    assert "ae-title-rejected" in LASTING


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--refuse"], {"peer-busy"}),
        (["--abort-after"], {"association-aborted"}),
        (["--abort-during"], {"association-aborted", "connection-lost"}),  # with unread data the system resets
        (["--sleep-after", "3"], {"no-answer"}),
        (["--sleep-during", "3"], {"no-answer"}),
    ],
)
def test_the_failures_of_dcmtk_have_their_codes(tmp_path: Path, options: list[str], expected: set[str]) -> None:
    file = write_instance(tmp_path / "large.dcm", size=5_000_000)
    with store_scp(tmp_path / "pacs", *options) as peer, nothing_left():
        assert code(lambda: [store(peer.port, file) for _ in range(2)]) in expected
    assert not expected & LASTING


def test_a_peer_that_is_not_there_is_unreachable(file: InstanceFile) -> None:
    with reserved_port() as port, nothing_left():
        assert code(lambda: store(port, file)) == "peer-unreachable"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "x..y", "\xe4" * 70])
def test_a_host_without_an_address_is_unknown(file: InstanceFile, host: str) -> None:
    nowhere = Route(Address("SINK", host, 104), "LNFAST", None, SHORT)
    with nothing_left(), pytest.raises(PeerError, match="unknown-host"), ClientAssociation(nowhere, offers([file])):
        pass


def test_a_context_that_is_rejected_lasts_and_spoils_no_other(tmp_path: Path) -> None:
    """DCMTK with a profile that takes reports and no segmentations."""
    profile = tmp_path / "profile.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        f"[[PresentationContexts]]\n[Reports]\nPresentationContext1 = {REPORT}\\Plain\n"
        "[[Profiles]]\n[OnlyReports]\nPresentationContexts = Reports\n"
    )
    files = [write_instance(tmp_path / "seg.dcm", SEGMENTATION), write_instance(tmp_path / "sr.dcm", REPORT)]
    with store_scp(tmp_path / "pacs", "-xf", str(profile), "OnlyReports") as peer, nothing_left():
        with ClientAssociation(route(peer.port), offers(files)) as association:
            assert association.rejected == (Offer(SEGMENTATION, EXPLICIT),)
            assert code(lambda: association.store(files[0])) == "context-rejected"
            assert association.store(files[1]).status == 0
        assert code(lambda: store(peer.port, files[0])) == "context-rejected", "no context at all is accepted"
    assert "context-rejected" in LASTING


# --------------------------------------------------------------------------------------------- peers that misbehave

PROMISE = b"\x04\0\xff\xff\xff\xff"
MISBEHAVIOUR: dict[str, tuple[Sequence[Step], str]] = {
    "says nothing": ([hold], "no-answer"),
    "takes nothing": ([stall], "no-answer"),
    "accepts and says nothing": ([accept, hold], "no-answer"),
    "accepts and takes nothing": ([accept, stall], "no-answer"),
    "hangs up": ([lambda connection: read_pdu(connection) and None], "connection-lost"),
    "hangs up at once": ([], "connection-lost"),
    "hangs up after the data": ([accept, lambda connection: read_message(connection) and None], "connection-lost"),
    "speaks HTTP": ([say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), hold], "bad-answer"),
    "promises 4 GiB": (
        [accept, lambda connection: read_message(connection) and None, say(PROMISE), hold],
        "bad-answer",
    ),
    "promises 4 GiB of acceptance": ([say(b"\x02\0\xff\xff\xff\xff"), hold], "bad-answer"),
    "sends half a PDU": ([accept, say(b"\x04\0\0\0\1"), hold], "no-answer"),
    "sends no acceptance": ([say(b"\x02\0\0\0\0\x04abcd"), hold], "bad-answer"),
    "asks itself": ([say(b"\x01\0\0\0\0\x04abcd"), hold], "bad-answer"),
    "answers another message": ([accept, lambda c: c.sendall(response(read_message(c) + 1, 0)), hold], "bad-answer"),
    "answers an echo": ([accept, lambda c: c.sendall(response(read_message(c), 0, field=0x8030)), hold], "bad-answer"),
    "answers with a request": (
        [accept, lambda c: c.sendall(response(read_message(c), 0, field=1)), hold],
        "bad-answer",
    ),
    "sends an empty P-DATA for ever": (
        [accept, lambda c: c.sendall(b"\x04\0\0\0\0\0" * 100_000), hold],
        "bad-answer",
    ),
    "sends fragments for ever": (
        [accept, lambda c: c.sendall((b"\x04\0\0\0\x40\x06\0\0\x40\2\1\1" + bytes(16384)) * 100), hold],
        "bad-answer",
    ),
    "sends a fragment beyond its PDU": ([accept, say(b"\x04\0\0\0\0\x06\0\0\xff\xff\1\3"), hold], "bad-answer"),
    "sends a command cut short": ([accept, say(b"\x04\0\0\0\0\x09\0\0\0\x05\1\3\0\0\0"), hold], "bad-answer"),
    "aborts": ([accept, say(b"\x07\0\0\0\0\x04\0\0\0\0"), hold], "association-aborted"),
    "aborts at once": ([say(b"\x07\0\0\0\0\x04\0\0\2\0"), hold], "association-aborted"),
    "releases": ([accept, say(b"\x05\0\0\0\0\x04\0\0\0\0"), hold], "association-aborted"),
    "accepts PDUs of 3 bytes": ([lambda connection: accept(connection, max_length=3), hold], "bad-answer"),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_peer_that_misbehaves_has_a_code_and_holds_nobody_up(tmp_path: Path, name: str) -> None:
    steps, expected = MISBEHAVIOUR[name]
    file = write_instance(tmp_path / "large.dcm", size=8_000_000)
    with scripted_peer(*steps, receive_buffer=4096) as port, nothing_left():
        assert code(lambda: store(port, file)) == expected
    assert expected not in LASTING


def test_whatever_a_peer_answers_is_an_answer_or_an_error_with_a_code(file: InstanceFile) -> None:
    """Bytes of a sound conversation are changed, left out and repeated."""
    rng = random.Random(0)

    def distort(data: bytes) -> bytes:
        distorted = bytearray(data)
        for _ in range(rng.randint(0, 3)):
            distorted[rng.randrange(len(distorted))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        cut = rng.randrange(len(distorted)) if rng.random() < 0.2 else len(distorted)
        return bytes(distorted[:cut]) * rng.choice((1, 1, 1, 2))

    def converse(connection: socket.socket) -> None:
        there, here = socket.socketpair()
        with there, here:
            here.sendall(read_pdu(connection))
            accept(there)
            connection.sendall(distort(here.recv(65536)))
        connection.sendall(distort(response(read_message(connection), rng.choice((0, 0xA700)))))

    hasty = Timeouts(connect_s=2.0, acse_s=0.2, dimse_s=0.2, network_s=0.2)
    outcomes: Counter[str] = Counter()
    with scripted_peer(converse) as port, nothing_left():
        for _ in range(150):
            try:
                given = store(port, file, timeouts=hasty)
            except PeerError as error:
                outcomes[error.code] += 1
            else:
                outcomes[f"{given.status:04X}"] += 1
    assert outcomes["bad-answer"] > 10 and outcomes["0000"] > 2
    allowed = {"bad-answer", "no-answer", "connection-lost", "association-aborted", "context-rejected", "peer-busy"}
    assert set(outcomes) - allowed < {f"{status:04X}" for status in range(0x10000)}


def test_an_answer_that_drips_is_not_waited_for_longer_than_one_that_does_not_come(file: InstanceFile) -> None:
    def drip(connection: socket.socket) -> None:
        for byte in response(read_message(connection), 0):
            connection.sendall(bytes((byte,)))
            time.sleep(0.1)

    with scripted_peer(accept, drip, hold) as port, nothing_left():
        begun = time.monotonic()
        assert code(lambda: store(port, file)) == "no-answer"
        assert time.monotonic() - begun < 1.5


def test_a_slow_line_is_no_reason_to_give_up(tmp_path: Path) -> None:
    """The time for the answer begins when the last byte has left, not when the first one did."""
    file = write_instance(tmp_path / "large.dcm", size=400_000)

    def read_slowly(connection: socket.socket) -> None:
        taken = 0
        while taken < 400_000:
            taken += len(connection.recv(30_000))
            time.sleep(0.01)
        connection.settimeout(0.3)
        try:
            while connection.recv(65536):
                pass
        except TimeoutError:
            connection.sendall(response(1, 0))

    with scripted_peer(accept, read_slowly, hold, receive_buffer=4096) as port:
        begun = time.monotonic()
        assert store(port, file).status == 0
        assert time.monotonic() - begun > 2 * SHORT.dimse_s


def test_a_release_that_is_not_answered_is_no_failure(file: InstanceFile) -> None:
    with scripted_peer(accept, answer(), hold) as port, nothing_left():
        assert store(port, file).status == 0


def test_a_release_from_both_sides_is_answered(file: InstanceFile) -> None:
    seen: list[bytes] = []

    def collide(connection: socket.socket) -> None:
        seen.append(read_pdu(connection))
        connection.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        seen.append(read_pdu(connection))
        connection.sendall(b"\x06\0\0\0\0\x04\0\0\0\0")

    with scripted_peer(accept, answer(), collide) as port:
        assert store(port, file).status == 0
    assert [data[0] for data in seen] == [5, 6]


# -------------------------------------------------------------------------------------------------- ended by this side


@pytest.mark.parametrize("steps", [[hold], [accept, stall], [accept, hold]], ids=["accepting", "sending", "waiting"])
def test_another_thread_ends_an_association_at_any_moment(tmp_path: Path, steps: list[Step]) -> None:
    file = write_instance(tmp_path / "large.dcm", size=20_000_000)
    long = Timeouts(30, 30, 30, 30)
    with scripted_peer(*steps, receive_buffer=4096) as port, nothing_left():
        association = ClientAssociation(route(port, timeouts=long), offers([file]))
        timer = threading.Timer(0.3, association.cancel)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(CancelledError), association:
            association.store(file)
        assert time.monotonic() - begun < 3
        timer.join()


def test_a_file_that_becomes_shorter_while_it_is_sent_aborts_the_association(tmp_path: Path) -> None:
    file = write_instance(tmp_path / "large.dcm", size=5_000_000)
    ended = threading.Event()

    def shorten(connection: socket.socket) -> None:
        read_pdu(connection)
        os.truncate(file.path, 1_000_000)
        while (data := read_pdu(connection))[0] == 4:
            assert not data[11] & 2 or data[11] & 1, "no fragment of the data set claims to be the last"
        assert data[0] == 7
        ended.set()

    with scripted_peer(accept, shorten, receive_buffer=4096) as port, nothing_left():
        with pytest.raises(Exception, match="truncated"):
            store(port, file)
        assert ended.wait(5)


# -------------------------------------------------------------------------------------------------------- many files


def test_files_of_more_kinds_than_an_association_has_room_for_are_sent_in_several(tmp_path: Path) -> None:
    files = [
        write_instance(tmp_path / f"{number}.dcm", f"{MR}.{number // 3}", (EXPLICIT, IMPLICIT, RLE)[number % 3], size=2)
        for number in range(300)
    ]
    with scripted_peer(accept, serve) as port:
        outcomes = list(transfer(route(port), files))
    assert [file for file, _ in outcomes] == files
    assert all(getattr(outcome, "status", None) == 0 for _, outcome in outcomes)


def test_a_file_on_which_the_peer_hangs_up_does_not_stop_the_others(tmp_path: Path) -> None:
    files = [write_instance(tmp_path / f"{number}.dcm", uid=f"1.2.3.{number}") for number in range(4)]

    with scripted_peer(accept, partial(serve, hang_up_on="1.2.3.1")) as port, nothing_left():
        outcomes = [getattr(outcome, "code", "stored") for _, outcome in transfer(route(port), files)]
    assert outcomes == ["stored", "connection-lost", "stored", "stored"]


def test_a_peer_that_is_gone_is_asked_once(tmp_path: Path) -> None:
    files = [write_instance(tmp_path / f"{number}.dcm") for number in range(3)]
    with reserved_port() as port, pytest.raises(PeerError, match="peer-unreachable"):
        list(transfer(route(port), files))


def test_84_stores_take_less_than_one_and_a_half_seconds(tmp_path: Path) -> None:
    """To a peer that holds back its answers for our acknowledgement, as DCMTK does by default."""
    files = [write_instance(tmp_path / "own" / f"{number}.dcm", size=115_200) for number in range(84)]
    with store_scp(tmp_path / "pacs") as peer:
        peer.stop()
        slow = StoreScp(peer.port, tmp_path / "slow", options=())
        try:
            slow.start()
            begun = time.monotonic()
            outcomes = list(transfer(route(peer.port, timeouts=Timeouts()), files))
            seconds = time.monotonic() - begun
        finally:
            slow.stop()
    assert all(getattr(outcome, "status", None) == 0 for _, outcome in outcomes)
    assert seconds < 1.5
