"""``lnfast echo``: does a DICOM peer answer?"""

from __future__ import annotations

import time
from pathlib import Path

import click

from lnfast.cli.peer import peer_options, route_to


@click.command(short_help="Ask a DICOM peer whether it answers (C-ECHO).")
@click.argument("address", metavar="AET@HOST:PORT")
@peer_options
def echo(address: str, calling: str, tls: Path | None) -> int:
    """Ask a DICOM peer, such as PACS@10.0.0.9:104, whether it answers: associate and send a C-ECHO."""
    from lnfast.node.client.client import VERIFICATION, ClientAssociation

    route = route_to(address, calling, tls)
    begun = time.monotonic()
    with ClientAssociation(route, (VERIFICATION,)) as association:
        association.echo()
        milliseconds = (time.monotonic() - begun) * 1000
    click.echo(f"{route.peer} answers, {milliseconds:.0f} ms")
    return 0
