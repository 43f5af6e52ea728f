"""The tables of docs/conformance.md, the DICOM conformance statement, from those by which the node works.

``python docs/make_conformance.py`` writes them into the page. Tests hold the page to this module, and its tables to
what real peers negotiate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lnfast.node.client.answers import FAILURES, LASTING, WARNINGS
from lnfast.node.client.client import Timeouts
from lnfast.node.outbox.backoff import Backoff
from lnfast.node.receiver.acceptor import ROOM
from lnfast.node.receiver.association import Limits
from lnfast.node.receiver.instance import REFUSALS
from lnfast.node.transport import contexts
from lnfast.node.transport.acceptor_pdu import REJECTIONS
from lnfast.node.transport.requestor_pdu import MAX_LENGTH
from lnfast.report.dicom import codes, segmentation, structured_report

_BLOCK = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- table: end -->)", re.DOTALL)
_RESULTS = {1: "permanent", 2: "transient"}
_SOURCES = {1: "service user", 2: "service provider (ACSE)", 3: "service provider (presentation)"}
_REASONS = {
    "called-ae-title": "the called AE title is not that of `[node] aet`",
    "calling-ae-title": "AE title and address of the peer fit no entry of `[receive] allow`",
    "application-context": "the application context is not DICOM's",
    "protocol-version": "version 1 of the protocol is not offered",
    "too-many-associations": "`[receive] max_associations` are open",
}
_STATUSES = {
    "spool-full": "the disk is full or has less free than `[receive] min_free_gib`; once there is room it is taken",
    "spool-failed": "the disk or the ledger cannot be written",
    "class-mismatch": "data set, request and presentation context are not of one SOP class, or not of one instance",
    "instance-unreadable": "the UIDs of class, instance and study cannot be read from the data set",
    "instance-too-large": "the data set is larger than `[receive] max_instance_mib`",
    "receiver-failed": "a fault of the node; its log has the place",
    "bad-uid": "the UID of the class or the instance in the request is none",
}


def fill(page: str) -> str:
    """Return the page with every table between its marks replaced.

    Raises:
        KeyError: the page has a mark of a table that there is not.
    """
    made = tables()
    return _BLOCK.sub(lambda block: f"{block[1]}{made[block['name']]}\n{block[3]}", page)


def tables() -> dict[str, str]:
    """Return every table by its name, in Markdown."""
    return {
        "implementation": _implementation(),
        "acceptor_limits": _acceptor_limits(),
        "accepted": _accepted(),
        "syntaxes": _table(
            ("transfer syntax", "UID"),
            [(each.name, f"`{each.uid}`") for each in contexts.NATIVE + contexts.COMPRESSED],
        ),
        "rejections": _rejections(),
        "statuses": _table(
            ("status", "code in log and metrics", "when"),
            [
                ("0000", "", "stored, or not kept"),
                *((f"{each.status:04X}", f"`{each.code}`", _STATUSES[each.code]) for each in REFUSALS),
            ],
        ),
        "offered": _table(
            ("SOP class", "UID", "transfer syntax", "role"),
            [
                (each.sop_class.name, f"`{each.sop_class.uid}`", _names(each.syntaxes), "SCU")
                for each in contexts.OFFERED
            ],
        ),
        "requestor_limits": _requestor_limits(),
        "answers": _answers(),
        "objects": _objects(),
        "codes": _table(("code", "meaning"), [(f"`{value}`", meaning) for value, meaning in sorted(_own_codes())]),
    }


def _implementation() -> str:
    name = contexts.implementation_version().partition(" ")[0]
    return _table(
        ("", ""),
        [
            ("Implementation Class UID", f"`{contexts.IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Version Name", f"`{name}`, a space and the version of lnfast"),
            ("application context", f"`{contexts.APPLICATION_CONTEXT}`"),
        ],
    )


def _acceptor_limits() -> str:
    limits = Limits()
    pace = f"{limits.least_bytes_s / 1024:g} KiB/s"
    return _table(
        ("limit", ""),
        [
            ("associations at a time", "`[receive] max_associations`, 16 by default"),
            ("connections that are no association yet", f"{ROOM}; beyond, the one that waited longest is closed"),
            ("longest PDU that is announced", f"{contexts.MOST_PDU_BYTES} bytes"),
            ("from the connection to a whole A-ASSOCIATE-RQ", f"{limits.request_s:g} s, then the connection is closed"),
            ("for the next message", f"{limits.idle_s:g} s, then A-ABORT"),
            ("for the next PDU of a message", f"{limits.message_s:g} s, then A-ABORT"),
            ("for the rest of a PDU", f"{limits.pdu_s:g} s, then A-ABORT"),
            ("for the rest of a message", f"{limits.message_s:g} s and what it takes at {pace}, then A-ABORT"),
        ],
    )


def _accepted() -> str:
    rows = []
    for context in contexts.accepted("drop"):
        what = "kept" if context.sop_class in contexts.KEPT else "0000, not kept"
        if context.sop_class == contexts.VERIFICATION:
            what = "answered"
        rows.append((context.sop_class.name, f"`{context.sop_class.uid}`", _names(context.syntaxes), what))
    return _table(("SOP class", "UID", "transfer syntaxes", "what is done"), rows)


def _rejections() -> str:
    rows = [
        (f"{each.result} {_RESULTS[each.result]}", f"{each.source} {_SOURCES[each.source]}", str(each.reason))
        for each in REJECTIONS
    ]
    reasons = ((f"`{each.code}`", _REASONS[each.code]) for each in REJECTIONS)
    return _table(
        ("result", "source", "reason", "code in log and metrics", "when"),
        [(*row, *reason) for row, reason in zip(rows, reasons, strict=True)],
    )


def _requestor_limits() -> str:
    timeouts, backoff = Timeouts(), Backoff()
    return _table(
        ("limit", ""),
        [
            ("associations at a time", "one to each target"),
            ("longest PDU that is announced", f"{MAX_LENGTH} bytes"),
            ("longest PDU that is sent", f"what the target announces, at most {contexts.MOST_PDU_BYTES} bytes"),
            ("for the connection, and for the handshake of TLS", f"{timeouts.connect_s:g} s"),
            ("for the answer to a request or a release", f"{timeouts.acse_s:g} s"),
            ("for the answer to a message", f"{timeouts.dimse_s:g} s from its last byte"),
            ("for taking the next 128 KiB", f"{timeouts.network_s:g} s"),
            ("after the first failure", f"tried again in {backoff.first_s:g} s +-{backoff.jitter:.0%}"),
            ("after each further one", f"in twice the time, up to {backoff.most_s / 60:g} minutes"),
            (
                "given up",
                f"after {backoff.give_up_s / 3600:g} hours and {backoff.least_attempts} attempts: dead letter",
            ),
        ],
    )


def _answers() -> str:
    outcome = {True: "dead letter: a person must look", False: "tried again"}
    warnings = ", ".join(f"{status:04X}" for status in sorted(WARNINGS))
    rows = [("0000", "", "sent"), (f"{warnings}, B000 to BFFF", "", "sent; the log has the status")]
    rows += [(_range(first, last), f"`{code}`", outcome[code in LASTING]) for first, last, code, _ in FAILURES]
    rows.append(("any other", "`store-refused`", outcome["store-refused" in LASTING]))
    return _table(("status of the target", "code in log and metrics", "what becomes of the result"), rows)


def _objects() -> str:
    return _table(
        ("", "Segmentation", "Comprehensive SR"),
        [
            ("SOP class", f"`{contexts.SEGMENTATION.uid}`", f"`{contexts.COMPREHENSIVE_SR.uid}`"),
            ("content", "BINARY, a segment for each node", "TID 1500: TID 1411 for each node, one TID 1501"),
            ("flags", "", "COMPLETE, UNVERIFIED, PRELIMINARY"),
            ("Series Number", str(segmentation.SERIES_NUMBER), str(structured_report.SERIES_NUMBER)),
            ("Series Description", segmentation.SERIES_DESCRIPTION, structured_report.SERIES_DESCRIPTION),
        ],
    )


def _own_codes() -> Iterable[tuple[str, str]]:
    """Value and meaning of each code of our scheme: the constants of `codes` are triples, or dictionaries of them."""
    for constant in vars(codes).values():
        for triple in constant.values() if isinstance(constant, dict) else (constant,):
            if isinstance(triple, tuple) and triple[1:2] == (codes.SCHEME,):
                yield triple[0], triple[2]


def _names(syntaxes: Sequence[contexts.Uid]) -> str:
    return "all below" if len(syntaxes) > len(contexts.NATIVE) else ", ".join(each.name for each in syntaxes)


def _range(first: int, last: int) -> str:
    return f"{first:04X}" if first == last else f"{first:04X} to {last:04X}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in lines)
