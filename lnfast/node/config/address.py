"""``AET@HOST:PORT``: where a DICOM peer is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lnfast.errors import UsageError

AET_LETTERS_AT_MOST = 16
_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^\[\]:]+)):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True)
class Address:
    """A DICOM peer.

    Attributes:
        aet: its AE title.
        host: name or address.
        port: of TCP.
    """

    aet: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.aet}@{host}:{self.port}"


def is_aet(text: str) -> bool:
    """Return whether a text is an AE title: 1 to 16 ASCII characters that are no control characters, no backslash."""
    letters = 0 < len(text.strip()) <= AET_LETTERS_AT_MOST
    return letters and text.isascii() and text.isprintable() and "\\" not in text


def check_aet(text: str) -> str:
    """Return an AE title without the spaces around it, which mean nothing.

    Raises:
        UsageError: ``bad-ae-title``.
    """
    if not is_aet(text):
        raise UsageError(
            "bad-ae-title",
            f"got the AE title {text!a}; wanted 1 to {AET_LETTERS_AT_MOST} ASCII characters, without a backslash "
            "or control characters",
        )
    return text.strip()


def parse_address(text: str) -> Address:
    """Read ``AET@HOST:PORT``; an IPv6 address stands in brackets, ``PACS@[::1]:104``.

    Raises:
        UsageError: ``bad-peer`` or ``bad-ae-title``.
    """
    aet, at, rest = text.rpartition("@")
    match = _HOST_AND_PORT.fullmatch(rest)
    host = match and (match["v6"] or match["name"])
    if not at or not match or not host or not host.isprintable() or " " in host or not 0 < int(match["port"]) < 65536:
        raise UsageError(
            "bad-peer",
            f"got {text!a}; wanted AET@HOST:PORT, such as PACS@10.0.0.9:104 or PACS@[::1]:104, "
            "with a port from 1 to 65535",
        )
    return Address(check_aet(aet), host, int(match["port"]))
