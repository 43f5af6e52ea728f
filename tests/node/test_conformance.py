"""docs/conformance.md says what the code does: its tables are those of the code, and what real peers negotiate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dicom_results import labels_of, report_of_study
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.presentation import build_context
from receivers import LOOPBACK, running_receiver

import lnfast
from lnfast.node import conformance
from lnfast.node.client.client import ClientAssociation, Route
from lnfast.node.config.address import Address
from lnfast.node.outbox.delivery import result_files, result_offers
from lnfast.node.transport import contexts
from lnfast.report.dicom.objects import render_dicom

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
# Every transfer syntax that there is for images and documents, with those that nobody uses any more.
SYNTAXES = [f"1.2.840.10008.1.2{tail}" for tail in ("", ".1", ".1.99", ".2", ".5", ".6.1", ".6.2")] + [
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 100, 102, 106, 201, 202, 203)
]


def rows(name: str) -> list[list[str]]:
    """The rows of a table of the page, without its head and the marks of code."""
    match = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- table: end -->", PAGE, re.DOTALL)
    assert match is not None
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in match[1].splitlines()[2:]]


def test_the_page_has_every_table_as_the_code_has_it() -> None:
    assert conformance.fill(PAGE) == PAGE, "python docs/make_conformance.py"
    assert sorted(re.findall(r"<!-- table: (\w+) -->", PAGE)) == sorted([*conformance.tables()] + ["end"] * 11)


@pytest.mark.parametrize("others", ["drop", "refuse"])
def test_a_real_association_gets_the_contexts_of_the_page_and_no_other(tmp_path: Path, others: str) -> None:
    """pynetdicom proposes every storage class that it knows, and some services, in every transfer syntax alone."""
    classes = [str(context.abstract_syntax) for context in StoragePresentationContexts]
    classes += ["1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1", "1.2.3.4"]
    classes += [row[1] for row in rows("accepted") if row[1] not in classes]
    proposed = [(sop_class, syntax) for sop_class in classes for syntax in SYNTAXES]
    accepted: set[tuple[str, str]] = set()
    with running_receiver(tmp_path, others=others) as node:
        for start in range(0, len(proposed), 128):
            ae = AE("MR1")
            ae.requested_contexts = [build_context(*each) for each in proposed[start : start + 128]]
            association = ae.associate(LOOPBACK, node.port, ae_title="LNFAST")
            accepted |= {
                (str(each.abstract_syntax), str(each.transfer_syntax[0])) for each in association.accepted_contexts
            }
            if association.is_established:
                association.release()
            version = association.acceptor.implementation_version_name
    named = dict(rows("syntaxes"))
    expected = set()
    for name, sop_class, syntaxes, what in rows("accepted"):
        if others == "drop" or "not kept" not in what:
            names = named if syntaxes == "all below" else syntaxes.split(", ")
            expected |= {(sop_class, named[name]) for name in names}
    assert accepted == expected
    assert version == contexts.implementation_version()


def test_a_target_is_offered_the_contexts_of_the_page_in_one_association(tmp_path: Path, shared_data: Path) -> None:
    """A result is made and sent to pynetdicom, which notes what is proposed."""
    study = lnfast.read_study(shared_data.parent / "dicom" / "data" / "prostatex-0000")
    labels = labels_of(study)
    report = report_of_study(study, labels)
    for name, data in render_dicom(study, labels, report).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "report.json").write_text('{"nodes": [1]}')
    files = result_files(tmp_path, ("seg", "sr"))
    seen: list[tuple[str, list[str]]] = []

    def note(event: evt.Event) -> None:
        proposed = event.assoc.requestor.requested_contexts
        seen.extend((str(each.abstract_syntax), [str(syntax) for syntax in each.transfer_syntax]) for each in proposed)

    ae = AE("PACS")
    for context in contexts.OFFERED:
        ae.add_supported_context(context.sop_class.uid, [syntax.uid for syntax in context.syntaxes])
    handlers = [(evt.EVT_REQUESTED, note), (evt.EVT_C_STORE, lambda event: 0x0000)]
    server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=handlers)
    try:
        route = Route(Address("PACS", LOOPBACK, server.server_address[1]), "LNFAST")
        with ClientAssociation(route, result_offers(files)) as association:
            assert not association.rejected
            for file in files:
                assert association.store(file).problem is None
    finally:
        server.shutdown()
    named = dict(rows("syntaxes"))
    storage = [
        (uid, [named[syntax]])
        for name, uid, syntaxes, _ in rows("offered")
        for syntax in syntaxes.split(", ")
        if name != "Verification"
    ]
    assert sorted(seen) == sorted(storage)
    assert all(role == "SCU" for *_, role in rows("offered"))


def test_every_key_of_the_configuration_that_the_page_names_exists() -> None:
    example = (ROOT / "lnfast" / "node" / "config" / "node.toml").read_text(encoding="utf-8")
    tables = {"node", "receive", "target", "keep", "tls"}
    named = re.findall(r"`\[+(\w+)\]+ ([\w ]+?)(?: =[^`]*)?`", PAGE)
    assert {table for table, _ in named} <= tables and len(named) > 10
    for _, keys in named:
        for key in keys.split():
            assert re.search(rf"^(?:# )?{key} = ", example, re.MULTILINE), key
