"""What a peer can answer to a store, and whether it helps to send again.

Stored is what the peer says it has: also with a warning, and also where it has the instance already, since an instance
that we made has another UID when it has other bytes. Of the failures some pass by themselves and are tried again, and
some last until a person changes something here or there; those become dead letters at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnfast.errors import PeerError
from lnfast.node.config.address import Address

SUCCESS, DUPLICATE = 0x0000, 0x0111
WARNINGS = frozenset({0x0001, 0x0107, 0x0116, DUPLICATE})  # of PS3.7 annex C, besides 0xBxxx
# Codes of failures that last. All others are tried again.
LASTING = frozenset(
    {
        "ae-title-rejected",
        "association-rejected",
        "context-rejected",
        "class-mismatch",
        "class-not-supported",
        "cannot-understand",
        "not-authorized",
        "store-refused",
    }
)
# First and last status, code, and what to do.
FAILURES = (
    (0xA700, 0xA7FF, "out-of-resources", "it has no room; make some there"),
    (0x0213, 0x0213, "out-of-resources", "it has no room; make some there"),
    (0x0110, 0x0110, "processing-failure", "it failed; its log has the reason"),
    (0x0122, 0x0122, "class-not-supported", "it does not keep objects of this kind; set it up to, or do not send them"),
    (0x0124, 0x0124, "not-authorized", "it does not let this AE title store; enter it there"),
    (0xA900, 0xA9FF, "class-mismatch", "it finds that the object is not of its class; its log has the reason"),
    (0xC000, 0xCFFF, "cannot-understand", "it does not understand the object; its log has the reason"),
)


@dataclass(frozen=True)
class StoreAnswer:
    """The answer to one instance.

    Attributes:
        status: of the C-STORE-RSP.
        problem: None where the peer has the instance.
    """

    status: int
    problem: PeerError | None

    @property
    def warning(self) -> bool:
        """Whether it is stored, and the peer had something to say about it."""
        return self.problem is None and self.status != SUCCESS


def read_status(status: int, peer: Address) -> StoreAnswer:
    """Say what a status of a C-STORE-RSP means."""
    if status == SUCCESS or status in WARNINGS or 0xB000 <= status <= 0xBFFF:
        return StoreAnswer(status, None)
    code, what = next(
        ((code, what) for first, last, code, what in FAILURES if first <= status <= last),
        ("store-refused", "it refuses the object; its log has the reason"),
    )
    return StoreAnswer(status, PeerError(code, f"{peer} answered 0x{status:04X}: {what}"))


def rejection(result: int, source: int, reason: int, peer: Address) -> PeerError:
    """Say what an A-ASSOCIATE-RJ means (PS3.8 9.3.4).

    A rejection that calls itself permanent and gives no reason is tried again: nothing in it says what a person would
    have to change, and peers give it while they start or are busy.
    """
    permanent, by_user = result == 1, source == 1
    if permanent and by_user and reason in (3, 7):
        what = "our AE title; enter it there" if reason == 3 else f"the AE title {peer.aet}; correct it here or there"
        return PeerError("ae-title-rejected", f"{peer} does not know {what}")
    if permanent and (by_user, reason) != (True, 1) and (source, reason) != (2, 1):
        return PeerError(
            "association-rejected",
            f"{peer} rejects the association for good (source {source}, reason {reason}); its log has the reason",
        )
    return PeerError("peer-busy", f"{peer} rejects the association (result {result}, source {source}, reason {reason})")
