"""The tables of SOP classes and transfer syntaxes, and what is negotiated by them."""

from __future__ import annotations

import pytest
from pydicom.uid import UID
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ
from receivers import MR, VERIFICATION, request_pdu

from lnfast.node.transport import acceptor_pdu as pdu
from lnfast.node.transport import contexts
from lnfast.node.transport import pdu as upper_layer
from lnfast.study.dicom.frames import SOP_CLASSES
from lnfast.study.dicom.full import SYNTAXES

EXPLICIT, IMPLICIT, JPEG_2000 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"
ALL = contexts.accepted("drop")


def test_every_uid_has_the_name_that_the_standard_gives_it() -> None:
    for context in (*ALL, *contexts.OFFERED):
        assert UID(context.sop_class.uid).name.removesuffix(" SOP Class") == context.sop_class.name
        for syntax in context.syntaxes:
            assert UID(syntax.uid).name == syntax.name


def test_what_is_kept_is_what_is_read() -> None:
    assert tuple(sop_class.uid for sop_class in contexts.KEPT) == SOP_CLASSES
    for context in ALL:
        assert {syntax.uid for syntax in context.syntaxes} <= SYNTAXES


def test_no_class_stands_twice_and_a_refusing_receiver_takes_no_other_than_images() -> None:
    assert len({context.sop_class.uid for context in ALL}) == len(ALL)
    assert [context.sop_class for context in contexts.accepted("refuse")] == [contexts.VERIFICATION, *contexts.KEPT]


def test_no_accepted_syntax_is_deflated_big_endian_or_lossy() -> None:
    for context in ALL:
        for syntax in (UID(syntax.uid) for syntax in context.syntaxes):
            assert syntax.is_little_endian and not syntax.is_deflated and "Lossy" not in syntax.name


def test_our_preferred_syntax_is_chosen_whatever_order_the_peer_has() -> None:
    request = read([(MR, [JPEG_2000, IMPLICIT, EXPLICIT]), (MR, [JPEG_2000, IMPLICIT]), (MR, [JPEG_2000])])
    assert pdu.negotiate(request, ALL) == {1: (MR, EXPLICIT), 3: (MR, IMPLICIT), 5: (MR, JPEG_2000)}


def test_pynetdicom_reads_the_acceptance() -> None:
    proposed = [(VERIFICATION, [IMPLICIT]), (MR, ["1.2.840.10008.1.2.2"]), ("1.2.3", [EXPLICIT]), (MR, [EXPLICIT])]
    request = read(proposed, called="LNFAST", calling="MR 1")
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu.acceptance(request, pdu.negotiate(request, ALL), ALL))
    primitive = answer.to_primitive()
    results = primitive.presentation_context_definition_results_list
    assert [(context.context_id, context.result) for context in results] == [(1, 0), (3, 4), (5, 3), (7, 0)]
    assert [str(context.transfer_syntax[0]) for context in results if not context.result] == [IMPLICIT, EXPLICIT]
    assert (primitive.called_ae_title, primitive.calling_ae_title) == ("LNFAST", "MR 1")
    assert primitive.maximum_length_received == contexts.MOST_PDU_BYTES
    assert primitive.implementation_class_uid == contexts.IMPLEMENTATION_CLASS_UID
    version = contexts.implementation_version()
    names = [getattr(item, "implementation_version_name", None) for item in primitive.user_information]
    assert names == [None, None, version]
    assert len(version) <= 16 and version.startswith("LNFAST ")


@pytest.mark.parametrize(
    "why",
    [
        pdu.VERSION_REJECTED,
        pdu.APPLICATION_CONTEXT_REJECTED,
        pdu.CALLING_AE_TITLE_REJECTED,
        pdu.CALLED_AE_TITLE_REJECTED,
        pdu.TOO_MANY_REJECTED,
    ],
)
def test_pynetdicom_reads_the_rejections(why: pdu.Rejection) -> None:
    answer = A_ASSOCIATE_RJ()
    answer.decode(pdu.rejection(why))
    assert (answer.result, answer.source, answer.reason_diagnostic) == why[:3]
    assert "reserved" not in answer.reason_str.lower()


@pytest.mark.parametrize("reason", [*upper_layer.AbortReason, None])
def test_pynetdicom_reads_the_aborts(reason: upper_layer.AbortReason | None) -> None:
    answer = A_ABORT_RQ()
    answer.decode(upper_layer.abort(reason))
    assert (answer.source, answer.reason_diagnostic) == ((0, 0) if reason is None else (2, reason))


def test_a_request_is_read_as_pynetdicom_wrote_it() -> None:
    request = read([(MR, [EXPLICIT, IMPLICIT]), (VERIFICATION, [IMPLICIT])], called="LNFAST", calling="A" * 16)
    assert request == pdu.AssociateRequest(
        version=1,
        called="LNFAST",
        calling="A" * 16,
        application_context=contexts.APPLICATION_CONTEXT,
        proposals=(pdu.Proposal(1, MR, (EXPLICIT, IMPLICIT)), pdu.Proposal(3, VERIFICATION, (IMPLICIT,))),
        max_length=16384,
    )


def test_a_request_of_128_contexts_is_read() -> None:
    request = read([(MR, [EXPLICIT, IMPLICIT, JPEG_2000])] * 128)
    assert len(pdu.negotiate(request, ALL)) == 128


def read(proposed: list[tuple[str, list[str]]], **titles: str) -> pdu.AssociateRequest:
    """A request that pynetdicom wrote."""
    return pdu.read_request(request_pdu(proposed, **titles)[6:])
