"""Each PDU and command set that a sender writes or reads, against pynetdicom's; and mutations of every answer."""

from __future__ import annotations

import random
from io import BytesIO

import pytest
from instance_files import EXPLICIT, IMPLICIT, MR, REPORT, SEGMENTATION
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from lnfast.node.transport import messages, pdu
from lnfast.node.transport.contexts import IMPLEMENTATION_CLASS_UID, implementation_version
from lnfast.node.transport.requestor_pdu import (
    MAX_LENGTH,
    Offer,
    associate_request,
    read_acceptance,
    read_rejection,
    release_request,
)

OFFERS = (Offer(SEGMENTATION, EXPLICIT), Offer(REPORT, EXPLICIT), Offer(MR, IMPLICIT))


def acceptance(max_length: int = 16384) -> bytes:
    """An A-ASSOCIATE-AC by pynetdicom: the first and the last context are accepted, the second is not."""
    answer = A_ASSOCIATE()
    answer.application_context_name = "1.2.840.10008.3.1.1.1"
    answer.calling_ae_title, answer.called_ae_title = "LNFAST", "PACS"
    answer.result, answer.result_source = 0, 1
    results = []
    for index, (offer, result) in enumerate(zip(OFFERS, (0, 3, 0), strict=True)):
        context = build_context(offer.sop_class, offer.syntax)
        context.context_id, context.result = 2 * index + 1, result
        results.append(context)
    answer.presentation_context_definition_results_list = results
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = max_length, "1.2.3"
    answer.user_information = [length, implementation]
    made = A_ASSOCIATE_AC()
    made.from_primitive(answer)
    return bytes(made.encode())


def stored(status: int = 0xB007) -> bytes:
    """The command set of a C-STORE-RSP by pynetdicom."""
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status = 7, status
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = MR, "1.2.3.4"
    message = C_STORE_RSP()
    message.primitive_to_message(answer)
    (data,) = message.encode_msg(1, 16384)
    return bytes(data.presentation_data_value_list[0][1][1:])


def test_pynetdicom_reads_the_request_for_an_association() -> None:
    request = A_ASSOCIATE_RQ()
    request.decode(associate_request("PACS", "A" * 16, OFFERS))
    asked = request.to_primitive()
    assert (asked.called_ae_title, asked.calling_ae_title) == ("PACS", "A" * 16)
    assert asked.application_context_name == "1.2.840.10008.3.1.1.1"
    contexts = asked.presentation_context_definition_list
    assert [(each.context_id, each.abstract_syntax, each.transfer_syntax) for each in contexts] == [
        (2 * index + 1, offer.sop_class, [offer.syntax]) for index, offer in enumerate(OFFERS)
    ]
    length, implementation, version = asked.user_information
    assert length.maximum_length_received == MAX_LENGTH
    assert implementation.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert version.implementation_version_name == implementation_version()


@pytest.mark.parametrize("max_length", [0, 8, 16384, 0xFFFFFFFF])
def test_an_acceptance_of_pynetdicom_is_read(max_length: int) -> None:
    accepted = read_acceptance(acceptance(max_length)[6:])
    assert accepted.syntaxes == {1: EXPLICIT, 5: IMPLICIT}
    assert accepted.max_length == max_length


def test_a_rejection_and_a_release_are_those_of_pynetdicom() -> None:
    rejection = A_ASSOCIATE_RJ()
    rejection.result, rejection.source, rejection.reason_diagnostic = 1, 2, 2
    assert read_rejection(bytes(rejection.encode())[6:]) == (1, 2, 2)
    assert release_request() == bytes(A_RELEASE_RQ().encode())


def test_pynetdicom_reads_the_requests_of_dimse() -> None:
    command = decode(BytesIO(messages.store_request(7, MR, "1.2.3.45")), True, True)
    assert command.CommandGroupLength == len(messages.store_request(7, MR, "1.2.3.45")) - 12
    assert (command.CommandField, command.MessageID, command.Priority) == (1, 7, 0)
    assert (command.AffectedSOPClassUID, command.AffectedSOPInstanceUID) == (MR, "1.2.3.45")
    assert command.CommandDataSetType != 0x0101
    command = decode(BytesIO(messages.echo_request(8)), True, True)
    assert (command.CommandField, command.MessageID, command.CommandDataSetType) == (0x30, 8, 0x0101)
    assert command.AffectedSOPClassUID == "1.2.840.10008.1.1"


def test_pynetdicom_reads_the_fragments_of_a_data_set() -> None:
    data = P_DATA_TF()
    data.decode(messages.data_pdu(5, b"abcd", last=False))
    (fragment,) = data.to_primitive().presentation_data_value_list
    assert fragment == (5, b"\0abcd")
    data.decode(messages.data_pdu(5, b"abcd", last=True))
    assert data.to_primitive().presentation_data_value_list[-1] == (5, b"\2abcd")


@pytest.mark.parametrize("max_length", [0, 8, 9, 4096, 16384, 16385, 131072, 0xFFFFFFFF])
def test_fragments_are_even_and_fit(max_length: int) -> None:
    size = messages.fragment_size(max_length)
    assert size % 2 == 0 and size >= 2
    whole = len(messages.data_pdu(1, bytes(size), last=True)) - 6
    assert whole <= 128 * 1024 and (not max_length or whole <= max_length)


def test_a_response_of_pynetdicom_is_read() -> None:
    assert messages.read_response(stored()) == messages.Response(0x8001, 7, 0xB007)


def test_no_mutation_of_an_answer_raises_anything_but_a_violation() -> None:
    rng = random.Random(0)
    readers = ((read_acceptance, acceptance()[6:]), (messages.read_response, stored()), (read_rejection, b"\0\1\1\1"))
    violations = 0
    for _ in range(20_000):
        read, original = rng.choice(readers)
        data = bytearray(original)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        data = data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data
        try:
            read(bytes(data))  # type: ignore[operator]
        except pdu.ViolationError:
            violations += 1
    assert violations > 1000
