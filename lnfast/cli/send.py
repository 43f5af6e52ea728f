"""``lnfast send``: DICOM files to a peer, byte for byte."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnfast.cli import streams
from lnfast.cli.peer import peer_options, route_to
from lnfast.errors import LnfastError, PeerError

if TYPE_CHECKING:
    from lnfast.node.client.answers import StoreAnswer
    from lnfast.node.client.client import Route
    from lnfast.node.client.instance_file import InstanceFile


@click.command(short_help="Send DICOM files to a peer (C-STORE).")
@click.argument("paths", metavar="FILE|FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--to", "address", metavar="AET@HOST:PORT", required=True, help="The peer, such as PACS@10.0.0.9:104.")
@peer_options
@click.option("--retry", is_flag=True, help="Try again what may succeed later, until all is stored or Ctrl-C.")
def send(paths: tuple[Path, ...], address: str, calling: str, tls: Path | None, retry: bool) -> int:
    """Send DICOM files, also all those in folders and their subfolders, byte for byte as they are.

    The association proposes exactly the SOP classes and transfer syntaxes of the files; nothing is converted. A line is
    printed for each file that the peer has stored; one that it has not gets a line on stderr and stops no other.
    """
    from lnfast.node.client.collection import collect
    from lnfast.node.outbox.backoff import Backoff

    route = route_to(address, calling, tls)
    collection = collect(paths)
    for path, error in collection.failures:
        _log(path, error)
    if collection.passed_over:
        streams.log(f"{collection.passed_over} files in the folders are no DICOM and were passed over")
    exit_code = max((error.exit_code for _, error in collection.failures), default=0)
    backoff, attempts, files = Backoff(), 0, collection.files
    while files:
        code, again = _send(route, files)
        exit_code = max(exit_code, code)
        if not again:
            break
        if not retry:
            return max(exit_code, PeerError.exit_code)
        attempts = 1 if len(again) < len(files) else attempts + 1
        delay, files = backoff.delay_s(attempts), again
        streams.log(f"{len(files)} files are tried again in {delay:.0f} s; Ctrl-C ends it")
        time.sleep(delay)
    return exit_code


def _send(route: Route, files: Sequence[InstanceFile]) -> tuple[int, list[InstanceFile]]:
    """Send files; return the exit code of failures that last, and the files for which it may help to try again."""
    from lnfast.node.client.answers import LASTING
    from lnfast.node.client.transfer import transfer

    exit_code, unsent = 0, list(files)
    again: list[InstanceFile] = []
    try:
        for file, outcome in transfer(route, files):
            unsent.remove(file)
            error = outcome if isinstance(outcome, LnfastError) else outcome.problem
            if error is None:
                assert not isinstance(outcome, LnfastError)
                _print_stored(file.path, outcome)
                continue
            _log(file.path, error)
            if isinstance(error, PeerError) and error.code not in LASTING:
                again.append(file)
            else:
                exit_code = max(exit_code, error.exit_code)
    except PeerError as error:
        streams.log(f"{error.code}: {error.message}; {len(unsent)} of {len(files)} files are not sent")
        if error.code not in LASTING:
            return exit_code, again + unsent
        return error.exit_code, again
    return exit_code, again


def _print_stored(path: Path, answer: StoreAnswer) -> None:
    from lnfast.node.client.answers import DUPLICATE
    from lnfast.study import shown

    with streams.printing():
        outcome = "the peer has it already" if answer.status == DUPLICATE else "stored"
        warning = f", warning 0x{answer.status:04X}" if answer.warning else ""
        click.echo(f"{shown(str(path))}: {outcome}{warning}")


def _log(path: Path, error: LnfastError) -> None:
    from lnfast.study import shown

    message = error.message.removeprefix(f"{shown(path.name)}: ")
    streams.log(f"{error.code}: {shown(str(path))}: {message}")
