"""Any number of files to one peer, in as few associations as their kinds allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lnfast.errors import LnfastError, PeerError
from lnfast.node.client.answers import StoreAnswer
from lnfast.node.client.client import ClientAssociation, Route
from lnfast.node.client.collection import unreadable
from lnfast.node.client.instance_file import InstanceFile
from lnfast.node.transport.pdu import MOST_CONTEXTS
from lnfast.node.transport.requestor_pdu import Offer


def offers(files: Iterable[InstanceFile]) -> tuple[Offer, ...]:
    """Return what must be proposed to send some files, each once."""
    return tuple(dict.fromkeys(Offer(file.sop_class, file.syntax) for file in files))


def transfer(route: Route, files: Sequence[InstanceFile]) -> Iterator[tuple[InstanceFile, StoreAnswer | LnfastError]]:
    """Send files in their order; give for each the peer's answer, or why it was not sent.

    What is wrong with one file does not stop the others. Where it broke the association, a new one is asked for.

    Raises:
        PeerError: the peer is not reached or rejects the association; the files that were not given are not sent.
    """
    rest = list(files)
    while rest:
        proposed = offers(rest)[:MOST_CONTEXTS]
        with ClientAssociation(route, proposed) as association:
            while rest and Offer(rest[0].sop_class, rest[0].syntax) in proposed:
                file = rest.pop(0)
                try:
                    outcome = _store(association, file)
                except LnfastError as error:
                    association.abort()
                    yield file, error
                    break
                yield file, outcome


def _store(association: ClientAssociation, file: InstanceFile) -> StoreAnswer | LnfastError:
    """Send a file; return what leaves the association as it was.

    Raises:
        PeerError, StudyError: the association cannot be used any more.
    """
    try:
        association.check_accepted(file)
    except PeerError as error:
        return error
    try:
        return association.store(file)
    except OSError as error:
        raise unreadable(error) from error
