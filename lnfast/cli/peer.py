"""What the commands share that ask a DICOM peer for an association."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lnfast.node.client.client import Route

Command = TypeVar("Command", bound=Callable[..., Any])


def peer_options(command: Command) -> Command:
    """Add ``--from`` and ``--tls`` to a command."""
    tls = click.option(
        "--tls",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Connect by TLS. DIR holds ca.pem, which signed the peer's certificate (without it: the authorities that "
        "this system trusts), and cert.pem and key.pem where the peer asks for ours.",
    )
    calling = click.option(
        "--from", "calling", metavar="AET", default="LNFAST", show_default=True, help="AE title that we call from."
    )
    return calling(tls(command))


def route_to(address: str, calling: str, tls: Path | None) -> Route:
    """Return the way to a peer.

    Args:
        address: ``AET@HOST:PORT``.
        calling: our AE title.
        tls: folder of the certificates; None for plain TCP.

    Raises:
        UsageError: ``bad-peer``, ``bad-ae-title``.
        BackendError: ``tls-unusable``.
    """
    from lnfast.node.client.client import Route
    from lnfast.node.config.address import check_aet, parse_address

    peer, calling = parse_address(address), check_aet(calling)
    if tls is None:
        return Route(peer, calling)
    from lnfast.node.transport.tls import folder_context

    return Route(peer, calling, folder_context(tls))
