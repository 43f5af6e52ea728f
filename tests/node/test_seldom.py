"""Warnings that a peer can cause at will do not flood the log."""

from __future__ import annotations

import logging

import pytest

from lnfast.node.receiver.seldom import EVERY_S, SeldomLogger


def test_each_kind_is_logged_once_in_a_while_with_the_number_of_those_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    seldom = SeldomLogger(logging.getLogger("lnfast.test"), clock=lambda: now)
    for _ in range(50):
        seldom.warn("rejected", code="calling-ae-title", peer="10.0.0.1")
    seldom.warn("rejected", code="calling-ae-title", peer="10.0.0.2")
    seldom.warn("rejected", code="called-ae-title", peer="10.0.0.1")
    now = EVERY_S
    seldom.warn("rejected", code="calling-ae-title", peer="10.0.0.1")
    lines = [(record.code, record.peer, getattr(record, "amount", None)) for record in caplog.records]
    assert lines == [
        ("calling-ae-title", "10.0.0.1", None),
        ("calling-ae-title", "10.0.0.2", None),
        ("called-ae-title", "10.0.0.1", None),
        ("calling-ae-title", "10.0.0.1", 49),
    ]


def test_a_scan_from_many_addresses_costs_bounded_memory() -> None:
    seldom = SeldomLogger(logging.getLogger("lnfast.test"), clock=lambda: 0.0)
    for number in range(5000):
        seldom.warn("refused", code="bad-request", peer=str(number))
    assert len(seldom._kinds) <= 1000
