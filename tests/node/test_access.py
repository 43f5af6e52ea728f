"""Who may send: by AE title, by address, by both; and what the others are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom_network import echo, wait_until
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from receivers import LOOPBACK, RawPeer, request_pdu, running_receiver

from lnfast.node.config.settings import Peer
from lnfast.node.receiver.access import Access
from lnfast.node.transport import acceptor_pdu as pdu
from lnfast.node.transport.contexts import APPLICATION_CONTEXT

CALLED, CALLING = pdu.CALLED_AE_TITLE_REJECTED, pdu.CALLING_AE_TITLE_REJECTED
SCANNER = Peer("MR1", "10.0.0.5/32")
NETWORK = Peer(None, "10.1.0.0/16")
ANYWHERE = Peer("ROUTER", None)
SIX = Peer("MR6", "2001:db8::/32")
ALLOW = (SCANNER, NETWORK, ANYWHERE, SIX)


def request(calling: str = "MR1", called: str = "LNFAST", **changes: Any) -> pdu.AssociateRequest:
    fields = {"version": 1, "application_context": APPLICATION_CONTEXT, "proposals": (), "max_length": 0, **changes}
    return pdu.AssociateRequest(called=called, calling=calling, **fields)


@pytest.mark.parametrize(
    ("calling", "address", "why"),
    [
        ("MR1", "10.0.0.5", None),
        ("MR1", "10.0.0.6", CALLING),
        ("MR2", "10.0.0.5", CALLING),
        ("mr1", "10.0.0.5", CALLING),  # AE titles have a case
        ("ANY", "10.1.200.3", None),
        ("ANY", "10.2.0.1", CALLING),
        ("ROUTER", "192.0.2.1", None),
        ("ROUTER", "2001:db9::1", None),
        ("MR6", "2001:db8::17", None),
        ("MR6", "fe80::1%eth0", CALLING),
        ("MR1", "::ffff:10.0.0.5", None),  # IPv4 on a socket of IPv6
        ("MR1", "127.0.0.1", CALLING),  # this machine too must be named
        ("", "10.1.200.3", CALLING),
        ("A" * 17, "10.1.200.3", CALLING),
        ("A\\B", "10.1.200.3", CALLING),
        ("A\nB", "10.1.200.3", CALLING),
        ("\xc4", "10.1.200.3", CALLING),
    ],
)
def test_a_sender_is_allowed_by_what_its_entry_names(calling: str, address: str, why: pdu.Rejection | None) -> None:
    assert Access("LNFAST", ALLOW).check(request(calling), address) == why


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1", None), ("127.8.9.1", None), ("::1", None), ("::ffff:127.0.0.1", None), ("10.0.0.5", CALLING)],
)
def test_an_empty_list_takes_this_machine_alone(address: str, why: pdu.Rejection | None) -> None:
    assert Access("LNFAST", ()).check(request("ANY"), address) == why


def test_the_reason_is_the_first_that_applies() -> None:
    access = Access("LNFAST", ALLOW)
    assert access.check(request("X", "X", version=2, application_context=""), "10.0.0.5") == pdu.VERSION_REJECTED
    assert access.check(request("X", "X", application_context="1.2"), "10.0.0.5") == pdu.APPLICATION_CONTEXT_REJECTED
    assert access.check(request("X", "X"), "10.0.0.5") == CALLED
    assert access.check(request("MR1", version=3), "10.0.0.5") is None  # a newer version too


def test_a_log_shows_a_title_only_if_it_stands_in_the_configuration() -> None:
    access = Access("LNFAST", ALLOW)
    assert access.shown("MR1", "10.0.0.5") == "MR1@10.0.0.5"
    assert access.shown("SECRET^NAME", "10.1.0.5") == "10.1.0.5"


@pytest.mark.parametrize(
    ("allow", "titles", "numbers"),
    [
        ((), {"called": "OTHER"}, (1, 1, 7)),
        ((), {"called": "LNFAST2"}, (1, 1, 7)),
        ((Peer("MR1", None),), {"calling": "SECRET^NAME"}, (1, 1, 3)),
        ((Peer("MR1", "192.0.2.0/24"),), {"calling": "MR1"}, (1, 1, 3)),
    ],
)
def test_the_rejection_is_that_of_the_standard_and_is_counted(
    tmp_path: Path,
    allow: tuple[Peer, ...],
    titles: dict[str, str],
    numbers: tuple[int, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_receiver(tmp_path, allow=allow) as node:
        with RawPeer(node.port) as peer:
            peer.write(request_pdu(**titles))
            assert peer.ended() == (3, bytes((0, *numbers)))
        assert node.counted("called-ae-title" if numbers[2] == 7 else "calling-ae-title") == 1
        assert node.record.calls == []
    assert "SECRET" not in caplog.text


def test_dcmtk_is_let_in_by_its_title_and_told_why_not(tmp_path: Path) -> None:
    with running_receiver(tmp_path, allow=(Peer("MR1", "127.0.0.0/8"),)) as node:
        assert echo(node.port, calling="MR1")
        assert not echo(node.port, calling="MR2")
        assert not echo(node.port, calling="MR1", called="OTHER")
        assert [node.counted(name) for name in ("released", "calling-ae-title", "called-ae-title")] == [1, 1, 1]


def test_above_the_number_of_associations_the_next_is_rejected_for_the_moment(tmp_path: Path) -> None:
    ae = AE("MR1")
    ae.add_requested_context(Verification)
    with running_receiver(tmp_path, max_associations=3) as node:
        open_ones = [ae.associate(LOOPBACK, node.port, ae_title="LNFAST") for _ in range(3)]
        assert all(each.is_established for each in open_ones)
        with RawPeer(node.port) as peer:
            peer.write(request_pdu())
            assert peer.ended() == (3, bytes((0, 2, 3, 2)))  # transient, presentation, local limit exceeded
        assert node.counted("too-many-associations") == 1
        open_ones[0].release()
        wait_until(lambda: node.counted("released") == 1, "the first is released")
        assert echo(node.port)
        for each in open_ones[1:]:
            each.release()
