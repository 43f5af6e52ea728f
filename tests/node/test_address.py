"""``AET@HOST:PORT``: what is one, and what is refused before anything is sent."""

from __future__ import annotations

import pytest

from lnfast.errors import UsageError
from lnfast.node.config.address import Address, check_aet, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("PACS@10.0.0.9:104", Address("PACS", "10.0.0.9", 104)),
        ("pacs one@pacs.clinic.example:11112", Address("pacs one", "pacs.clinic.example", 11112)),
        ("PACS@[::1]:104", Address("PACS", "::1", 104)),
        ("PACS@[fe80::1%eth0]:65535", Address("PACS", "fe80::1%eth0", 65535)),
        ("A@B@host:1", Address("A@B", "host", 1)),
        ("1234567890123456@host:00104", Address("1234567890123456", "host", 104)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


def test_an_address_is_written_as_it_is_read() -> None:
    for text in ("PACS@10.0.0.9:104", "PACS@[::1]:104"):
        assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "PACS", "PACS@", "PACS@host", "PACS@host:", "PACS@:104", "host:104", "PACS@host:0", "PACS@host:65536"),
        *("PACS@host:104x", "PACS@host:-1", "PACS@host:1e2", "PACS@::1:104", "PACS@[::1:104", "PACS@[]:104"),
        *("PACS@ho st:104", "PACS@ho\nst:104", "PACS@ho\0st:104", "PACS@host:\u0661\u0662", "PACS@host:104 "),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="bad-peer") as caught:
        parse_address(text)
    assert caught.value.message.isprintable() and caught.value.message.isascii()


@pytest.mark.parametrize("aet", ["", " ", "A" * 17, "A\\B", "A\tB", "A\x7fB", "\xc4", "A\n"])
def test_what_is_no_ae_title_is_refused(aet: str) -> None:
    with pytest.raises(UsageError, match="bad-ae-title"):
        check_aet(aet)
    with pytest.raises(UsageError, match="bad-"):
        parse_address(f"{aet}@host:104")


@pytest.mark.parametrize("aet", ["A", "a_b-c d.e", "A" * 16, "Lower"])
def test_an_ae_title_may_have_any_other_characters(aet: str) -> None:
    assert check_aet(aet) == aet
    assert check_aet(f" {aet[:14]} ") == aet[:14].strip()
